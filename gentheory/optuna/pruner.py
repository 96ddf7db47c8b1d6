"""Any pruner of Optuna, deciding by recorded criteria instead of reported values."""

import logging
from collections.abc import Iterator
from typing import Literal, get_args

import optuna
from optuna.pruners import BasePruner
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial

from gentheory.errors import InputError
from gentheory.optuna.channel import frozen, observations
from gentheory.optuna.looks import looks
from gentheory.optuna.view import CriterionStudy, CriterionTrial
from gentheory.pruning.observation import Observation

_logger = logging.getLogger(__name__)
Divergence = Literal["prune", "ignore", "raise"]


class TICPruner(BasePruner):
    """Decides as `base` would, had the criterion been reported to it in a study that minimizes.

    It does so whatever the study's own objectives are: minimized, maximized or several. `base`
    sees every trial with its recorded criteria for intermediate values; the objective's values,
    and which trial is the best, are the study's own. With several objectives, WilcoxonPruner
    compares with the complete trial of the least mean criterion.

    - A model that diverged is pruned at once (`nan="prune"`, the default), goes on as if nothing
      had been observed at this step ("ignore"), or raises `FloatingPointError` ("raise"), which
      `study.optimize(catch=...)` turns into a failed trial. `base` is not asked, and sees no value.
    - A criterion that could not be estimated is unknown: the trial continues, its reason is
      logged as a warning, and `base` sees no value of this step.
    - Rungs that successive halving and Hyperband have passed are kept for each attempt: unlike in
      Optuna's own study, a trial retried from scratch begins at the lowest again.
    - Samplers are shown the trials of a Hyperband bracket only where the study's pruner is
      Optuna's HyperbandPruner itself; under this one they see all trials.

    A wrapper of pruners belongs inside: `TICPruner(PatientPruner(MedianPruner(), 2))`. The pruner
    of a study is not stored, so each process and each `load_study` must be given it.

    Raises `InputError` where `base` is no pruner, or is or contains a TICPruner already.
    """

    def __init__(self, base: BasePruner, *, nan: Divergence = "prune") -> None:
        if not isinstance(base, BasePruner):  # pyright: ignore[reportUnnecessaryIsInstance]
            cure = "give one, such as TICPruner(optuna.pruners.SuccessiveHalvingPruner())"
            raise InputError("TICPruner.base", repr(base), "a pruner of Optuna", cure)
        if _wrapped(base):
            cure = "write TICPruner once, around all others"
            raise InputError("TICPruner.base", _name(base), "a pruner without TICPruner", cure)
        if nan not in get_args(Divergence):
            cure = f"give one of {', '.join(get_args(Divergence))}"
            raise InputError("TICPruner.nan", repr(nan), "a word for what to do", cure)
        self._base, self._nan = base, nan

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """By the observation of the last step; False where there is none."""
        return self.prune_at(study, trial, max(observations(trial), default=-1))

    def prune_at(self, study: optuna.Study, trial: FrozenTrial, step: int) -> bool:
        """By the observation of `step`; False where there is none.

        Raises `FloatingPointError` for a model that diverged, if `nan` is "raise".
        """
        observed = observations(trial).get(step)
        if observed is None:
            return False
        if observed.state == "diverged":
            return self._diverged(trial, step, observed)
        if observed.state == "unknown":
            text = "Trial %d continues: its criterion at step %d is unknown (%s)."
            _logger.warning(text, trial.number, step, observed.reason)
            return False
        view = CriterionStudy(study, self._base)
        return bool(self._base.prune(view, CriterionTrial(trial)))  # NumPy's, of some pruners.

    def wants(self, study: optuna.Study, trial: optuna.Trial | FrozenTrial, step: int) -> bool:
        """Whether the wrapped pruner will look at `step`; see `gentheory.optuna.looks`.

        To evaluate the criterion nowhere else changes no decision. Where SuccessiveHalvingPruner
        or HyperbandPruner read the length of training off complete trials ("auto"), that holds
        for trials of one length, the case in which Optuna recommends it.
        """
        seen = CriterionTrial(trial if isinstance(trial, FrozenTrial) else frozen(trial))
        return looks(self._base, CriterionStudy(study, self._base), seen, step)

    def _diverged(self, trial: FrozenTrial, step: int, observed: Observation) -> bool:
        if self._nan == "raise":
            reason = observed.reason or "its training loss is not finite"
            raise FloatingPointError(f"Trial {trial.number} diverged at step {step}: {reason}.")
        return self._nan == "prune"


def pruner_of(trial: BaseTrial) -> TICPruner | None:
    """The one that decides; None for a FixedTrial or FrozenTrial, which Optuna never prunes.

    Raises `InputError` where the study has no TICPruner, or has it inside another pruner: that
    one would compare reported values, of which there are none, and never prune.
    """
    if isinstance(trial, FixedTrial | FrozenTrial):
        return None
    if not isinstance(trial, optuna.Trial):
        cure = "hand on the trial that Optuna gave to the objective"
        raise InputError("trial", type(trial).__name__, "an optuna.Trial", cure)
    pruner = trial.study.pruner
    if isinstance(pruner, TICPruner):
        return pruner
    if _wrapped(pruner):
        cure = "wrap the other way round, TICPruner(PatientPruner(...))"
        raise InputError("study.pruner", _name(pruner), "TICPruner outermost", cure)
    cure = "a study's pruner is not stored, so give pruner=TICPruner(...) to load_study as well"
    raise InputError("study.pruner", _name(pruner), "a TICPruner", cure)


def decide(trial: BaseTrial, step: int) -> bool:
    """Whether to prune, by what was recorded at `step`; False where nothing was.

    In place of `trial.should_prune`, which Optuna refuses where there are several objectives.

    Raises `InputError` as `pruner_of` does, and `FloatingPointError` as `TICPruner.prune_at`.
    """
    pruner = pruner_of(trial)
    if pruner is None or not isinstance(trial, optuna.Trial):
        return False
    return pruner.prune_at(trial.study, frozen(trial), step)


def _inner(pruner: BasePruner) -> Iterator[BasePruner]:
    yield pruner
    for value in vars(pruner).values():
        if isinstance(value, BasePruner):
            yield from _inner(value)


def _wrapped(pruner: BasePruner) -> bool:
    return any(isinstance(each, TICPruner) for each in _inner(pruner))


def _name(pruner: BasePruner) -> str:
    """Such as PatientPruner(TICPruner(MedianPruner))."""
    names = [type(each).__name__ for each in _inner(pruner)]
    return "(".join(names) + ")" * (len(names) - 1)
