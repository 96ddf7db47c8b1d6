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

from gentheory.optuna.looks import looks

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


def compares(study: Study, trial: Trial, step: int) -> bool:
    """Whether the study's pruner looks at what is reported at this step; see `optuna.looks`."""
    if isinstance(study.pruner, NopPruner):
        return False
    return looks(study.pruner, study, study.get_trials(deepcopy=False)[trial.number], step)
