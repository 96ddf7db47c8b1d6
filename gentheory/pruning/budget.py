"""A criterion that takes at most a share of the training's time."""

import math
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Unpack

from torch import nn

from gentheory.errors import InputError
from gentheory.measures import find
from gentheory.pruning.criterion import Criterion, Moment, Plan, plain
from gentheory.pruning.observation import Observation

LADDER = ("tic.exact", "tic.kfac", "tic.diagonal", "tic.trace_ratio")
"""Predicted gaps, each cheaper than the one before it and nearer to a bound than to the first."""
FEWEST = 32
"""Examples that a plan has at least."""
_MARGIN = 0.8
"""Of what an evaluation may take; timings differ from one to the next."""


class Ledger:
    """Seconds of training and of measuring, and what each plan has cost."""

    def __init__(self, max_overhead: float) -> None:
        self.max_overhead = max_overhead
        self.training = 0.0
        self.measuring = 0.0
        self._costs: dict[Plan, tuple[float, int]] = {}
        self._lock = Lock()

    @property
    def left(self) -> float:
        """Seconds that may be spent now; negative where too much was."""
        return self.max_overhead * self.training - self.measuring

    def trained(self, seconds: float) -> None:
        """Book training."""
        with self._lock:
            self.training += seconds

    def measured(self, seconds: float, plan: Plan, size: int) -> None:
        """Book an evaluation of a model of so many parameters."""
        with self._lock:
            self.measuring += seconds
            self._costs[plan] = (seconds, size)

    def expected(self, plan: Plan, size: int) -> float:
        """What the plan took last; of a larger model, more in proportion. 0 if never tried."""
        seconds, seen = self._costs.get(plan, (0.0, size))
        return seconds * max(1.0, size / seen)


@dataclass
class _Meter:
    """Of one model in one trial."""

    trial: Hashable
    end: float
    """When its last call ended."""
    spent: float = 0.0
    """Measuring since its last observation, in seconds."""


