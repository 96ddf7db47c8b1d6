"""The outputs that the model would have for each example had it not been trained on it.

With A_i = J_i (G + λ)⁻¹ J_iᵀ / N they are f_i + (I − A_i Λ_i)⁻¹ A_i r_i, Λ_i and r_i the Hessian
and the gradient of the loss in the outputs: exact for ridge regression (Rad & Maleki 2020).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.bases import eigenbases
from gentheory.checkpoint import Checkpoint
from gentheory.curvature.moments import check_size, jacobian, jacobians
from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.examples import Examples
from gentheory.factors.layered import layers_of, outputs_along
from gentheory.factors.sample_space import OutputsApart, SampleSpace
from gentheory.losses import Loss
from gentheory.middles import roots
from gentheory.modes import OutputModes
from gentheory.predicted import Damping, ridge_of, sizes
from gentheory.risk import EmpiricalRisk
from gentheory.trajectory import Trajectory

Outputs = Literal["together", "apart"]
When = Literal["final", "training"]
MAX_SIZE = 6000
"""Largest matrix that is decomposed: 6 of it take 1.7 GiB."""


def output_modes(risk: EmpiricalRisk, *, max_size: int = MAX_SIZE) -> OutputModes:
    """In the space of parameters or of samples, whichever is smaller; computed once a risk.

    Raises `InputError` where both are above `max_size`.
    """
    if risk.num_params <= min(max_size, risk.num_examples * risk.num_outputs):
        return risk.once("output modes", lambda: _by_parameters(risk))
    return sample_space(risk, max_size=max_size, place="tic.leave_one_out").output_modes


def sample_space(risk: EmpiricalRisk, *, max_size: int, place: str) -> SampleSpace:
    """The sample space, computed once a risk, unless its Gram matrix is too large."""
    size = risk.num_examples * risk.num_outputs
    if size > max_size:
        raise InputError(
            place,
            f"{risk.num_examples} examples × {risk.num_outputs} outputs, "
            f"which take {4 * 8 * size**2 / 2**30:.1f} GiB",
            f"at most max_size = {max_size} of them",
            "use tic.diagonal, tic.kfac or tic.solve, fewer examples, or raise max_size",
        )
    return risk.once("sample space", lambda: SampleSpace.of(risk))


def _by_parameters(risk: EmpiricalRisk) -> OutputModes:
    basis = eigenbases(risk, "ggn", Generator())[0]
    layers = layers_of(risk)
    if layers is None:
        modes = torch.cat([rows.double() @ basis.vectors for rows, _, _ in jacobians(risk)])
    else:
        modes = outputs_along(risk, layers, basis.vectors)
    return OutputModes(basis.values.clamp(min=0), modes)


def _chosen_residuals(
    checkpoint: Checkpoint, examples: Examples, residuals: When
) -> Float[Tensor, "N C"]:
    """Those at the end, or the mean over training."""
    if residuals == "final":
        return examples.residuals
    return _kept_trajectory(checkpoint).mean_residuals.to(examples.residuals)


def _chosen_middles(
    checkpoint: Checkpoint, examples: Examples, curvature: When, outputs: Outputs
) -> Float[Tensor, "N C C"]:
    """Those at the end, or about their mean over training; without what couples two outputs."""
    if outputs == "together":
        if curvature == "training":
            cure = 'use outputs="apart", or tic.left_out'
            raise InputError("curvature", "'training' with outputs together", "'final'", cure)
        return examples.middles
    found = examples.middles
    if curvature == "training":
        kept, like = _kept_trajectory(checkpoint), examples.residuals
        means = kept.mean_residuals.to(like), kept.mean_traces.to(like)
        found = checkpoint.risk.loss.mean_hessian(*means, examples.outputs, examples.targets)
    return torch.diag_embed(found.diagonal(dim1=1, dim2=2))


def _share(checkpoint: Checkpoint) -> float:
    """N / n: an example pulls at the parameters with the weight 1 / n, however many are seen.

    The curvature is a mean over the N examples of the risk, which stand for all n trained on.
    """
    return checkpoint.risk.num_examples / checkpoint.num_training_examples


def _kept_trajectory(checkpoint: Checkpoint) -> Trajectory:
    """What training kept. Raises `InputError` where it kept nothing for these examples."""
    kept, risk = checkpoint.trajectory, checkpoint.risk
    shape = (risk.num_examples, risk.num_outputs)
    if kept is None or kept.residuals.shape[-2:] != shape or not kept.windows():
        raise InputError(
            "checkpoint",
            "no trajectory of training on these examples",
            "one of the same examples in the same order",
            "train with keep_trajectory, or measure tic.leave_one_out of the final residuals",
        )
    return kept


@dataclass(frozen=True)
class LeftOut:
    """Outputs with and without training on the example itself; m examples."""

    targets: Tensor
    outputs: Float[Tensor, "m C"]
    shifts: Float[Tensor, "m C"]
    stats: dict[str, float]
    """`largest_leverage`: of A Λ over examples and windows."""

    def gaps(self, loss: Loss) -> Float[Tensor, " m"]:
        """What each example's loss rises by when it is left out."""
        before = loss.values(self.outputs, self.targets)
        return loss.values(self.outputs + self.shifts, self.targets) - before

    def estimate(self, checkpoint: Checkpoint, **stats: float | str) -> Estimate:
        """The mean gap; `stderr` covers the draw of the m examples, without replacement."""
        gaps, total = self.gaps(checkpoint.risk.loss), checkpoint.risk.num_examples
        top = gaps.sort().values[-max(1, len(gaps) // 20) :]
        unseen = 1 - len(gaps) / total
        return Estimate(
            gaps.mean().item(),
            (gaps.std() * (unseen / len(gaps)) ** 0.5).item() if unseen else 0.0,
            stats={
                "num_left_out": len(gaps),
                "median": gaps.median().item(),
                "share_of_top_5_percent": (top.sum() / gaps.sum()).item(),
                **self.stats,
                **stats,
                **sizes(checkpoint),
            },
        )


def without_example_at_the_end(
    checkpoint: Checkpoint,
    *,
    damping: Damping,
    absolute_damping: float | None,
    residuals: When,
    curvature: When,
    outputs: Outputs,
    max_size: int,
) -> LeftOut:
    """By the Jacobians at the trained parameters alone, with ridge."""
    risk = checkpoint.risk
    examples = Examples.of(risk)
    middles = _chosen_middles(checkpoint, examples, curvature, outputs)
    given = (damping, absolute_damping, max_size)
    if outputs == "together":
        a, ridge, top = _together(checkpoint, *given)
    else:
        a, ridge, top = _apart(checkpoint, curvature, middles, *given)
    r = _chosen_residuals(checkpoint, examples, residuals)
    direct = torch.einsum("ncd,nd->nc", a, r) * _share(checkpoint)
    eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    own = a @ middles
    plain = LeftOut(examples.targets, examples.outputs, direct, {}).gaps(risk.loss)
    stats = {
        **({} if top is None else {"damping": ridge / top}),
        "absolute_damping": ridge,
        "plain_shift": plain.mean().item(),
        "first_order": torch.einsum("nc,nc->n", r, direct).mean().item(),
        "largest_leverage": _largest_leverage(a, middles),
    }
    shifts = torch.linalg.solve(eye - own, direct)
    return LeftOut(examples.targets, examples.outputs, shifts, stats)


_Influence = tuple[Float[Tensor, "N C C"], float, float | None]
"""A_i, the ridge in it beside the weight decay, and the largest curvature where it is known."""


def _together(
    checkpoint: Checkpoint, damping: Damping, absolute_damping: float | None, max_size: int
) -> _Influence:
    risk = checkpoint.risk
    modes = output_modes(risk, max_size=max_size)
    # No eigenvalue is left where the loss does not bend in the outputs.
    top = modes.eigenvalues[-1:].sum().item() + risk.weight_decay
    ridge = ridge_of(checkpoint, top, damping, absolute_damping)
    return modes.influence(ridge + risk.weight_decay), ridge, top


def _apart(
    checkpoint: Checkpoint,
    curvature: When,
    middles: Float[Tensor, "N C C"],
    damping: Damping,
    absolute_damping: float | None,
    max_size: int,
) -> _Influence:
    risk, place = checkpoint.risk, "tic.leave_one_out"
    if risk.num_examples > max_size:
        found, cure = f"{risk.num_examples} examples", "use fewer examples, or raise max_size"
        raise InputError(place, found, f"at most max_size = {max_size} of them", cure)
    space = OutputsApart.of(risk, middles)
    relative = absolute_damping is None and damping != "training"
    top = space.largest + risk.weight_decay if relative else None
    ridge = ridge_of(checkpoint, math.nan if top is None else top, damping, absolute_damping)
    total = ridge + risk.weight_decay
    if total <= 0:
        cure = 'give a damping, or use outputs="together"'
        raise InputError(place, "no damping and no weight decay", "one of them", cure)
    key = ("influence of outputs apart", curvature, total)
    return torch.diag_embed(risk.once(key, lambda: space.influence(total))), ridge, top


def without_example(
    checkpoint: Checkpoint, *, max_examples: int, max_params: int, generator: Generator
) -> LeftOut:
    """Outputs without an example, by the linear flow of training without it, window by window.

    The parameters' displacement d_i follows d' = −(G₋ᵢ + weight decay) d + Jᵢᵀ r_i / n in
    learning-rate time, one implicit Euler step a window with the window's mean residuals and mean
    curvature and the Jacobians at its end, d ← (I + D (G₋ᵢ + weight decay))⁻¹ (d + D Jᵢᵀ r̄_i / n).
    One window alone is ridge with 1 / T.

    Of more than `max_examples` a random subset is left out, one by one; G is that of all.
    """
    risk, kept = checkpoint.risk, _kept_trajectory(checkpoint)
    check_size("tic.left_out", risk.num_params, max_params)
    drawn = torch.randperm(risk.num_examples, generator=generator)[:max_examples]
    chosen = drawn.sort().values.to(risk.device)
    displaced = torch.zeros(risk.num_params, len(chosen), dtype=torch.float64, device=risk.device)
    leverage = 0.0
    for window in kept.windows():
        step = _Step.of(risk, window, chosen)
        displaced, found = step.displaced(displaced)
        leverage = max(leverage, found)
    inputs, targets = (column[chosen] for column in risk.joined())
    with torch.no_grad():
        outputs = risk.outputs(risk.theta, inputs).double()
    displaced = displaced * _share(checkpoint)
    moved = torch.einsum("ncp,pn->nc", jacobian(risk, risk.theta, inputs).double(), displaced)
    wanted = targets.double() if targets.is_floating_point() else targets
    stats = {"largest_leverage": leverage, "num_windows": len(kept.windows())}
    return LeftOut(wanted, outputs, moved, stats)


@dataclass(frozen=True)
class _Step:
    """One window, for the m examples to be left out."""

    share: float
    """D / N."""
    matrix: Float[Tensor, "P P"]
    """K = I + D (G + weight decay), with all examples in G."""
    jacobian: Float[Tensor, "m C P"]
    middles: Float[Tensor, "m C C"]
    residuals: Float[Tensor, "m C"]

    @classmethod
    def of(cls, risk: EmpiricalRisk, window: Trajectory, chosen: Tensor) -> "_Step":
        """One pass of Jacobians at the window's end; those of the chosen examples are kept."""
        theta, time = window.parameters.to(risk.theta), float(window.time)
        matrix = torch.zeros(len(theta), len(theta), dtype=torch.float64, device=risk.device)
        kept: list[tuple[Tensor, ...]] = []
        start = 0
        for rows, outputs, (_, targets) in jacobians(risk, theta):
            own = slice(start, start + len(rows))
            start = own.stop
            residuals, rows = window.residuals[own].double(), rows.double()
            middles = risk.loss.mean_hessian(residuals, window.traces[own], outputs, targets)
            half = (roots(middles).mT @ rows).flatten(0, 1)
            matrix.addmm_(half.T, half)
            here = chosen[(chosen >= own.start) & (chosen < own.stop)] - own.start
            kept.append((rows[here], middles[here], residuals[here]))
        matrix *= time / risk.num_examples
        matrix.diagonal().add_(1 + time * risk.weight_decay)
        columns = (torch.cat(parts) for parts in zip(*kept, strict=True))
        return cls(time / risk.num_examples, matrix, *columns)

    def displaced(self, before: Float[Tensor, "P m"]) -> tuple[Float[Tensor, "P m"], float]:
        """The displacements after the window, and the largest leverage."""
        j, factor = self.jacobian, torch.linalg.cholesky(self.matrix)
        rows = torch.linalg.solve_triangular(factor, j.flatten(0, 1).T, upper=False)
        rows = rows.T.view_as(j)  # J_i K^-½
        # K holds the example itself; Woodbury's identity in the outputs' space takes it out.
        influence = self.share * rows @ rows.mT
        own = influence @ self.middles
        eye = torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
        seen = torch.einsum("ncp,pn->nc", j, torch.cholesky_solve(before, factor))
        driven = torch.einsum("ncd,nd->nc", influence, self.residuals)
        left = torch.linalg.solve(eye - own, seen + driven)
        forces = self.residuals + torch.einsum("ncd,nd->nc", self.middles, left)
        driven_by = self.share * torch.einsum("ncp,nc->pn", j, forces)
        after = torch.cholesky_solve(before + driven_by, factor)
        return after, _largest_leverage(influence, self.middles)


def _largest_leverage(influence: Float[Tensor, "N C C"], middles: Float[Tensor, "N C C"]) -> float:
    """Largest eigenvalue of A_i Λ_i over the examples, from a symmetric matrix with the same."""
    root = roots(middles)
    return float(torch.linalg.eigvalsh(root.mT @ influence @ root).max())
