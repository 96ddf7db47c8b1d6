"""Spectra of the curvature at the trained parameters, weight decay included.

`curvature` is "hessian" (default) or "ggn"; what needs a positive semidefinite matrix takes the
GGN alone. The GGN's traces are exact, from ghost norms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.curvature import ggn, hessian
from gentheory.curvature.blocks import block_traces, diagonal_block, layers, sum_in
from gentheory.curvature.classes import beside_class_means, class_means
from gentheory.curvature.classes import by_class as risks_by_class
from gentheory.curvature.residual import residual_curvature
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.factors.sample_space import SampleSpace
from gentheory.factors.traces import ggn_traces
from gentheory.linalg import (
    Eigenpairs,
    LinearOperator,
    Quadrature,
    dense_quadrature,
    extremes,
    hutch_pp,
    hutchinson,
    lanczos_quadrature,
    largest,
    smallest,
    xtrace,
)
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
    "trace_hutchinson",
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
    limits = _Limits("spectra.top", rtol, max_steps, max_memory)
    return _end(largest, checkpoint.risk, k, curvature, limits, generator)


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
    limits = _Limits("spectra.bottom", rtol, max_steps, max_memory)
    return _end(smallest, checkpoint.risk, k, curvature, limits, generator)


def trace(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 64,
    generator: Generator,
) -> Estimate:
    """Trace: the GGN's exactly from ghost norms, plus Hutchinson on what the Hessian has beside it.

    The residual part vanishes as the data are interpolated, and so does the variance. `stderr`
    covers the draw of the probes only; it is 0 for the GGN, which has no use for `num_probes`.

    Cost: one backward pass per output, and num_probes products for the Hessian.
    Source: Hutchinson 1989; ghost norms: Goodfellow 2015.
    """
    risk = checkpoint.risk
    _operator(risk, curvature)
    exact = float(sum(ggn_traces(risk).values())) + risk.weight_decay * risk.num_params
    if curvature == "ggn":
        return _finite(Estimate(exact, stats={"curvature": curvature, "trace_ggn": exact}))
    _at_least_two("spectra.trace.num_probes", num_probes)
    samples = hutchinson(residual_curvature(risk), num_probes=num_probes, generator=generator)
    return _finite(Estimate.from_samples(samples + exact, curvature=curvature, trace_ggn=exact))


def trace_hutchinson(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 64,
    generator: Generator,
) -> Estimate:
    """Trace by Hutchinson's estimator with Rademacher probes; `stderr` covers their draw only.

    Cost: num_probes products.
    Source: Hutchinson 1989.
    """
    _at_least_two("spectra.trace_hutchinson.num_probes", num_probes)
    operator = _operator(checkpoint.risk, curvature)
    samples = hutchinson(operator, num_probes=num_probes, generator=generator)
    return Estimate.from_samples(samples, curvature=curvature)


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
    found = hutch_pp(operator, num_products=num_products, generator=generator)
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
    found = xtrace(operator, num_products=num_products, generator=generator)
    return replace(found, stats={**found.stats, "curvature": curvature})


def density(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 8,
    num_steps: int = 60,
    width: float | None = None,
    max_memory: int | None = None,
    generator: Generator,
) -> Estimate:
    """Share of Σ|λ| that negative eigenvalues hold; `stats` has the spectral density with a band.

    By stochastic Lanczos quadrature: `grid`, `density` (total mass 1), its standard error over the
    probes `band`, the kernel's `width`, and each probe's `nodes` and `weights`. `stderr` covers
    the draw of the probes to first order, not the error of the quadrature, which falls with
    `num_steps`. Where the bases of all probes would exceed `max_memory` bytes, fewer are advanced
    at once.

    Cost: num_probes × num_steps products in blocks of num_probes.
    Source: Lin, Saad & Yang 2016; Ghorbani, Krishnan & Xiao 2019.
    """
    _at_least_two("spectra.density.num_probes", num_probes)
    _at_least_two("spectra.density.num_steps", num_steps)
    found = lanczos_quadrature(
        _operator(checkpoint.risk, curvature),
        num_probes=num_probes,
        num_steps=num_steps,
        max_memory=max_memory,
        generator=generator,
    )
    smooth = found.density(width=width)
    return Estimate.from_ratio(
        found.traces(lambda e: e.clamp(max=0).abs()),
        found.traces(torch.abs),
        curvature=curvature,
        width=smooth.width,
        grid=smooth.grid.tolist(),
        density=smooth.values.tolist(),
        band=smooth.stderr.tolist(),
        nodes=smooth.nodes.tolist(),
        weights=smooth.weights.tolist(),
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
    spectrum = _exact_spectrum(checkpoint.risk, operator, curvature, max_size)
    exact = spectrum is not None
    spectrum = spectrum or lanczos_quadrature(
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
    return _finite(replace(found, stderr=0.0) if exact else found)


def by_layer(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    num_probes: int = 64,
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
    _at_least_two("spectra.by_layer.num_probes", num_probes)
    risk, operator = checkpoint.risk, _operator(checkpoint.risk, curvature)
    samples = _layer_traces(risk, curvature, num_probes, generator)
    traces = samples.mean(0)
    sizes = samples * traces.sign()
    share = Estimate.from_ratio(sizes[:, traces.abs().argmax()], sizes.sum(1))
    tops = [
        largest(diagonal_block(operator, part), 1, rtol=rtol, generator=generator)
        for part in layers(risk.layout).values()
    ]
    return Estimate(
        share.value,
        0.0 if curvature == "ggn" else share.stderr,
        stats={
            "curvature": curvature,
            "layers": list(layers(risk.layout)),
            "traces": traces.tolist(),
            "trace_stderrs": (samples.std(0) / len(samples) ** 0.5).tolist(),
            "top_eigenvalues": [found.values[0].item() for found in tops],
            "residuals": [found.residuals[0].item() for found in tops],
        },
    )


def by_class(
    checkpoint: Checkpoint,
    *,
    curvature: Matrix = "hessian",
    rtol: float = 1e-4,
    max_steps: int = 300,
    generator: Generator,
) -> Estimate:
    """Largest |λ_min| / λ_max over the classes, of the curvature on each class's examples alone.

    The mean loss of a class's own examples is not at its minimum where the whole risk is: a large
    ratio is a saddle for that class, as seen in the tail of long-tailed data. `stats` has both
    ends for each class. `stderr` is what the residuals of the two allow, a deterministic bound.
    Refused where targets are not classes.

    Cost: a Lanczos run of tens of products for each class, on its examples.
    Source: Rangwani, Aithal, Mishra & Babu 2022, Escaping Saddle Points (class-wise Hessians).
    """
    risk = checkpoint.risk
    _operator(risk, curvature)
    ends = {
        label: extremes(
            _operator(part, curvature), rtol=rtol, max_steps=max_steps, generator=generator
        )
        for label, part in risks_by_class(risk, "spectra.by_class")
    }
    lows, highs = (torch.cat([pair[i].values for pair in ends.values()]) for i in (0, 1))
    errors = torch.cat([pair[1].residuals for pair in ends.values()])
    ratios = lows.abs() / highs
    worst = int(ratios.argmax())
    met = all(pair[i].converged for pair in ends.values() for i in (0, 1))
    return _finite(
        Estimate(
            ratios[worst].item(),
            (errors[worst] / highs[worst].abs() * (1 + ratios[worst])).item(),
            warnings=() if met else (_unconverged(rtol, max_steps),),
            stats={
                "curvature": curvature,
                "classes": list(ends),
                "smallest": lows.tolist(),
                "largest": highs.tolist(),
                "ratios": ratios.tolist(),
            },
        )
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
    between-class part is that of their class means over i in class c and k ≠ c. `stats` has its
    eigenvalues beside the `k` largest of the rest (as many as classes unless given) and the shares
    of the class's own k (`own`), of means around the class's mean (`cross`) and of what is left
    (`within`). Weight decay is left out. `stderr` is 0: exact for the data handed in. Refused where
    targets are not classes.

    Cost: two backward passes per output, and a Lanczos run for the rest.
    Source: Papyan 2019, Three-Level Hierarchical Structure (class and cross-class means).
    """
    risk = checkpoint.risk
    means = class_means(risk, "spectra.outliers")
    total = float(sum(ggn_traces(risk).values()))
    gram = means.weighted @ means.weighted.T
    found = largest(
        beside_class_means(risk, means),
        k or len(means.classes),
        rtol=rtol,
        max_steps=max_steps,
        generator=generator,
    )
    between = float(gram.trace())
    return _finite(
        Estimate(
            between / total,
            warnings=() if found.converged else (_unconverged(rtol, max_steps),),
            stats={
                "classes": means.classes,
                "between": torch.linalg.eigvalsh(gram).flip(0).tolist(),
                "rest": found.values.tolist(),
                "cross": means.cross / total,
                "own": means.own / total,
                "within": (total - between - means.cross - means.own) / total,
                "trace": total,
            },
        )
    )


