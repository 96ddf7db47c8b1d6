"""A stack of models before training: built from points, and trained as often as needed."""

from collections.abc import Callable, Mapping, Sequence
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
from gentheory.study.conditions import loss_options
from gentheory.study.plan import Point
from gentheory.training.augment import Augmentation
from gentheory.training.loop import Plan, Trained, train
from gentheory.training.published import PUBLISHED
from gentheory.training.stopping import CurvatureRule


@dataclass(frozen=True)
class Job:
    """M models with their initial parameters, their data and how they are to be trained."""

    module: nn.Module
    loss: Loss
    initial: Float[Tensor, "M P"]
    data: Split
    plan: Plan
    order_seeds: tuple[int, ...]  # one a model
    augmentation_seeds: tuple[int, ...]  # likewise

    @classmethod
    def of(cls, points: tuple[Point, ...]) -> "Job":
        """The models of a stack, which share architecture, data and what `Plan` shares."""
        first = points[0]
        recipe, study_seed = Recipe(**first.data), first.data["seed"]
        modules = [_initialized(point, study_seed) for point in points]
        initial = torch.stack([flatten(module) for module in modules])
        return cls(
            modules[0],
            losses.resolve(first.settings["loss"], loss_options(first.settings)),
            initial.to(getattr(torch, first.settings["dtype"])),
            recipe.train(),
            _plan(points),
            tuple(seed_of(study_seed, "order", point.settings["seed"]) for point in points),
            tuple(seed_of(study_seed, "augmentation", point.settings["seed"]) for point in points),
        )

    def repeated(self, times: int) -> "Job":
        """The whole stack so many times over, without keeping residuals."""
        return replace(
            self,
            initial=self.initial.repeat(times, 1),
            plan=self.plan.repeated(times),
            order_seeds=self.order_seeds * times,
            augmentation_seeds=self.augmentation_seeds * times,
        )

    def train(
        self,
        *,
        rows: Int[Tensor, "M N"] | None = None,
        checkpoints: Sequence[int] = (),
        progress: Callable[[float], None] | None = None,
    ) -> Trained:
        """Train it, on all the data or each model on its own rows; every call does the same.

        The stack is kept as it stood after each of the steps `checkpoints` too.
        """
        orders, augmenting = (
            [torch.Generator().manual_seed(seed) for seed in seeds]
            for seeds in (self.order_seeds, self.augmentation_seeds)
        )
        return train(
            self.module,
            self.loss,
            self.initial,
            self.data,
            self.plan,
            orders,
            rows=rows,
            augmenting=augmenting,
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
        shared["optimizer"],
        shared["nesterov"],
        {name: column(name) for name in PUBLISHED[shared["optimizer"]]},
        **_given(
            shared,
            "balance_after",
            "saf_start",
            "saf_delay",
            "step_factor",
            "step_shares",
            "pof_reach",
        ),
        warm_up=shared["warm_up"],
        stop_at_gradient_norm=shared["stop_at_gradient_norm"],
        stop_at_curvature=_curvature_rule(shared),
        pof_epochs=shared["pof_epochs"],
        pof_learning_rate=column("pof_learning_rate") if shared["pof_learning_rate"] else None,
        classifier_decay=_classifier_decay(points),
        class_balance=shared["class_balance"],
        augmentation=Augmentation(shared["mixup"], shared["flips"], shared["crops"]),
    )


def _classifier_decay(points: tuple[Point, ...]) -> Tensor | None:
    """Of each model, that of the features where it has none of its own; None where none has."""
    own = [point.settings["classifier_decay"] for point in points]
    if all(decay is None for decay in own):
        return None
    other = [point.settings["weight_decay"] for point in points]
    decays = [b if a is None else a for a, b in zip(own, other, strict=True)]
    return torch.tensor(decays, dtype=torch.float64)


def _given(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if settings[name] is not None}


def _curvature_rule(settings: Mapping[str, Any]) -> CurvatureRule | None:
    if settings["stop_at_curvature"] is None:
        return None
    names = ("stop_at_curvature", "curvature_window", "curvature_lag", "curvature_start")
    return CurvatureRule(*(settings[name] for name in names))
