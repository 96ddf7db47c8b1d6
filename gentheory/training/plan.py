"""How a stack is to be trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.losses import Loss
from gentheory.training.augment import Augmentation
from gentheory.training.published import Name
from gentheory.training.schedule import Schedule
from gentheory.training.stopping import CurvatureRule


@dataclass(frozen=True)
class Plan:
    """How a stack is trained; what is one number here is shared, what is [M] is each model's."""

    epochs: int
    batch_size: int
    learning_rate: Float[Tensor, " M"]
    momentum: Float[Tensor, " M"]
    weight_decay: Float[Tensor, " M"]
    schedule: Schedule = "constant"
    stop_at_loss: float | None = None
    """Stop a model once its training loss, taken after each epoch, is at most this."""
    keep_trajectory: bool = False
    """Keep means over windows of training, for measures of the way a model went."""
    optimizer: Name = "sgd"
    nesterov: bool = False
    own: Mapping[str, Float[Tensor, " M"]] = field(default_factory=dict[str, Tensor])
    """What the optimizer needs beside, such as `rho`; the published value where it is missing."""
    saf_start: int = 5
    """Epochs before SAF's trajectory loss sets in."""
    saf_delay: int = 3
    """How many epochs old the outputs are that SAF compares with."""
    warm_up: int = 0
    """Epochs in which the learning rate rises in equal steps to its full size."""
    step_factor: float = 0.1
    step_shares: tuple[float, ...] = (0.5, 0.75)
    """Schedule "step": after these shares of the steps the learning rate falls by the factor."""
    stop_at_gradient_norm: float | None = None
    """Stop a model once its whole training gradient, after an epoch, is at most this long."""
    stop_at_curvature: CurvatureRule | None = None
    """Stop a model once the largest Hessian eigenvalue has grown so much, and go back."""
    pof_epochs: int = 0
    """Epochs of feature training under perturbed classifiers, after the others."""
    pof_learning_rate: Float[Tensor, " M"] | None = None
    """Of these; the learning rate unless given."""
    pof_reach: float = 2.0
    """How far beyond the best classifier on a batch the perturbed one can lie, at 1."""
    classifier_decay: Float[Tensor, " M"] | None = None
    """Weight decay of the last linear layer; `weight_decay` is then that of all before it."""
    class_balance: float = 0.0
    """β of the class weights in the steps; 0 for none."""
    balance_after: int = 0
    """Epochs before they set in."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What the steps see in place of the examples; losses and curves are those of the examples."""

    @property
    def objective_decay(self) -> Float[Tensor, " M"]:
        """λ of the λ/2 |θ|² in what is lowered: decoupled decay is in no objective."""
        return (
            torch.zeros_like(self.weight_decay) if self.optimizer == "adamw" else self.weight_decay
        )

    def epoch_steps(self, num_examples: int) -> int:
        """Steps of an epoch over so many examples; the last batch may be smaller."""
        return math.ceil(num_examples / self.batch_size)

    @property
    def pof_rate(self) -> Float[Tensor, " M"]:
        """Learning rate of the feature training."""
        given = self.pof_learning_rate
        return self.learning_rate if given is None else given

    def repeated(self, times: int) -> "Plan":
        """For the whole stack so many times over, without a trajectory."""
        return replace(
            self,
            learning_rate=self.learning_rate.repeat(times),
            momentum=self.momentum.repeat(times),
            weight_decay=self.weight_decay.repeat(times),
            own={name: values.repeat(times) for name, values in self.own.items()},
            pof_learning_rate=self.pof_rate.repeat(times),
            classifier_decay=None
            if self.classifier_decay is None
            else self.classifier_decay.repeat(times),
            keep_trajectory=False,
        )


def check_augmentation(plan: Plan, loss: Loss, data: Split) -> None:
    """Raise `InputError` where the augmentation does not go with the data or with the plan."""
    augmentation = plan.augmentation
    if not augmentation.present:
        return
    augmentation.check(data)
    if augmentation.mixup:
        loss.check(torch.full((1, data.num_classes), 1 / data.num_classes), data.num_classes)
    bound = {
        "keep_trajectory": plan.keep_trajectory,
        "optimizer saf": plan.optimizer == "saf" and augmentation.mixup > 0,
        "pof_epochs": plan.pof_epochs > 0,
    }
    for name, given in bound.items():
        if given:
            raise InputError(
                name,
                "a training that sees augmented examples",
                "one that sees the training examples themselves",
                f"drop {name}, or mixup, flips and crops",
            )
