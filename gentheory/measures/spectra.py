"""Spectra of the Hessian or of the GGN at the trained parameters, weight decay included."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory import linalg
from gentheory.bases import eigenbases
from gentheory.checkpoint import Checkpoint
from gentheory.curvature import ggn, hessian
from gentheory.curvature.blocks import block_tops, block_traces, sum_in
from gentheory.curvature.classes import beside_class_means, class_extremes, class_means
from gentheory.curvature.residual import residual_curvature
from gentheory.errors import InputError, check_at_least
from gentheory.estimate import Estimate
from gentheory.factors.traces import ggn_traces
from gentheory.left_out import sample_space
from gentheory.risk import EmpiricalRisk

__all__ = [
    "bottom",
    "by_class",
    "by_layer",
    "density",
    "effective_dimension",
    "outliers",
    "top",
    "trace",
    "trace_hutch_pp",
    "trace_xtrace",
]

Matrix = Literal["hessian", "ggn"]


def top(
    checkpoint: Checkpoint,
    *,
    k: int = 1,
    curvature: Matrix = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    max_memory: int | None = None,
    generator: Generator,
) -> Estimate:
    """Largest eigenvalue, Lanczos with full reorthogonalization; `stats` holds the k largest.

    `stderr` is the residual |Hx − λx|: an eigenvalue lies that near. A deterministic bound, it
    covers neither the data nor the chance that the random start misses a larger one, of which
    `stats["missed"]` is a bound. A warning where a residual stays above rtol · |λ|max after
    `max_steps` products. Where the basis would exceed `max_memory` bytes it is restarted.

    Cost: tens of products, and as many vectors of size P.
    Source: Lanczos 1950; Wu & Simon 2000; Ghorbani, Krishnan & Xiao 2019.
    """
    _check_steps("spectra.top", k, max_steps)
    operator = _operator(checkpoint.risk, curvature)
    found = linalg.largest(
        operator, k, rtol=rtol, max_steps=max_steps, max_memory=max_memory, generator=generator
    )
    return _outermost(found, curvature, rtol, max_steps)


def bottom(
    checkpoint: Checkpoint,
    *,
    k: int = 1,
    curvature: Matrix = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    max_memory: int | None = None,
    generator: Generator,
) -> Estimate:
    """Smallest eigenvalue, with its sign, by Lanczos; `stats` holds the k smallest.

    All else, `stderr` included, as in `spectra.top`.

    Cost: tens of products, and as many vectors of size P.
    Source: Lanczos 1950; Alain, Le Roux & Manzagol 2019.
    """
    _check_steps("spectra.bottom", k, max_steps)
    operator = _operator(checkpoint.risk, curvature)
    found = linalg.smallest(
        operator, k, rtol=rtol, max_steps=max_steps, max_memory=max_memory, generator=generator
    )
    return _outermost(found, curvature, rtol, max_steps)


def trace(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 16,
    generator: Generator,
) -> Estimate:
    """Trace: the GGN's exactly from ghost norms, plus Hutchinson, layer by layer, on the rest.

    The rest, Hessian minus GGN, fades as the data are fitted. Within a layer that the net is
    piecewise linear in, it is zero, and noticed to be: ReLU nets come out exact. `stderr` covers
    the draw of the probes; it is 0 for the GGN, which has no use for `num_probes`.

    Cost: one backward pass per output; a product per layer, num_probes where it is not linear.
    Source: Hutchinson 1989; ghost norms: Goodfellow 2015.
    """
    check_at_least("spectra.trace.num_probes", num_probes, 2)
    samples = _layer_traces(checkpoint.risk, curvature, num_probes, generator)
    return Estimate.from_samples(samples.sum(1), curvature=curvature)


def trace_hutch_pp(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_products: int = 96,
    generator: Generator,
) -> Estimate:
    """Trace by Hutch++: exact on a sketched range, Hutchinson on the rest.

    `stderr` covers the probes of the rest only, given the sketch; 0 where the sketch is as large
    as the operator.

    Cost: num_products products, a third as many vectors of size P.
    Source: Meyer, Musco, Musco & Woodruff 2021.
    """
    operator = _operator(checkpoint.risk, curvature)
    found = linalg.hutch_pp(operator, num_products=num_products, generator=generator)
    return replace(found, stats={**found.stats, "curvature": curvature})


def trace_xtrace(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_products: int = 96,
    generator: Generator,
) -> Estimate:
    """Trace by XTrace: Hutch++ with each vector left out in turn.

    `stderr` covers the vectors: √2 of the paper's own error estimate, which takes the exchangeable
    estimates as independent; 0 where the vectors span the space.

    Cost: num_products products, half as many vectors of size P.
    Source: Epperly, Tropp & Webber 2024.
    """
    operator = _operator(checkpoint.risk, curvature)
    found = linalg.xtrace(operator, num_products=num_products, generator=generator)
    return replace(found, stats={**found.stats, "curvature": curvature})


def density(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 8,
    num_steps: int = 40,
    width: float | None = None,
    max_memory: int | None = None,
    generator: Generator,
) -> Estimate:
    """Share of Σ|λ| that negative eigenvalues hold; `stats` has the spectral density with a band.

    By stochastic Lanczos quadrature: `grid`, `density` (total mass 1), its standard error over the
    probes `band`, the kernel's `width`, and each probe's `nodes` and `weights`. `stderr` covers
    the draw of the probes to first order, not the quadrature's own error, which falls with
    `num_steps`. Fewer probes are advanced at once where their bases exceed `max_memory` bytes.

    Cost: num_probes × num_steps products in blocks of num_probes.
    Source: Lin, Saad & Yang 2016; Ghorbani, Krishnan & Xiao 2019.
    """
    check_at_least("spectra.density.num_probes", num_probes, 2)
    sizes = {"num_probes": num_probes, "num_steps": num_steps}
    operator = _operator(checkpoint.risk, curvature)
    found = linalg.lanczos_quadrature(operator, **sizes, max_memory=max_memory, generator=generator)
    smooth = vars(found.density(width=width))
    return Estimate.from_ratio(
        found.traces(lambda e: e.clamp(max=0).abs()),
        found.traces(torch.abs),
        curvature=curvature,
        **{name: x.tolist() if torch.is_tensor(x) else x for name, x in smooth.items()},
    )


def effective_dimension(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "ggn",
    damping: float = 1e-3,
    absolute_damping: float | None = None,
    max_size: int = 1500,
    num_probes: int = 16,
    num_steps: int = 80,
    generator: Generator,
) -> Estimate:
    """Soft rank Σ |e| / (|e| + λ) of the curvature's eigenvalues e; λ relative to the largest |e|.

    `absolute_damping` overrides `damping`. It is TIC with the curvature for the covariance. Exact
    with `stderr` 0 where P, or for the GGN N · C, is at most `max_size`; else by stochastic
    Lanczos quadrature with `num_probes` and `num_steps`, and `stderr` covers the probes but not
    the quadrature's own error. Negative eigenvalues count by their size; `stats` has their share.

    Cost: an eigendecomposition, or num_probes × num_steps products.
    Source: MacKay 1992; Maddox, Benton & Wilson 2020; soft rank: Flatness After All, 2025.
    """
    if damping <= 0 and not absolute_damping:
        raise InputError("damping", str(damping), "more than 0", "raise it")
    operator = _operator(checkpoint.risk, curvature)
    spectrum = _exact_spectrum(checkpoint.risk, curvature, max_size)
    exact = spectrum is not None
    spectrum = spectrum or linalg.lanczos_quadrature(
        operator, num_probes=num_probes, num_steps=num_steps, generator=generator
    )
    scale = spectrum.nodes.abs().max().item()
    ridge = damping * scale if absolute_damping is None else absolute_damping
    mass = spectrum.traces(torch.abs).mean()
    found = Estimate.from_samples(
        spectrum.traces(lambda e: (e.abs() / (e.abs() + ridge)).where(e != 0, 0.0)),
        curvature=curvature,
        damping=ridge / scale if scale else 0.0,
        absolute_damping=ridge,
        largest_eigenvalue=scale,
        negative_mass=(spectrum.traces(lambda e: -e.clamp(max=0)).mean() / mass).item(),
    )
    return replace(found, stderr=0.0) if exact else found


def by_layer(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 16,
    rtol: float = 1e-3,
    generator: Generator,
) -> Estimate:
    """Largest layer's share of Σ_l |tr H_ll|; `stats` has each layer's trace and top eigenvalue.

    H_ll is the diagonal block of a layer, the module that owns the parameters; the weight decay
    counts. Traces as in `spectra.trace`: exact for the GGN, else with `num_probes`, whose draw is
    what `stderr` covers, to first order. Top eigenvalues by Lanczos to `rtol` of themselves.

    Cost: `spectra.trace`, and a Lanczos run of tens of products for each layer.
    Source: Sankar, Khasbage, Vigneswaran & Balasubramanian 2021.
    """
    check_at_least("spectra.by_layer.num_probes", num_probes, 2)
    risk, operator = checkpoint.risk, _operator(checkpoint.risk, curvature)
    samples = _layer_traces(risk, curvature, num_probes, generator)
    traces = samples.mean(0)
    sizes = samples * traces.sign()
    share = Estimate.from_ratio(sizes[:, traces.abs().argmax()], sizes.sum(1))
    parts = risk.layout.layers
    tops, residuals = block_tops(operator, parts.values(), rtol=rtol, generator=generator)
    stats = {
        "curvature": curvature,
        "layers": list(parts),
        "traces": traces.tolist(),
        "trace_stderrs": (samples.std(0) / len(samples) ** 0.5).tolist(),
        "top_eigenvalues": tops.tolist(),
        "residuals": residuals.tolist(),
    }
    return Estimate(share.value, share.stderr, stats=stats)


def by_class(
    checkpoint: Checkpoint,
    *,
    classes: list[int] | None = None,
    curvature: Matrix = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Estimate:
    """Largest |λ_min| / λ_max over the classes, of the curvature on each class's examples alone.

    A large ratio is a saddle for that class. Of all `classes` unless some are given; `stats` has
    both ends for each. `stderr` bounds what the residuals allow. Refused where there are none.

    Cost: a Lanczos run of tens of products for each class, on its examples.
    Source: Rangwani, Aithal, Mishra & Babu 2022, Escaping Saddle Points (class-wise Hessians).
    """
    _operator(checkpoint.risk, curvature)
    ends = class_extremes(
        checkpoint.risk, _OPERATORS[curvature], classes, rtol, max_steps, generator
    )
    ratios = ends.smallest.abs() / ends.largest
    worst = int(ratios.argmax())
    error = ends.residuals[worst] / ends.largest[worst].abs() * (1 + ratios[worst])
    return Estimate(
        ratios[worst].item(),
        error.item(),
        warnings=_unconverged(ends.converged, rtol, max_steps),
        stats={"curvature": curvature, **ends.table(), "ratios": ratios.tolist()},
    )


def outliers(
    checkpoint: Checkpoint,
    *,
    k: int | None = None,
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Estimate:
    """Share of the GGN's trace in its between-class part, whose rank is at most the classes'.

    With g_ik = J_iᵀ d_ik, Λ_i = Σ_k w_ik d_ik d_ikᵀ, the GGN is a second moment of the g_ik; the
    between-class part is that of their means over i in class c and k ≠ c. `stats` has its
    eigenvalues beside the `k` largest of the rest (as many as classes unless given), and the shares
    of k = c (`own`), of the (c, k) means around the class's (`cross`), and of the rest (`within`).
    No weight decay. `stderr` is 0: exact for the data handed in. Refused where targets are not
    classes.

    Cost: two backward passes per output, and a Lanczos run for the rest.
    Source: Papyan 2019, Three-Level Hierarchical Structure (class and cross-class means).
    """
    risk = checkpoint.risk
    means = class_means(risk, "spectra.outliers")
    total = float(sum(ggn_traces(risk).values()))
    between = means.spectrum()
    beside, count = beside_class_means(risk, means), k or len(means.classes)
    found = linalg.largest(beside, count, rtol=rtol, max_steps=max_steps, generator=generator)
    share = between.sum().item() / total
    shares = {"cross": means.cross / total, "own": means.own / total}
    stats = {
        "classes": means.classes,
        "between": between.tolist(),
        "rest": found.values.tolist(),
        **shares,
        "within": 1 - share - sum(shares.values()),
        "trace": total,
    }
    return Estimate(share, warnings=_unconverged(found.converged, rtol, max_steps), stats=stats)


_OPERATORS = {"hessian": hessian, "ggn": ggn}


def _operator(risk: EmpiricalRisk, curvature: Matrix) -> linalg.LinearOperator:
    if curvature not in _OPERATORS:
        raise InputError("curvature", repr(curvature), "'hessian' or 'ggn'", "choose one")
    return _OPERATORS[curvature](risk)


def _exact_spectrum(
    risk: EmpiricalRisk, curvature: Matrix, max_size: int
) -> linalg.Quadrature | None:
    """Every eigenvalue, from the smaller of two matrices; None where both are too large."""
    if risk.num_params <= max_size:
        values = eigenbases(risk, curvature, Generator())[0].values + risk.weight_decay
        weights = torch.full_like(values, 1 / risk.num_params)
        return linalg.Quadrature(values[None], weights[None], risk.num_params)
    if curvature == "ggn" and risk.num_examples * risk.num_outputs <= max_size:
        return sample_space(risk, max_size=max_size, place="spectra").spectrum()
    return None


def _layer_traces(
    risk: EmpiricalRisk, curvature: Matrix, num_probes: int, generator: Generator
) -> Float[Tensor, "K L"]:
    """Samples of each layer's trace; all the same where they are exact."""
    _operator(risk, curvature)
    parts, exact = risk.layout.layers.values(), ggn_traces(risk)
    fixed = [sum_in(risk.layout, exact, p) + risk.weight_decay * (p.stop - p.start) for p in parts]
    samples = torch.stack(fixed).expand(num_probes, -1)
    if curvature == "ggn":
        return samples
    rest = residual_curvature(risk)
    return samples + block_traces(rest, parts, num_probes=num_probes, generator=generator)


def _check_steps(place: str, k: int, max_steps: int) -> None:
    if k < 1:
        raise InputError(f"{place}.k", str(k), "at least 1", "give 1 or more")
    if max_steps < k:
        raise InputError(f"{place}.max_steps", str(max_steps), f"at least k = {k}", "give more")


def _outermost(
    found: linalg.Eigenpairs, curvature: Matrix, rtol: float, max_steps: int
) -> Estimate:
    stats = {
        "curvature": curvature,
        "eigenvalues": found.values.tolist(),
        "residuals": found.residuals.tolist(),
        "num_products": found.num_products,
        "missed": found.missed,
    }
    warnings = _unconverged(found.converged, rtol, max_steps)
    value, error = found.values[0].item(), found.residuals[0].item()
    return Estimate(value, error, warnings=warnings, stats=stats)


def _unconverged(converged: bool, rtol: float, max_steps: int) -> tuple[str, ...]:
    return () if converged else (f"not converged to {rtol:g} in {max_steps} steps",)
