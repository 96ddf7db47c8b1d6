"""A study as the wrapped pruner sees it: criteria for intermediate values, to be minimized.

Hyperband builds a study of its own out of the storage, and reads directions and trials there
again; so it is the storage that is seen through, and what is true of it is true everywhere.
"""
# pyright: reportPrivateUsage=false

from collections.abc import Container
from functools import cached_property
from statistics import fmean
from typing import Any, cast

from optuna import Study
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from gentheory.optuna.channel import attempts, attribute, criteria

_RUNG = "completed_rung_"
"""How successive halving's attributes begin; it recognizes the rungs it has passed by them."""


class CriterionTrial(FrozenTrial):
    """A trial whose intermediate values are its criteria, and whose rungs are its attempt's own."""

    def __init__(self, trial: FrozenTrial) -> None:
        replaced = ("intermediate_values", "_system_attrs")
        vars(self).update({k: v for k, v in vars(trial).items() if k not in replaced})
        self._trial = trial

    @cached_property
    def intermediate_values(self) -> dict[int, float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return criteria(self._trial)

    @cached_property
    def _system_attrs(self) -> dict[str, Any]:
        """Without the rungs of an attempt that failed: a retry would begin above them."""
        stored = self._trial.system_attrs
        seen = {name: value for name, value in stored.items() if not name.startswith(_RUNG)}
        for number, _ in attempts(self._trial):
            prefix = attribute(number, "")
            own = {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}
            seen = own | seen
        return seen


class CriterionStorage:
    """The storage, except for what is below."""

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [StudyDirection.MINIMIZE]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return CriterionTrial(self._storage.get_trial(trial_id))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [CriterionTrial(t) for t in self._storage.get_all_trials(study_id, deepcopy, states)]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        attempt = self._storage.get_trial_number_from_id(trial_id)
        self._storage.set_trial_system_attr(trial_id, attribute(attempt, key), value)


class CriterionStudy(Study):
    """A view of `study` with one objective to minimize; its best trial is still the study's."""

    def __init__(self, study: Study, pruner: BasePruner) -> None:
        # Study's own __init__ would ask the storage for what `study` knows.
        self.__setstate__(study.__getstate__())
        self._storage = cast(BaseStorage, CriterionStorage(study._storage))
        self._directions = [StudyDirection.MINIMIZE]
        self.pruner = pruner
        self._study = study

    def stop(self) -> None:
        self._study.stop()

    def _get_best_trial(self, deepcopy: bool) -> FrozenTrial:
        """With several objectives, the one of the least mean criterion: what Wilcoxon compares."""
        if not self._study._is_multi_objective():
            return CriterionTrial(self._study._get_best_trial(deepcopy))
        complete = self.get_trials(deepcopy, states=(TrialState.COMPLETE,))
        observed = [trial for trial in complete if trial.intermediate_values]
        if not observed:
            raise ValueError("No trial with a known criterion is complete yet.")
        return min(observed, key=lambda trial: fmean(trial.intermediate_values.values()))