class Budgeted:
    """A criterion under a budget: seconds of measuring ≤ `max_overhead` · seconds of training.

        criterion = Budgeted(Criterion("tic.kfac", loss="cross_entropy", data=train_data), 0.1)

    Training is the time between two calls for a model, whatever the loop does in it. All models
    that one object sees share one account, and a call that it cannot pay is "unknown".

    All values must come from one `Plan` to compare. The first call that has training to go by
    chooses it: the first rung of the ladder of which `FEWEST` examples take no longer than
    `max_overhead` of the time since the call before, on as many examples as that pays for, in
    powers of two times `FEWEST` or all of them; or else the last rung. This is tried out, so
    that the first calls are "unknown" until training has paid for it. So the plan is what the
    first model can pay at every step. Where that is the smallest model of a search, or its steps
    are shorter than those between two rungs, a `plan` of one's own is better; where later ones
    are larger, some of their calls are "unknown". What is decided then depends on the clock:
    without a budget it does not.

    **Arguments:**

    - `criterion`: what to evaluate.
    - `max_overhead`: seconds of measuring for each second of training.
    - `ladder`: measures, each cheaper than the one before; by default `LADDER` from the
      criterion's own measure on, or that measure alone where it is not in it.
    - `plan`: fixed from the start, where it is given.
    - `clock`: seconds that rise.

    Raises `InputError` for an overhead that is not positive and for measures that do not exist.
    """

    def __init__(
        self,
        criterion: Criterion,
        max_overhead: float = 0.1,
        *,
        ladder: Sequence[str] | None = None,
        plan: Plan | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not 0 < max_overhead < math.inf:
            raise InputError("max_overhead", str(max_overhead), "a positive number", "give 0.1")
        own = criterion.measure
        lower = LADDER[LADDER.index(own) :] if own in LADDER else (own,)
        self.ladder = lower if ladder is None else tuple(ladder)
        for name in self.ladder:
            find(name)
        self.criterion, self.plan = criterion, plan
        self.ledger = Ledger(max_overhead)
        self._clock = clock
        self._meters: weakref.WeakKeyDictionary[nn.Module, _Meter] = weakref.WeakKeyDictionary()

    def __call__(
        self, model: nn.Module, *, trained: float = 0.0, **moment: Unpack[Moment]
    ) -> Observation:
        """What there is to say of the model now, as far as the budget pays for it.

        `trained`: seconds of training before the first call for a model. `seconds` of the
        observation is all that was spent on the model since its last one, in tries too.
        """
        meter, since = self._begun(model, trained, moment)
        if self.plan is None:
            found = self._chosen(model, meter, since, moment)
        elif (lacking := self._lacking(self.plan, model)) is not None:
            found = _unknown(self.plan, lacking)
        else:
            found = self._paid(self.plan, model, meter, moment)
        found = replace(found, seconds=meter.spent)
        meter.spent, meter.end = 0.0, self._clock()
        return found

    def follow(self, model: nn.Module, *, trained: float = 0.0, **moment: Unpack[Moment]) -> None:
        """Book the training so far, and look for running means if they are kept and paid for."""
        meter, _ = self._begun(model, trained, moment)
        if self.criterion.follows and self.plan is not None:
            look = Plan("residuals", self.plan.num_examples)
            if self._lacking(look, model) is None:
                start = self._clock()
                self.criterion.follow(model, plan=self.plan, **moment)
                self._book(start, look, model, meter)
        meter.end = self._clock()

    def _begun(self, model: nn.Module, trained: float, moment: Moment) -> tuple[_Meter, float]:
        """The model's meter, and its training since the last call, which is booked."""
        model, trial, now = plain(model), moment.get("trial"), self._clock()
        meter = self._meters.get(model)
        if meter is None or meter.trial != trial:
            meter = self._meters[model] = _Meter(trial, now - max(0.0, trained))
        since = now - meter.end
        self.ledger.trained(since)
        return meter, since

    def _chosen(self, model: nn.Module, meter: _Meter, since: float, moment: Moment) -> Observation:
        """Choose the plan; what it costs is spent, and no value comes of it."""
        total = self.criterion.held.count
        least = Plan(self.ladder[-1], min(FEWEST, total))
        if since <= 0:
            return _unknown(least, "no training was timed yet, so there is nothing to pay by")
        found = self._paid(least, model, meter, moment)
        if found.state == "diverged":
            return found

        def run(plan: Plan) -> float:
            before = meter.spent
            tried = self._paid(plan, model, meter, moment)
            return meter.spent - before if tried.state == "known" else math.inf

        share = _MARGIN * self.ledger.max_overhead * since
        self.plan = largest(self.ladder, total, share, run)
        return _unknown(self.plan, "the plan was tried out at this step")

    def _lacking(self, plan: Plan, model: nn.Module) -> str | None:
        """Why the account cannot pay; None if it can."""
        left, cost = self.ledger.left, self.ledger.expected(plan, _size(model))
        if left > 0 and cost <= left:
            return None
        return (
            f"over budget: about {cost:.2g} s for {plan.measure} of {plan.num_examples} examples, "
            f"and {max(left, 0.0):.2g} s are left of {self.ledger.max_overhead:.0%} of training"
        )

    def _paid(self, plan: Plan, model: nn.Module, meter: _Meter, moment: Moment) -> Observation:
        start = self._clock()
        found = self.criterion(model, plan=plan, **moment)
        self._book(start, plan, model, meter)
        return found

    def _book(self, start: float, plan: Plan, model: nn.Module, meter: _Meter) -> None:
        seconds = self._clock() - start
        meter.spent += seconds
        self.ledger.measured(seconds, plan, _size(model))


def largest(ladder: Sequence[str], total: int, share: float, run: Callable[[Plan], float]) -> Plan:
    """The first rung that fits, on as many of `total` examples as do; or the last on the fewest.

    `run` tries a plan and gives its seconds, `share` is how many it may take. About twice that
    is spent on the rung that is chosen, and two evaluations on each that is not.
    """
    for name in ladder:
        plan = Plan(name, min(FEWEST, total))
        cost = min(run(plan), run(plan))  # the first one warms up
        growth = 2.0
        while plan.num_examples < total and cost * growth <= share:
            more = Plan(name, min(2 * plan.num_examples, total))
            dearer = run(more)
            if dearer > share:
                break
            growth = max(dearer / cost, 1.0) if cost else 2.0
            plan, cost = more, dearer
        if cost <= share:
            return plan
    return Plan(ladder[-1], min(FEWEST, total))


def _unknown(plan: Plan, reason: str) -> Observation:
    return Observation(
        math.nan, "unknown", reason, measure=plan.measure, num_examples=plan.num_examples
    )


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
