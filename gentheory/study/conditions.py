"""Settings that only some methods read: what they are there, and refusal where none reads them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

from gentheory.study.settings import Settings
from gentheory.training.published import BY_SGD, PUBLISHED


@dataclass(frozen=True)
class Reader:
    """Who reads a setting: models whose setting `of` has one of the values, or is set at all."""

    of: str
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """For each of those values what the setting is unless given."""
    default: Any = None
    """The same where `of` need only be set."""

    def reads(self, settings: Mapping[str, Any]) -> bool:
        """Whether a model with these settings does."""
        value = settings[self.of]
        return value in self.defaults if self.defaults else bool(value)

    def unless_given(self, settings: Mapping[str, Any]) -> Any:
        """The setting where it is read and None."""
        return self.defaults.get(settings[self.of]) if self.defaults else self.default

    def __str__(self) -> str:
        """As in "optimizer sam, asam or fad"."""
        *most, last = self.defaults or [""]
        named = f"{', '.join(most)} or {last}" if most else last
        return f"{self.of} {named}".rstrip()


def _of_optimizers(name: str) -> Reader:
    own = {optimizer: values[name] for optimizer, values in PUBLISHED.items() if name in values}
    return Reader("optimizer", own)


READERS: Mapping[str, Reader] = {
    "momentum": Reader("optimizer", dict.fromkeys((*BY_SGD, "rmsprop"), 0.0)),
    "nesterov": Reader("optimizer", dict.fromkeys(BY_SGD, False)),
    **{name: _of_optimizers(name) for own in PUBLISHED.values() for name in own},
    "saf_delay": Reader("optimizer", {"saf": 3}),
    "saf_start": Reader("optimizer", {"saf": 5}),
    "label_smoothing": Reader("loss", {"cross_entropy": None}),
    "max_sup": Reader("loss", {"cross_entropy": None}),
    "rescale": Reader("loss", {"squentropy": 1.0}),
    "temperature": Reader("loss", {"supervised_contrastive": 0.1}),
    "step_factor": Reader("schedule", {"step": 0.1}),
    "step_shares": Reader("schedule", {"step": [0.5, 0.75]}),
    "curvature_window": Reader("stop_at_curvature", default=5),
    "curvature_lag": Reader("stop_at_curvature", default=4),
    "curvature_start": Reader("stop_at_curvature", default=10),
    "pof_learning_rate": Reader("pof_epochs"),
    "pof_reach": Reader("pof_epochs", default=2.0),
    "balance_after": Reader("class_balance", default=0),
    "imbalance_ratio": Reader("imbalance", {"exponential": 1.0, "step": 1.0}),
}
LOSS_OPTIONS = tuple(name for name, reader in READERS.items() if reader.of == "loss")

_UNREAD = Settings().model_dump()


def resolved(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as one model has them.

    The published value stands where a method reads what was not given, and the default where
    nothing reads it, so that models which differ in nothing that counts are equal.
    """
    unread, defaults = _of_methods(*(settings[name] for name in _CHOOSERS))
    found = {**settings, **unread}
    found["nesterov"] = bool(found["nesterov"] and found["momentum"])
    if found["classifier_decay"] == found["weight_decay"]:
        found["classifier_decay"] = None
    return found | {name: value for name, value in defaults.items() if found[name] is None}


_CHOOSERS = tuple(dict.fromkeys(reader.of for reader in READERS.values()))


