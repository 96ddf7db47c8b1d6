"""Prune a trial by its training loss + predicted gap, in one call."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Unpack

import optuna
import torch
from optuna.study import StudyDirection
from optuna.trial import BaseTrial
from torch import nn

from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.losses import Loss, PerExample
from gentheory.optuna.channel import record
from gentheory.optuna.pruner import decide, pruner_of
from gentheory.pruning.budget import Budgeted
from gentheory.pruning.criterion import Criterion, Hints, Moment, Plan, Quantity
from gentheory.pruning.observation import Observation

_logger = logging.getLogger(__name__)


class TIC:
    """Training loss + predicted gap of a model in training, for a study with a `TICPruner`.

        tic = TIC("tic.kfac", loss="cross_entropy", data=train_data)
        study = optuna.create_study(pruner=TICPruner(optuna.pruners.SuccessiveHalvingPruner()))

        def objective(trial):
            model, optimizer = build(trial)
            for epoch in range(1, 28):
                train_one_epoch(model, optimizer)
                if tic.should_prune(trial, model, step=epoch):
                    raise optuna.TrialPruned()
            return final_score(model)

    One object serves all trials, and several threads; it must be made before training begins
    where `damping` or `residuals` is "training". Each process makes its own. The model, its
    gradients and torch's random generators stay as they are.

    **Arguments:**

    - `measure` and `options`: any measure that predicts a gap, such as "tic.kfac",
      "tic.diagonal" or "tic.leave_one_out", and its own options.
    - `loss`, `data`, `weight_decay`, `num_train`, `max_examples`, `seed`, `dtype`, `batch_size`,
      `quantity`: as for `gentheory.pruning.criterion.Criterion`.
    - `max_overhead`: at most this share of the training's time is spent on measuring, see
      `gentheory.pruning.budget.Budgeted`; which measure of the `ladder` and how many examples
      that pays for is chosen by one trial, and kept in the study for all others and all
      processes. What is pruned then depends on the clock. None, the default, sets no bound: the
      same study twice decides the same.
    - `also_report`: report the criterion to the trial as well, for samplers and dashboards; it
      then becomes the value of a pruned trial.

    Raises `InputError` for measures, options and data that cannot be used.
    """

    def __init__(
        self,
        measure: str = "tic.kfac",
        *,
        loss: str | PerExample | Loss,
        data: Any,
        weight_decay: float = 0.0,
        num_train: int | None = None,
        max_examples: int | None = 1000,
        max_overhead: float | None = None,
        ladder: Sequence[str] | None = None,
        quantity: Quantity = "criterion",
        also_report: bool = False,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        batch_size: int = 512,
        **options: Any,
    ) -> None:
        self._criterion = Criterion(
            measure,
            loss=loss,
            data=data,
            weight_decay=weight_decay,
            num_train=num_train,
            max_examples=max_examples,
            quantity=quantity,
            seed=seed,
            dtype=dtype,
            batch_size=batch_size,
            **options,
        )
        if ladder is not None and max_overhead is None:
            cure = "give max_overhead as well, or no ladder"
            raise InputError("ladder", repr(ladder), "a budget that chooses from it", cure)
        self._budgeted = (
            None if max_overhead is None else Budgeted(self._criterion, max_overhead, ladder=ladder)
        )
        self._also_report = also_report

    def __call__(self, model: nn.Module, **moment: Unpack[Moment]) -> Estimate:
        """The predicted gap, with its standard error and diagnostics; no budget counts here."""
        return self._criterion.estimate(model, plan=self._plan, **moment)

    def criterion(self, model: nn.Module, **moment: Unpack[Moment]) -> float:
        """The number that trials are compared by; nan where it is not known. Lower is better.

        Loss and gap of `quantity="criterion"`, loss and bounded gap of "bounded", the gap alone of
        "gap". Draws depend on the seed
        and on `step`, so that with the step of a trial it is the number recorded there.
        """
        found = self._criterion(model, plan=self._plan, **moment)
        if found.state != "known":
            _logger.warning("The criterion is %s: %s", found.state, found.reason)
        return found.criterion

    def should_prune(
        self, trial: BaseTrial, model: nn.Module, *, step: int, **hints: Unpack[Hints]
    ) -> bool:
        """Observe the model if the study's pruner will look at this step, and ask it.

        Call it at every step, as `trial.report` and `trial.should_prune` in one; it works with
        several objectives too. Needed only where the options or trials call for it:
        `optimizer=`, `training_time=` and `weight_decay=`, see `Hints`. A fixed trial is never
        pruned, nor measured.

        A model that diverged is pruned; where the measure gives no number, or the budget does
        not pay for it, the trial continues, and the log says why. Raises `InputError` where the
        study has no `TICPruner`, and where `also_report` meets a study that cannot be reported to.
        """
        pruner = pruner_of(trial)
        if pruner is None or not isinstance(trial, optuna.Trial):
            return False
        if self._also_report:
            _check_reportable(trial.study)
        own = (trial.study.study_name, trial.number)
        moment: Moment = {"trial": own, "step": step, **hints}
        if not pruner.wants(trial.study, trial, step):
            self._follow(trial, model, moment)
            return False
        observed = self._observed(trial, model, moment)
        record(trial, step, observed)
        if self._also_report and observed.state == "known":
            trial.report(observed.criterion, step)
        return decide(trial, step)

    @property
    def _plan(self) -> Plan | None:
        return None if self._budgeted is None else self._budgeted.plan

    def _follow(self, trial: optuna.Trial, model: nn.Module, moment: Moment) -> None:
        if self._budgeted is None:
            self._criterion.follow(model, **moment)
        else:
            self._budgeted.follow(model, trained=_age(trial), **moment)

    def _observed(self, trial: optuna.Trial, model: nn.Module, moment: Moment) -> Observation:
        if self._budgeted is None:
            return self._criterion(model, **moment)
        name = f"gentheory:plan:{self._criterion.measure}:"
        self._budgeted.plan = _agreed(trial.study, name)
        found = self._budgeted(model, trained=_age(trial), **moment)
        chosen = self._budgeted.plan
        # No value is recorded at the step that chooses; by the next one all processes agree.
        if chosen is not None and _agreed(trial.study, name) is None:
            record = {"measure": chosen.measure, "num_examples": chosen.num_examples}
            trial.study.set_user_attr(f"{name}{trial.number}", record)
        return found


def _agreed(study: optuna.Study, name: str) -> Plan | None:
    """The plan of the study: of those chosen at once, that of the earliest trial."""
    chosen = {
        int(key[len(name) :]): plan
        for key, plan in study.user_attrs.items()
        if key[: len(name)] == name
    }
    return Plan(**chosen[min(chosen)]) if chosen else None


def _age(trial: optuna.Trial) -> float:
    """Seconds since it began."""
    start = trial.datetime_start
    return 0.0 if start is None else (datetime.now() - start).total_seconds()


def _check_reportable(study: optuna.Study) -> None:
    if study.directions != [StudyDirection.MINIMIZE]:
        raise InputError(
            "also_report",
            f"directions {', '.join(d.name.lower() for d in study.directions)}",
            "a study that minimizes one objective, for a lower criterion is better",
            "leave it off; the criteria are in the trials' user attributes",
        )
