"""BatchNorm away from the trained parameters: with statistics of the examples as they are there."""

import copy
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.errors import InputError
from gentheory.parameter_sets import outputs_at
from gentheory.risk import EmpiricalRisk

Policy = Literal["keep", "reestimate"]
"""The running statistics that training left; or, at each parameter vector, those of all examples
of the risk there."""

MAX_MEMORY = 2**31
"""Bytes that the widest layers may hold of all examples, which go through the net together."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_HELD = 3
"""Layers' outputs at hand at once: a layer's inputs, what it makes of them, and a skip."""


def outputs_under(
    policy: Policy, risk: EmpiricalRisk, thetas: Float[Tensor, "K P"]
) -> Iterator[tuple[slice, Float[Tensor, "k B C"], Tensor]]:
    """As `outputs_at`, with this policy for BatchNorm.

    "reestimate" takes mean and variance of each channel over all examples at once, layer by layer:
    what the net does in training mode on a batch of everything. No statistics are written. Without
    BatchNorm both policies are the same. Raises `InputError` for another policy, and where all
    examples together would take more than `MAX_MEMORY`.
    """
    if policy not in ("keep", "reestimate"):
        raise InputError("batch_norm", repr(policy), "'keep' or 'reestimate'", "choose one")
    if policy == "keep" or not any(isinstance(part, _NORMS) for part in risk.module.modules()):
        yield from outputs_at(risk, thetas)
        return
    free, inputs, targets = risk.once("statistics of all", lambda: _prepared(risk))
    for k, theta in enumerate(thetas):
        with torch.no_grad():
            outputs = free.outputs(theta, inputs)
        yield slice(k, k + 1), outputs[None], targets


def _prepared(risk: EmpiricalRisk) -> tuple[EmpiricalRisk, Tensor, Tensor]:
    """The risk of a net that normalizes by the batch at hand, and all examples as one batch."""
    inputs, targets = risk.joined()
    if len(inputs) < 2:
        raise InputError("batch_norm", "one example", "two or more", 'use batch_norm="keep"')
    size = _HELD * len(inputs) * _widest(risk, inputs[:1]) * risk.theta.element_size()
    if size > MAX_MEMORY:
        raise InputError(
            "batch_norm",
            f"{size / 2**20:.0f} MB for {len(inputs)} examples at once",
            f"at most {MAX_MEMORY / 2**20:.0f} MB",
            'hand in a risk on fewer examples, or use batch_norm="keep"',
        )
    return risk.of_module(_without_statistics(risk.module)), inputs, targets


def _without_statistics(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, _NORMS):
            part.running_mean = part.running_var = part.num_batches_tracked = None
            part.track_running_stats = False
    return module


def _widest(risk: EmpiricalRisk, example: Tensor) -> int:
    """Numbers in the largest of the layers' outputs for one example."""
    sizes = [example.numel()]

    def hook(part: nn.Module, args: Any, output: Any) -> None:
        if torch.is_tensor(output):
            sizes.append(output.numel())

    handles = [part.register_forward_hook(hook) for part in risk.module.modules()]
    try:
        with torch.no_grad():
            risk.outputs(risk.theta, example)
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes)