@cache
def _of_methods(*chosen: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of settings that choose methods: what nothing reads with them, and defaults of the rest."""
    settings = dict(zip(_CHOOSERS, chosen, strict=True))
    reads = {name: reader.reads(settings) for name, reader in READERS.items()}
    unread = {name: _UNREAD[name] for name, does in reads.items() if not does}
    defaults = {name: READERS[name].unless_given(settings) for name, does in reads.items() if does}
    return unread, defaults


def objective_decay(settings: Mapping[str, Any]) -> float:
    """λ of the λ/2 |θ|² in the objective: decoupled decay is in none, nor are two decays."""
    none = settings["optimizer"] == "adamw" or settings["classifier_decay"] is not None
    return 0.0 if none else settings["weight_decay"]


def loss_options(settings: Mapping[str, Any]) -> dict[str, float]:
    """The options of the loss, as `gentheory.losses.resolve` takes them."""
    return {name: settings[name] for name in LOSS_OPTIONS if settings[name] is not None}


def mistakes(
    training: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], drawn: Collection[str]
) -> Iterator[str]:
    """What is wrong with a part's settings: each where it stands, and the cure.

    `axes` are those of `[grid]`; the settings `drawn` have values of their own.
    """
    yield from _unread(training, axes, drawn)
    momenta = axes.get("momentum", [training["momentum"]])
    if any(axes.get("nesterov", [training["nesterov"]])) and not (
        "momentum" in drawn or any(momenta)
    ):
        yield "nesterov: true does nothing at momentum 0; raise the momentum or drop it"
    involved = {name: values for name, values in axes.items() if name in _INVOLVED}
    found: dict[str, None] = {}
    for values in product(*involved.values()):
        settings = resolved({**training, **dict(zip(involved, values, strict=True))})
        found |= dict.fromkeys(_contradictions(settings))
    yield from found


def _unread(
    training: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], drawn: Collection[str]
) -> Iterator[str]:
    """Settings that are given and that no model of the part reads."""
    for name, reader in READERS.items():
        given = "grid" if name in axes else "draws" if name in drawn else "training"
        if given == "training" and training[name] == _UNREAD[name]:
            continue
        values = axes.get(reader.of, [training[reader.of]])
        if not any(reader.reads({reader.of: value}) for value in values):
            shown = {"grid": axes.get(name), "training": training[name]}.get(given, "a range")
            here = " and ".join(map(repr, values))
            yield (
                f"{given}.{name}: {shown!r} is read with {reader} alone, and {reader.of} is "
                f"{here}; drop it, or choose such"
            )


_INVOLVED = (
    *("epochs", "batch_size", "optimizer", "loss", "keep_trajectory"),
    *("label_smoothing", "max_sup", "saf_delay", "saf_start", "warm_up"),
    *("stop_at_curvature", "curvature_window", "curvature_lag", "curvature_start", "pof_epochs"),
    *("mixup", "flips", "crops", "class_balance", "balance_after", "classifier_decay"),
    "stop_at_gradient_norm",
)


def _contradictions(settings: Mapping[str, Any]) -> Iterator[str]:
    """What cannot stand together in one model."""
    epochs, loss = settings["epochs"], settings["loss"]
    if len(loss_options(settings)) > 1:
        yield "label_smoothing and max_sup stand together; MaxSup replaces smoothing: drop one"
    if settings["warm_up"] >= epochs:
        yield f"warm_up: {settings['warm_up']} of {epochs} epochs leave none; choose fewer"
    if settings["optimizer"] == "saf":
        if loss in ("mse", "supervised_contrastive"):
            yield f"optimizer: saf compares probabilities, and loss {loss} has none; change one"
        start = max(settings["saf_start"], settings["saf_delay"])
        if start >= epochs:
            yield (
                f"saf_start, saf_delay: the trajectory loss sets in after {start} epochs, and "
                f"there are {epochs}; lower them or train longer"
            )
    if loss == "supervised_contrastive" and settings["batch_size"] == 1:
        yield "batch_size: 1 leaves nothing to contrast an example with; choose more"
    yield from _of_augmentation(settings)
    yield from _of_weights(settings)
    yield from _of_ends(settings)


def _of_augmentation(settings: Mapping[str, Any]) -> Iterator[str]:
    """The same for what looks at the training examples themselves, or at their classes."""
    altered = [name for name in ("mixup", "flips", "crops") if settings[name]]
    for name in ("keep_trajectory", "pof_epochs"):
        if altered and settings[name]:
            yield f"{name}: {altered[0]} trains on other examples than those it is for; drop one"
    for name, value in (("optimizer", "saf"), ("loss", "supervised_contrastive")):
        if settings["mixup"] and settings[name] == value:
            yield f"mixup: {name} {value} is for single examples of one class; drop one"


def _of_weights(settings: Mapping[str, Any]) -> Iterator[str]:
    """The same for class weights and for two weight decays, which are in no measure."""
    if settings["class_balance"]:
        own = [name for name in ("mixup", "keep_trajectory", "pof_epochs") if settings[name]]
        own += ["optimizer saf"] * (settings["optimizer"] == "saf")
        own += ["loss supervised_contrastive"] * (settings["loss"] == "supervised_contrastive")
        if own:
            yield f"class_balance: {own[0]} is for examples of equal weight; drop one"
        if settings["balance_after"] >= settings["epochs"]:
            yield (
                f"balance_after: {settings['balance_after']} of {settings['epochs']} epochs leave "
                "none to balance; choose fewer"
            )
    if settings["classifier_decay"] is not None:
        rules = ("stop_at_gradient_norm", "stop_at_curvature", "pof_epochs", "keep_trajectory")
        if own := [name for name in rules if settings[name]]:
            yield f"classifier_decay: {own[0]} knows one weight decay of all parameters; drop one"


def _of_ends(settings: Mapping[str, Any]) -> Iterator[str]:
    """The same for stopping rules and stages that change where training ends."""
    if settings["stop_at_curvature"] is not None:
        back = settings["curvature_window"] // 2 + settings["curvature_lag"]
        span = settings["curvature_window"] + settings["curvature_lag"]
        earliest = max(span, settings["curvature_start"] + back)
        if earliest > settings["epochs"]:
            yield (
                f"stop_at_curvature: it looks first after {earliest} epochs, and there are "
                f"{settings['epochs']}; lower curvature_start or train longer"
            )
    if not settings["keep_trajectory"]:
        return
    for name in ("stop_at_curvature", "pof_epochs"):
        if settings[name]:
            yield f"keep_trajectory: with {name} a model does not end where it ran to; drop one"
    if settings["loss"] == "supervised_contrastive":
        yield "keep_trajectory: loss supervised_contrastive has no residuals; drop one"
