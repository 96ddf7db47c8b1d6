"""What one model of a study is: its data, its architecture and how it is trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from gentheory.training.published import PUBLISHED, Name

Count: TypeAlias = Annotated[int, Field(ge=1, strict=True)]
Rate: TypeAlias = Annotated[float, Field(gt=0, strict=True)]
Decay: TypeAlias = Annotated[float, Field(ge=0, strict=True)]
Momentum: TypeAlias = Annotated[float, Field(ge=0, lt=1, strict=True)]
Ratio: TypeAlias = Annotated[float, Field(ge=1, strict=True)]
Pixels: TypeAlias = Annotated[int, Field(ge=0, strict=True)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed: TypeAlias = Annotated[int, Field(ge=0, strict=True)]


class Section(BaseModel):
    """A section of a study's file: unknown keys are mistakes, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """`[data]`: the data set, by the name of its loader, and the loader's options."""

    name: str
    options: dict[str, JsonValue] = {}


class Architecture(Section):
    """`[[architectures]]`: a model by the name of its builder, and the builder's options."""

    label: Annotated[str, Field(min_length=1, max_length=40)]
    model: str
    options: dict[str, JsonValue] = {}
    vary: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = {}
    """Lists of values for more options: an architecture for every combination of them."""
    learning_rate_factor: Rate = 1.0
    """Multiplies every learning rate, as 1 / α² does for an output scale α."""

    @field_validator("vary")
    @classmethod
    def _once(cls, axes: dict[str, list[JsonValue]]) -> dict[str, list[JsonValue]]:
        for name, values in axes.items():
            if any(value in values[:place] for place, value in enumerate(values)):
                raise ValueError(f"{name}: a value stands twice; give each once")
        return axes

    def variants(self) -> Iterator["Variant"]:
        """One for each combination of `vary`; the architecture itself where nothing varies."""
        for values in product(*self.vary.values()):
            own = dict(zip(self.vary, values, strict=True))
            label = ", ".join([self.label, *(f"{name} {value}" for name, value in own.items())])
            yield Variant(label, self, {**self.options, **own})


@dataclass(frozen=True)
class Variant:
    """An architecture with one value for each of its options."""

    label: str
    family: Architecture
    options: Mapping[str, JsonValue]