def _operator(risk: EmpiricalRisk, curvature: Matrix) -> LinearOperator:
    operators = {"hessian": hessian, "ggn": ggn}
    if curvature not in operators:
        raise InputError("curvature", repr(curvature), "'hessian' or 'ggn'", "choose one")
    return operators[curvature](risk)


def _exact_spectrum(
    risk: EmpiricalRisk, operator: LinearOperator, curvature: Matrix, max_size: int
) -> Quadrature | None:
    """Every eigenvalue, from the smaller of two matrices; None where both are too large."""
    if operator.size <= max_size:
        return dense_quadrature(operator)
    outputs = risk.outputs(risk.theta, next(risk.batches())[0][:1]).shape[1]
    if curvature == "ggn" and risk.num_examples * outputs <= max_size:
        return SampleSpace.of(risk).spectrum()
    return None


def _layer_traces(
    risk: EmpiricalRisk, curvature: Matrix, num_probes: int, generator: Generator
) -> Float[Tensor, "K L"]:
    """Samples of each layer's trace; all the same where they are exact."""
    parts, exact = layers(risk.layout), ggn_traces(risk)
    ridge = [risk.weight_decay * (part.stop - part.start) for part in parts.values()]
    fixed = torch.stack([sum_in(risk.layout, exact, part) for part in parts.values()])
    fixed = fixed + torch.tensor(ridge).to(fixed)
    if curvature == "ggn":
        return fixed.expand(2, -1)
    operator = residual_curvature(risk)
    samples = block_traces(
        operator, list(parts.values()), num_probes=num_probes, generator=generator
    )
    return samples + fixed


