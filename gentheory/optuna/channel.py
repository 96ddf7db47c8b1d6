"""Observations in a trial's user attributes: one for each attempt and step, only ever appended.

`trial.report` stays free for a metric of one's own: what is reported becomes the value of a pruned
trial, is compared in the study's direction, and is refused where there are several objectives.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from gentheory.errors import InputError
from gentheory.pruning.observation import Observation

_logger = logging.getLogger(__name__)
_RESUMED = "resumed"


def attribute(attempt: int, name: int | str) -> str:
    """Under which one attempt, by its trial's number, keeps something of its own."""
    return f"gentheory:{attempt}:{name}"


def record(trial: optuna.Trial, step: int, observation: Observation) -> None:
    """Keep what was observed at `step` in the storage, as strict JSON.

    The first observation of a step stays, as with `trial.report`; a later one is left out with a
    warning in the log. A criterion that is called known but is not finite is kept as unknown.

    Raises `InputError` where `step` is no whole number of at least 0.
    """
    if not isinstance(step, Integral) or step < 0:
        cure = "count epochs or updates from 0 or 1"
        raise InputError("step", repr(step), "a whole number of at least 0", cure)
    name = attribute(trial.number, step)
    if name in frozen(trial).user_attrs:
        _logger.warning("Trial %d was observed at step %d before.", trial.number, step)
        return
    if observation.state == "known" and not math.isfinite(observation.criterion):
        reason = f"the criterion is {observation.criterion}"
        observation = replace(observation, state="unknown", reason=reason)
    trial.set_user_attr(name, observation.to_record())


def resumed(trial: optuna.Trial, step: int) -> None:
    """Say that a retried trial goes on from the checkpoint that its last attempt left at `step`.

    A trial that Optuna retries inherits the attributes of the attempt that failed, but begins
    anew; so its pruner ignores them. After this it counts what was observed up to `step`.

    Raises `InputError` where the trial is no retry of another.
    """
    history = frozen(trial).system_attrs.get("retry_history", [])
    if not history:
        raise InputError(
            f"trial {trial.number}",
            "a first attempt",
            "one queued by Optuna's RetryHeartbeatStaleTrialCallback",
            "call resumed(trial, step) only where a checkpoint of the failed attempt was loaded",
        )
    trial.set_user_attr(attribute(trial.number, _RESUMED), {"attempt": history[-1], "step": step})


def observations(trial: FrozenTrial) -> dict[int, Observation]:
    """By step, in order: of this attempt, and of earlier ones as far as it resumed from them."""
    return {step: Observation.from_record(kept) for step, kept in _records(trial).items()}


def criteria(trial: FrozenTrial) -> dict[int, float]:
    """The known values of the criterion by step, in order."""
    kept = _records(trial).items()
    return {step: each["criterion"] for step, each in kept if each["state"] == "known"}


def attempts(trial: FrozenTrial) -> Iterator[tuple[int, float]]:
    """This attempt and those it resumed from, latest first; each with its last step that counts."""
    number, last = trial.number, math.inf
    yield number, last
    while (link := trial.user_attrs.get(attribute(number, _RESUMED))) is not None:
        number, last = link["attempt"], min(last, link["step"])
        yield number, last


def frozen(trial: optuna.Trial) -> FrozenTrial:
    """What Optuna hands its own pruners: no copy, and system attributes read when asked for."""
    return trial._get_latest_trial()  # pyright: ignore[reportPrivateUsage]


def _records(trial: FrozenTrial) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for number, last in attempts(trial):
        prefix = attribute(number, "")
        for name, kept in trial.user_attrs.items():
            step = name.removeprefix(prefix)
            if step != name and step.isdecimal() and int(step) <= last:
                found.setdefault(int(step), kept)
    return dict(sorted(found.items()))
