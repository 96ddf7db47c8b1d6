"""At which steps a pruner of Optuna looks, so that a criterion is evaluated nowhere else.

A step may be left out where its value can enter no decision, this trial's or another's, now or
later; decisions are then those of all steps reported.

- Successive halving compares the value of the step that reaches a trial's next rung, and no other.
- Hyperband is successive halving with the rungs of the trial's bracket.
- Threshold reads the first value after the warm-up in each interval.
- Median and percentile compare the best value over all steps so far, those of the warm-up and
  within intervals too, and whether a later step will be compared is not known: every step counts.
- Patient, Wilcoxon and any pruner unknown here: every step.
"""
# pyright: reportPrivateUsage=false

from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.trial import FrozenTrial


def looks(base: BasePruner, study: Study, trial: FrozenTrial, step: int) -> bool:
    """Whether the value at `step` can enter a decision of `base`; study and trial are views."""
    rule = _RULES.get(type(base))
    return rule is None or rule(base, study, trial, step)


def _at_rung(base: SuccessiveHalvingPruner, study: Study, trial: FrozenTrial, step: int) -> bool:
    if base._min_resource is None:
        return True  # It is read off the last step of the first complete trial, whichever that is.
    rung = 0
    while f"completed_rung_{rung}" in trial.system_attrs:
        rung += 1
    power = base._min_early_stopping_rate + rung
    return step >= base._min_resource * base._reduction_factor**power


def _in_bracket(base: HyperbandPruner, study: Study, trial: FrozenTrial, step: int) -> bool:
    if not base._pruners:
        base._try_initialization(study)
    if not base._pruners:
        return True  # As above: the first complete trial says how long they are.
    bracket = base._pruners[base._get_bracket_id(study, trial)]
    return _at_rung(bracket, study, trial, step)


def _opens_interval(base: ThresholdPruner, study: Study, trial: FrozenTrial, step: int) -> bool:
    since = step - base._n_warmup_steps
    earlier = max((each for each in trial.intermediate_values if each != step), default=-1)
    return since >= 0 and earlier < step - since % base._interval_steps


_RULES: dict[type[BasePruner], Callable[[Any, Study, FrozenTrial, int], bool]] = {
    SuccessiveHalvingPruner: _at_rung,
    HyperbandPruner: _in_bracket,
    ThresholdPruner: _opens_interval,
}
"""By the very class: one that inherits may look elsewhere."""
