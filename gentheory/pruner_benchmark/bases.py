"""Optuna's pruners as they come, and at which steps each of them looks at a trial."""

from collections.abc import Callable, Mapping

from optuna import Study, Trial
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)

Make = Callable[[int], BasePruner]
"""A fresh pruner for trials of so many epochs."""

HALVING_3 = "SuccessiveHalving η 3"
HALVING_4 = "SuccessiveHalving η 4"
HYPERBAND = "Hyperband"
MEDIAN = "Median"
NOP = "Nop"

BASES: Mapping[str, Make] = {
    NOP: lambda _: NopPruner(),
    MEDIAN: lambda _: MedianPruner(),
    "Percentile 25": lambda _: PercentilePruner(25.0),
    HALVING_3: lambda _: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    HALVING_4: lambda _: SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
    HYPERBAND: lambda horizon: HyperbandPruner(min_resource=1, max_resource=horizon),
    "Patient(Median)": lambda _: PatientPruner(MedianPruner(), patience=1),
}
"""By name. All but these arguments are Optuna's defaults, the same for every signal."""

LOOKING_AT_RUNGS = (HALVING_3, HALVING_4, HYPERBAND)


def looks(study: Study, trial: Trial, step: int) -> bool:
    """Whether the study's pruner compares what is reported at this step.

    Successive halving ignores every step before the end of the trial's next rung, so nothing has
    to be measured there; the others take every value into account.
    """
    pruner = study.pruner
    if isinstance(pruner, HyperbandPruner):
        pruner = _bracket(pruner, study, trial)
    if isinstance(pruner, SuccessiveHalvingPruner):
        return step >= _next_rung(pruner, study, trial)
    return not isinstance(pruner, NopPruner)


# What follows asks the pruners themselves, as their arithmetic is theirs to change.
# pyright: reportPrivateUsage=false


def _bracket(pruner: HyperbandPruner, study: Study, trial: Trial) -> SuccessiveHalvingPruner:
    if not pruner._pruners:
        pruner._try_initialization(study)
    frozen = study.get_trials(deepcopy=False)[trial.number]
    return pruner._pruners[pruner._get_bracket_id(study, frozen)]


def _next_rung(pruner: SuccessiveHalvingPruner, study: Study, trial: Trial) -> int:
    attributes = study.get_trials(deepcopy=False)[trial.number].system_attrs
    done = sum(name.startswith("completed_rung_") for name in attributes)
    assert pruner._min_resource is not None
    return pruner._min_resource * pruner._reduction_factor ** (
        pruner._min_early_stopping_rate + done
    )