@dataclass(frozen=True)
class _Limits:
    place: str
    rtol: float
    max_steps: int
    max_memory: int | None


def _end(
    find: Callable[..., Eigenpairs],
    risk: EmpiricalRisk,
    k: int,
    curvature: Matrix,
    limits: _Limits,
    generator: Generator,
) -> Estimate:
    """The outermost eigenvalue at one end."""
    if k < 1:
        raise InputError(f"{limits.place}.k", str(k), "at least 1", "give 1 or more")
    if limits.max_steps < k:
        found = str(limits.max_steps)
        raise InputError(f"{limits.place}.max_steps", found, f"at least k = {k}", "give more")
    given = {key: value for key, value in vars(limits).items() if key != "place"}
    pairs = find(_operator(risk, curvature), k, **given, generator=generator)
    return Estimate(
        pairs.values[0].item(),
        pairs.residuals[0].item(),
        warnings=() if pairs.converged else (_unconverged(limits.rtol, limits.max_steps),),
        stats={
            "curvature": curvature,
            "eigenvalues": pairs.values.tolist(),
            "residuals": pairs.residuals.tolist(),
            "num_products": pairs.num_products,
            "missed": pairs.missed,
        },
    )


def _unconverged(rtol: float, max_steps: int) -> str:
    return f"not converged to {rtol:g} in {max_steps} steps"


def _finite(estimate: Estimate) -> Estimate:
    if not math.isfinite(estimate.value):
        raise FloatingPointError(f"the curvature came out as {estimate.value}")
    return estimate


def _at_least_two(place: str, count: int) -> None:
    if count < 2:
        raise InputError(place, str(count), "at least 2", "give more")
