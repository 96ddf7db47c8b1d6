"""Takeuchi information criterion: the predicted gap tr(H⁻¹ C) / n  (Takeuchi 1976).

H is the curvature of the risk at the trained parameters, C the second moment of the examples'
gradients; both include the risk's weight decay. The value is the predicted test loss minus
training loss for the n examples trained on (Thomas et al. 2020); `stats["raw_trace"]` is
tr(H⁻¹ C) itself. It rests on a minimum of the risk and on a curvature that is not singular:
`damping` is added to H, relative to its largest eigenvalue, and the value depends on it, so
`stats` holds the slope in its logarithm. `damping="training"` adds 1 / T instead, T the
learning-rate time: early stopping as ridge. With `truncated` the directions below the damping are
left out instead (Thomas et al. 2020), and so are those below rounding where there is no damping.
`Newton decrement` ḡᵀ(H + λ)⁻¹ḡ / 2 is what the training loss would still fall by: where it is
above the predicted gap, the parameters are too far from a minimum, and there is a warning.

Curvatures: "ggn" (default), "fisher" (targets expected under the model), "sampled_fisher" (one
target drawn per example), "hessian" (negative eigenvalues by their size, or none of them when
`truncated`: never a signed inverse). The risk may hold other examples than those trained on.
"""

import math
from dataclasses import replace

import torch
from torch import Generator

from gentheory.bases import eigenbases
from gentheory.checkpoint import Checkpoint
from gentheory.curvature import gradient_draws, hessian, operator_of
from gentheory.curvature.moments import check_size
from gentheory.errors import InputError, check_at_least
from gentheory.estimate import Estimate
from gentheory.factors.diagonal import diagonals, own_diagonals
from gentheory.factors.kronecker import eigenbasis
from gentheory.factors.preconditioner import Preconditioner, preconditioner_of
from gentheory.factors.traces import own_traces
from gentheory.left_out import (
    MAX_SIZE,
    Outputs,
    When,
    sample_space,
    without_example,
    without_example_at_the_end,
)
from gentheory.linalg import cg, hutchinson, largest, rademacher
from gentheory.middles import Curvature, middle_of
from gentheory.modes import Gap, Modes
from gentheory.predicted import (
    Damping,
    check_definite,
    estimate_of,
    predicted_gap,
    ridge_of,
    solved_gap,
)

__all__ = [
    "blocks",
    "diagonal",
    "ekfac",
    "exact",
    "kernel",
    "kfac",
    "leave_one_out",
    "left_out",
    "solve",
    "trace_ratio",
]

_RANK_PROBES = 4