class Settings(Section):
    """`[training]`: what holds for every model, unless an axis of `[grid]` or `[draws]` sets it.

    Every field is an axis, and a column of the table of models.
    """

    epochs: Count = 40
    batch_size: Count = 32
    learning_rate: Rate = 0.1
    momentum: Momentum = 0.0
    weight_decay: Decay = 0.0
    n_train: Count | None = None
    label_noise: Share = 0.0
    imbalance: Literal["none", "exponential", "step"] = "none"
    """How often the classes occur in training, by `class_shares`; the test data are balanced."""
    imbalance_ratio: Ratio = 1.0
    """The most frequent class over the least frequent one."""
    seed: Seed = 0
    loss: Literal["cross_entropy", "mse", "squentropy", "supervised_contrastive"] = "cross_entropy"
    schedule: Literal["constant", "cosine", "step", "linear"] = "constant"
    stop_at_loss: Rate | None = None
    dtype: Literal["float32", "float64"] = "float32"
    keep_trajectory: Annotated[bool, Field(strict=True)] = False
    """Keep means over windows of training, for `tic.left_out` and `tic.leave_one_out`."""
    mixup: Decay = 0.0
    """The α of mixup's λ ~ Beta(α, α); 0 for none. Measures see the examples as they are."""
    flips: Annotated[bool, Field(strict=True)] = False
    """Mirror images left to right, each with probability 1/2 in each step."""
    crops: Pixels = 0
    """Shift images by up to so many pixels, at random in each step."""

    class_balance: Share = 0.0
    """β of class weights ∝ (1 − β) / (1 − β^n_c) in the steps of training, whose mean over the
    examples is 1 (Cui et al. 2019); 0 for none, 1 for weights 1 / n_c. Losses and measures are of
    examples with equal weights."""
    classifier_decay: Decay | None = None
    """Weight decay of the last linear layer, where it is not `weight_decay`, which is then that
    of all before it. Two are no λ/2 |θ|², and measures see the loss without a penalty."""

    # What follows is read by some optimizers, losses, schedules or stopping rules alone: None
    # stands for the published value where it is read, and for nothing where it is not.
    optimizer: Name = "sgd"
    nesterov: Annotated[bool, Field(strict=True)] = False
    beta1: Momentum | None = None
    beta2: Momentum | None = None
    epsilon: Rate | None = None
    rho: Decay | None = None
    """Radius of the search of SAM, ASAM and FAD."""
    eta: Decay | None = None
    """What ASAM adds to the size of each weight."""
    fad_alpha: Share | None = None
    """Share of the flatness of zeroth order among FAD's two."""
    fad_beta: Decay | None = None
    """Weight of both."""
    saf_weight: Decay | None = None
    saf_temperature: Rate | None = None
    saf_delay: Count | None = None
    """How many epochs old the outputs are that SAF compares with."""
    saf_start: Count | None = None
    """Epochs before SAF's trajectory loss sets in."""
    label_smoothing: Annotated[float, Field(gt=0, lt=1, strict=True)] | None = None
    max_sup: Rate | None = None
    """Weight of MaxSup's term beside cross-entropy."""
    rescale: Decay | None = None
    """Weight of the squares in squentropy."""
    temperature: Rate | None = None
    """Of the supervised contrastive loss."""
    warm_up: Annotated[int, Field(ge=0, strict=True)] = 0
    """Epochs in which the learning rate rises to its full size."""
    step_factor: Rate | None = None
    step_shares: list[Annotated[float, Field(gt=0, lt=1, strict=True)]] | None = None
    """Schedule "step": shares of the steps after which the learning rate falls by the factor."""
    stop_at_gradient_norm: Rate | None = None
    """Stop at a training gradient, with weight decay, of at most this length."""
    stop_at_curvature: Annotated[float, Field(gt=1, strict=True)] | None = None
    """Stop where the largest Hessian eigenvalue grows by this ratio, such as 1.3, and go back."""
    curvature_window: Count | None = None
    curvature_lag: Count | None = None
    curvature_start: Annotated[int, Field(ge=0, strict=True)] | None = None
    """The earliest epoch to go back to."""
    pof_epochs: Annotated[int, Field(ge=0, strict=True)] = 0
    """Epochs of feature training under perturbed classifiers, after the others."""
    pof_learning_rate: Rate | None = None
    pof_reach: Rate | None = None
    balance_after: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Epochs before the class weights set in (deferred re-weighting: Cao et al. 2019)."""


class Training(Settings):
    """`[training]`: the settings, and what is kept along the way, which changes no model."""

    checkpoints: list[Annotated[int, Field(ge=0, strict=True)]] = []
    """Epochs after which every model is evaluated, kept and measured; 0 is before training."""
    checkpoint_steps: list[Annotated[int, Field(ge=0, strict=True)]] = []
    """Steps of the optimizer, counted from the first one, after which it is too."""
    keep_checkpoints: Annotated[bool, Field(strict=True)] = True
    """Whether their weights stay in the study's folder, beside those of the end."""
    validation: Count | None = None
    """Examples on which the loss is taken at every checkpoint: those that a training with so many
    more, `n_train` + `validation`, would see beside the same training examples."""
    test: Count | None = None
    """Test examples on which every checkpoint is evaluated, the first ones; all unless given. The
    end of training is evaluated on all."""

    def settings(self) -> dict[str, Any]:
        """What is a setting of each model."""
        return self.model_dump(include=set(Settings.model_fields))

    @field_validator("checkpoints", "checkpoint_steps")
    @classmethod
    def _rising(cls, given: list[int]) -> list[int]:
        if given != sorted(set(given)):
            raise ValueError("numbers that do not rise; sort them and give each once")
        return given


OWN = (
    *("learning_rate", "momentum", "weight_decay", "seed", "pof_learning_rate"),
    "classifier_decay",
    *dict.fromkeys(name for own in PUBLISHED.values() for name in own),
)
"""Settings that each model of a stack may have for itself; it shares all the others."""
SHARED = tuple(name for name in Settings.model_fields if name not in OWN)


def axes() -> dict[str, Any]:
    """The type of a value of each setting: None, which stands for "not given", is no value.

    A setting that is a list of numbers is no axis.
    """
    found: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        kinds = get_args(field.annotation)
        kind = kinds[0] if type(None) in kinds else field.annotation
        if get_origin(kind) not in (list, tuple):
            found[name] = Annotated[kind, *field.metadata] if field.metadata else kind
    return found


VARIED = tuple(name for name in SHARED if name in axes())
"""Shared settings that can differ within a part, and so tell one stack from another."""


def plain_types() -> dict[str, type]:
    """str, float, int or bool: what the values of each axis are."""
    found: dict[str, type] = {}
    for name, kind in axes().items():
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        found[name] = type(get_args(kind)[0]) if get_origin(kind) is Literal else kind
    return found
