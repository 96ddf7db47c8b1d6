"""Learning-rate time of every optimizer that steps: nobody has to count along."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from gentheory.errors import InputError


class LearningTime:
    """T: learning rate / (1 - momentum), summed over the steps of an optimizer.

    Adam's has no momentum in this sense, and T is the sum of its learning rates. Where groups of
    parameters differ, the mean over the parameters counts. It is seen through torch's hook on the
    steps of all optimizers, from the making of this object until its end; optimizers are held
    weakly.
    """

    def __init__(self) -> None:
        self._times: weakref.WeakKeyDictionary[Optimizer, float] = weakref.WeakKeyDictionary()
        times = self._times

        def count(optimizer: Optimizer, *_: Any) -> None:
            times[optimizer] = times.get(optimizer, 0.0) + _rate(optimizer.param_groups)

        weakref.finalize(self, register_optimizer_step_post_hook(count).remove)

    def of(self, optimizer: Optimizer) -> float:
        """T so far; 0 before the first step that was seen."""
        return self._times.get(optimizer, 0.0)

    def of_model(self, model: nn.Module) -> float | None:
        """T of the optimizer that steps the model's parameters; None without any.

        Raises `InputError` where several step it and differ: one must be named.
        """
        own = {id(parameter) for parameter in model.parameters()}
        found = [
            time
            for optimizer, time in list(self._times.items())
            if any(id(p) in own for group in optimizer.param_groups for p in group["params"])
        ]
        if len(found) > 1:
            raise InputError(
                "optimizer",
                f"{len(found)} optimizers that step the model's parameters",
                "one whose learning rates count",
                "hand it in as optimizer=",
            )
        return found[0] if found else None


def _rate(groups: Iterable[dict[str, Any]]) -> float:
    rates = [_group_rate(group) for group in groups]
    if len(set(rates)) == 1:
        return rates[0]
    sizes = [sum(p.numel() for p in group["params"]) for group in groups]
    return sum(map(float.__mul__, rates, map(float, sizes))) / sum(sizes)


def _group_rate(group: dict[str, Any]) -> float:
    momentum = float(group.get("momentum", 0.0))
    driving = 1 - float(group.get("dampening", 0.0)) if momentum else 1.0
    return float(group["lr"]) * driving / (1 - momentum)
