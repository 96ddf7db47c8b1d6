"""A stack of models before training: built from points, and trained as often as needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentheory import losses, models
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.losses import Loss
from gentheory.params import flatten
from gentheory.seeds import seed_of
from gentheory.study.plan import Point
from gentheory.training.loop import Plan, Trained, train


@dataclass(frozen=True)
class Job:
    """M models with their initial parameters, their data and how they are to be trained."""

    module: nn.Module
    loss: Loss
    initial: Float[Tensor, "M P"]
    data: Split
    plan: Plan
    order_seeds: tuple[int, ...]  # one a model

    @classmethod
    def of(cls, points: tuple[Point, ...]) -> "Job":
        """The models of a stack, which share architecture, data and what `Plan` shares."""
        first = points[0]
        recipe, study_seed = Recipe(**first.data), first.data["seed"]
        modules = [_initialized(point, study_seed) for point in points]
        initial = torch.stack([flatten(module) for module in modules])
        return cls(
            modules[0],
            losses.resolve(first.settings["loss"]),
            initial.to(getattr(torch, first.settings["dtype"])),
            recipe.train(),
            _plan(points),
            tuple(seed_of(study_seed, "order", point.settings["seed"]) for point in points),
        )

    def repeated(self, times: int) -> "Job":
        """The whole stack so many times over, without keeping residuals."""
        plan = replace(
            self.plan,
            learning_rate=self.plan.learning_rate.repeat(times),
            momentum=self.plan.momentum.repeat(times),
            weight_decay=self.plan.weight_decay.repeat(times),
            keep_trajectory=False,
        )
        initial = self.initial.repeat(times, 1)
        return replace(self, initial=initial, plan=plan, order_seeds=self.order_seeds * times)

    def train(
        self,
        *,
        rows: Int[Tensor, "M N"] | None = None,
        checkpoints: Sequence[int] = (),
        progress: Callable[[float], None] | None = None,
    ) -> Trained:
        """Train it, on all the data or each model on its own rows; every call does the same.

        The stack is kept as it stood after each of the epochs `checkpoints` too.
        """
        orders = [torch.Generator().manual_seed(seed) for seed in self.order_seeds]
        return train(
            self.module,
            self.loss,
            self.initial,
            self.data,
            self.plan,
            orders,
            rows=rows,
            checkpoints=checkpoints,
            progress=progress,
        )


def _initialized(point: Point, study_seed: int) -> nn.Module:
    """The untrained module: its numbers depend on the study's seed and the point's alone."""
    return models.build(
        point.model["name"],
        shape=tuple(point.model["shape"]),
        num_classes=point.model["num_classes"],
        options=point.model["options"],
        seed=seed_of(study_seed, "init", point.settings["seed"]),
    )


def _plan(points: tuple[Point, ...]) -> Plan:
    def column(name: str) -> Tensor:
        return torch.tensor([point.settings[name] for point in points], dtype=torch.float64)

    shared: Any = points[0].settings
    return Plan(
        shared["epochs"],
        shared["batch_size"],
        column("learning_rate"),
        column("momentum"),
        column("weight_decay"),
        shared["schedule"],
        shared["stop_at_loss"],
        shared["keep_trajectory"],
    )
