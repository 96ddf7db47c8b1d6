"""The outputs that the model would have for each example had it not been trained on it.

With A_i = J_i (G + λ)⁻¹ J_iᵀ / N they are f_i + (I − A_i Λ_i)⁻¹ A_i r_i, Λ_i and r_i the Hessian
and the gradient of the loss in the outputs: exact for ridge regression (Rad & Maleki 2020).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.curvature.moments import eigenbases, jacobians
from gentheory.errors import InputError
from gentheory.examples import Examples
from gentheory.factors.sample_space import SampleSpace
from gentheory.modes import OutputModes
from gentheory.risk import EmpiricalRisk

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
    modes = [jacobian.double() @ basis.vectors for jacobian, _, _ in jacobians(risk)]
    return OutputModes(basis.values.clamp(min=0), torch.cat(modes))


def shifts(
    influence: Float[Tensor, "N C C"],
    middles: Float[Tensor, "N C C"],
    residuals: Float[Tensor, "N C"],
) -> Float[Tensor, "N C"]:
    """(I − A_i Λ_i)⁻¹ A_i r_i: how far the outputs move when their own example is left out."""
    direct = torch.einsum("ncd,nd->nc", influence, residuals)
    eye = torch.eye(influence.shape[1], dtype=influence.dtype, device=influence.device)
    return torch.linalg.solve(eye - influence @ middles, direct)


def chosen_residuals(
    checkpoint: Checkpoint, examples: Examples, residuals: Literal["final", "training"]
) -> Float[Tensor, "N C"]:
    if residuals == "final":
        return examples.residuals
    kept = checkpoint.mean_residuals
    if kept is None or kept.shape != examples.residuals.shape:
        raise InputError(
            "tic.leave_one_out",
            'residuals="training" on a checkpoint that kept none for these examples',
            "the mean residuals of the same examples in the same order",
            'train with keep_residuals, or use residuals="final"',
        )
    return kept.to(examples.residuals)