def exact(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """tr((H + λI)⁻¹ C) / n by an eigendecomposition of H in float64.

    `stderr` is 0: the value is exact for the data handed in, and says nothing of their draw;
    nan for "sampled_fisher", whose draw of targets is not repeated. Refused above `max_params`.

    Cost: N · C · P² + P³ operations (N · P² for a net of linear layers, whose Hessian needs no
    products then), 6 P² numbers; other dampings of the same risk are free.
    Source: Takeuchi 1976; Thomas et al. 2020 (arXiv 1906.07774).
    """
    risk = checkpoint.risk
    check_size("tic.exact", risk.num_params, max_params)
    basis = eigenbases(risk, curvature, generator)[0]
    modes = basis.modes(risk, centred=centred)
    return predicted_gap(checkpoint, modes, curvature, damping, absolute_damping, truncated)


def blocks(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """`exact` with H cut down to its layers' diagonal blocks: Σ over layers of tr(H_l⁻¹ C_l) / n.

    A layer is a module with parameters of its own. `stderr` as in `exact`. Refused where a layer
    has more than `max_params`.

    Cost: N · C · Σ P_l² + Σ P_l³ operations for layers of P_l parameters.
    Source: TIC close to the NTK regime (arXiv 2602.23219).
    """
    risk = checkpoint.risk
    layers = list(risk.layout.layers.values())
    check_size("tic.blocks", max(layer.stop - layer.start for layer in layers), max_params)
    bases = eigenbases(risk, curvature, generator, blocks=layers)
    modes = Modes.joined([basis.modes(risk, centred=centred) for basis in bases])
    return predicted_gap(checkpoint, modes, curvature, damping, absolute_damping, truncated)


def kfac(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    generator: Generator,
) -> Estimate:
    """Σ over parameters of tr((A⊗S + λ)⁻¹ (A⊗S_C)) / n, Kronecker factors of H and of C.

    Weights and biases are blocks of their own; parameters outside linear and convolutional layers
    count by their diagonals. Exact for one example or one input, an approximation otherwise:
    `stderr` as in `exact`, it does not cover the approximation. "hessian" is refused.

    Cost: one forward and C + 1 backward passes, and D³ for layers of D inputs or outputs.
    Source: Martens & Grosse 2015 (arXiv 1503.05671) for H; the same factors for C.
    """
    risk = checkpoint.risk
    basis = eigenbasis(risk, curvature, generator)
    modes = basis.modes(risk, centred=centred)
    return predicted_gap(checkpoint, modes, curvature, damping, absolute_damping, truncated)


def ekfac(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    generator: Generator,
) -> Estimate:
    """Σ_k C_kk / (H_kk + λ) / n, both diagonals exact, in the eigenbasis of the Kronecker factors.

    `diagonal` in a basis that is nearly H's own. `stderr` as in `kfac`; "hessian" is refused.

    Cost: twice that of `kfac`.
    Source: George et al. 2018 (arXiv 1806.03884).
    """
    risk = checkpoint.risk
    state = generator.get_state()
    basis = eigenbasis(risk, curvature, generator)
    generator.set_state(state)  # the same targets
    found = diagonals(risk, middle_of(risk, curvature, generator), rotation=basis.rotation)
    modes = found.modes(risk, basis.coordinates(risk.theta.double()), centred=centred)
    return predicted_gap(checkpoint, modes, curvature, damping, absolute_damping, truncated)


def diagonal(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    generator: Generator,
) -> Estimate:
    """Σ_p C_pp / (H_pp + λ) / n, with the exact diagonals; λ is relative to the largest H_pp.

    `stderr` as in `exact`.

    Cost: one forward and C + 1 backward passes; for "hessian" P products beside.
    Source: TIC close to the NTK regime (arXiv 2602.23219).
    """
    risk = checkpoint.risk
    found = own_diagonals(risk, "ggn" if curvature == "hessian" else curvature, generator)
    if curvature == "hessian":
        own = hessian(risk).diagonal().double() - risk.weight_decay
        found = replace(found, curvature=own)
    modes = found.modes(risk, risk.theta, centred=centred)
    return predicted_gap(checkpoint, modes, curvature, damping, absolute_damping, truncated)


def trace_ratio(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    num_probes: int = 64,
    generator: Generator,
) -> Estimate:
    """tr C / tr H / n, a lower bound of the undamped diagonal; no inverse and no damping.

    Both traces come from ghost norms and are exact, `stderr` is 0; nan for "sampled_fisher". For
    "hessian" tr H is Hutchinson's with `num_probes`, and `stderr` covers their draw (to first
    order). Refused where tr H is not positive.

    Cost: one forward and C backward passes; for "hessian" num_probes products beside.
    Source: TIC close to the NTK regime (arXiv 2602.23219); Thomas et al. 2020.
    """
    risk = checkpoint.risk
    wanted = "ggn" if curvature == "hessian" else curvature
    found = own_traces(risk, wanted, generator)
    trace_h, trace_c = torch.stack(list(found.values())).sum(0).tolist()
    trace_h += risk.weight_decay * risk.num_params
    error = torch.nan if curvature == "sampled_fisher" else 0.0
    if curvature == "hessian":
        samples = hutchinson(hessian(risk), num_probes=num_probes, generator=generator)
        sampled = Estimate.from_samples(samples)
        trace_h, error = sampled.value, sampled.stderr
    if trace_h <= 0:
        raise InputError(
            "tic.trace_ratio",
            f"a curvature of trace {trace_h:.3g}",
            "a positive trace",
            'use curvature="ggn", which has no negative eigenvalues',
        )
    mean = risk.gradient().double()
    d = risk.weight_decay * risk.theta.double()
    trace_c += float(2 * mean @ d - d @ d - (mean @ mean if centred else 0.0))
    raw = trace_c / trace_h
    value = raw / checkpoint.num_training_examples
    return estimate_of(
        checkpoint,
        Gap(raw, math.nan, math.nan, float(mean @ mean) / (2 * trace_h)),
        stderr=abs(value) * error / trace_h,
        trace_curvature=trace_h,
        trace_covariance=trace_c,
        curvature=curvature,
        gradient_norm=mean.norm().item(),
    )


def kernel(
    checkpoint: Checkpoint,
    *,
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    truncated: bool = False,
    max_size: int = MAX_SIZE,
    generator: Generator,
) -> Estimate:
    """`exact` on the GGN in sample space, for nets with more parameters than N · C.

    The spectrum comes from the Gram matrix of the examples' output gradients by the push-through
    identity; what no mode reaches has the weight decay for a curvature. `stderr` as in `exact`.
    Refused where N · C is above `max_size`.

    Cost: (N · C)³ operations, 4 (N · C)² numbers, no Jacobian; other dampings are free.
    Source: Takeuchi 1976; the Gram matrix as in Novak et al. 2022 (arXiv 2206.08720).
    """
    risk = checkpoint.risk
    space = sample_space(risk, max_size=max_size, place="tic.kernel")
    modes = space.modes(centred=centred)
    return predicted_gap(checkpoint, modes, "ggn", damping, absolute_damping, truncated)


def solve(
    checkpoint: Checkpoint,
    *,
    curvature: Curvature = "ggn",
    centred: bool = False,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    num_probes: int = 16,
    rtol: float = 1e-4,
    max_steps: int = 500,
    preconditioner: Preconditioner = "nystrom",
    generator: Generator,
) -> Estimate:
    """`exact` without a matrix: mean of uᵀ(H + λ)⁻¹u / n over random sums u of the gradients.

    u = Σ_i ±g_i / √N has the second moment C, and in the space of examples its quadratic form has
    the least variance that random signs can have. The systems are solved as one block by
    preconditioned conjugate gradients to the relative residual `rtol`; a warning where `max_steps`
    do not suffice. `stderr` covers the draw of the signs. `stats["effective_rank"]` comes from
    probes of its own, with its standard error. "hessian" is refused, and no damping at all.

    Cost: one GGN product of a block of num_probes + 5 vectors a step; no P².
    Source: Hutchinson 1989; Martens & Grosse 2015 and Frangella et al. 2023 for preconditioning.
    """
    risk = checkpoint.risk
    check_at_least("tic.solve.num_probes", num_probes, 2)
    check_definite(risk, curvature, damping if absolute_damping is None else absolute_damping)
    operator = operator_of(risk, curvature, generator)
    top = largest(operator, 1, rtol=0.01, generator=generator).values[0].item()
    ridge = ridge_of(checkpoint, top, damping, absolute_damping)
    draws = gradient_draws(risk, num_probes, centred=centred, generator=generator)
    mean = risk.gradient()
    rows = torch.cat([draws, rademacher(_RANK_PROBES, operator, generator), mean[None]])
    solved = cg(
        operator,
        rows,
        shift=ridge,
        preconditioner=preconditioner_of(risk, operator, preconditioner, ridge, generator),
        rtol=rtol,
        max_steps=max_steps,
    )
    gap, error, rank_error = solved_gap(risk, rows, solved.x, num_probes, ridge)
    unsolved = f"not solved to {rtol:g} in {max_steps} steps"
    drawn = curvature == "sampled_fisher"
    return estimate_of(
        checkpoint,
        gap,
        stderr=torch.nan if drawn else error / checkpoint.num_training_examples,
        warnings=() if solved.converged else (unsolved,),
        damping=ridge / top,
        absolute_damping=ridge,
        effective_rank_stderr=rank_error,
        negative_mass=0.0,
        largest_eigenvalue=top,
        curvature=curvature,
        gradient_norm=mean.double().norm().item(),
        steps=solved.num_steps,
        residual=solved.residuals.max().item(),
    )


def leave_one_out(
    checkpoint: Checkpoint,
    *,
    damping: Damping = 1e-3,
    absolute_damping: float | None = None,
    residuals: When = "final",
    curvature: When = "final",
    outputs: Outputs = "together",
    max_size: int = MAX_SIZE,
    generator: Generator,
) -> Estimate:
    """Approximate leave-one-out gap: mean loss of each example without it, less the loss with it.

    The outputs without example i are f_i + (I − A_i Λ_i)⁻¹ A_i r_i, A_i = J_i (G + λ)⁻¹ J_iᵀ / N:
    exact for ridge regression; its first-order term is TIC. "training" takes averages along it:
    of r_i, which vanishes where the data are interpolated; with outputs apart, of Λ_i.
    `outputs="apart"` leaves out what couples two outputs in J_i, G and Λ_i: C systems of N.

    G is the GGN with the risk's weight decay; N of n examples trained on stand for all in G, and
    A_i r_i counts by 1 / n. `stderr` is 0. In the space of parameters or of samples, whichever is
    smaller; refused where both exceed `max_size`, and for time or residuals that were not kept.

    Cost: as `exact` or as `kernel`, whichever is less; C · N³ operations with outputs apart.
    Source: Rad & Maleki 2020 (arXiv 1801.10243); Bachmann et al. 2022 (arXiv 2203.03443).
    """
    return without_example_at_the_end(
        checkpoint,
        damping=damping,
        absolute_damping=absolute_damping,
        residuals=residuals,
        curvature=curvature,
        outputs=outputs,
        max_size=max_size,
    ).estimate(checkpoint, residuals=residuals)


def left_out(
    checkpoint: Checkpoint,
    *,
    max_examples: int = 1000,
    max_params: int = 5000,
    generator: Generator,
) -> Estimate:
    """Leave-one-out gap of the way training went: `leave_one_out` followed through time.

    The displacement d_i by which example i moved the parameters follows the linear flow
    d' = −(G₋ᵢ + weight decay) d + Jᵢᵀ r_i / n in learning-rate time; one implicit Euler step for
    each window of the trajectory that training kept, with the window's mean residuals and mean
    curvature, and the Jacobians at its end. One window is `leave_one_out` with damping and
    residuals "training", but for a curvature of the same time as the residuals.

    `stderr` covers the choice of the m examples left out where there are more than
    `max_examples`; 0 where there are not. Refused above `max_params`, and for a checkpoint
    without a trajectory.

    Cost: for each of 3 windows N · C · P² operations and 2 m · C · P + 2 P² numbers.
    Source: this package; Rad & Maleki 2020 (arXiv 1801.10243) in the limit of one window.
    """
    found = without_example(
        checkpoint, max_examples=max_examples, max_params=max_params, generator=generator
    )
    return found.estimate(checkpoint)
