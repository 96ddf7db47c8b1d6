"""Measuring stays within its share of the training's time, and by one plan."""

import gc
import math
import time

import pytest
import torch
from torch import nn

from gentheory.errors import InputError
from gentheory.pruning.budget import FEWEST, Budgeted, Ledger, largest
from gentheory.pruning.criterion import Criterion, Plan
from gentheory.pruning.observation import Observation

SECONDS = {"tic.exact": 100.0, "tic.kfac": 2.0, "tic.diagonal": 1.0, "tic.trace_ratio": 0.5}
"""Of a fake measure for each hundred examples."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake(Criterion):
    """Takes known seconds, and says that the model's first bias is its loss."""

    def __init__(self, clock: Clock, measure: str = "tic.kfac", **options) -> None:
        data = (torch.zeros(1000, 3), torch.zeros(1000, dtype=torch.int64))
        super().__init__(measure, loss="cross_entropy", data=data, **options)
        self.clock, self.calls, self.looks = clock, [], 0

    def __call__(self, model, *, plan=None, **moment) -> Observation:
        assert plan is not None
        self.calls.append(plan)
        size = sum(p.numel() for p in model.parameters())
        self.clock.now += SECONDS[plan.measure] * plan.num_examples / 100 * size / 8
        loss = model.bias[0].item()
        state = "known" if math.isfinite(loss) else "diverged"
        return Observation(loss, state, measure=plan.measure, num_examples=plan.num_examples)

    def follow(self, model, *, plan=None, **moment) -> None:
        self.clock.now += 0.01
        self.looks += 1


def trained(budgeted: Budgeted, clock: Clock, model: nn.Module, epochs: int, epoch: float) -> list:
    """An observation after each epoch, which takes `epoch` seconds."""
    found = []
    for step in range(1, epochs + 1):
        clock.now += epoch
        found.append(budgeted(model, step=step, trained=epoch if step == 1 else 0.0))
        # At its first call a model's training is what it is told.
        if step == 1:
            assert budgeted.ledger.training >= epoch
    return found


@pytest.mark.parametrize(
    ("epoch", "plan"),
    [
        (3.0, Plan("tic.trace_ratio", 32)),
        (7.0, Plan("tic.diagonal", 32)),
        (13.0, Plan("tic.kfac", 32)),
        (30.0, Plan("tic.kfac", 64)),
        (100.0, Plan("tic.kfac", 256)),
        (1000.0, Plan("tic.kfac", 1000)),
        (0.1, Plan("tic.trace_ratio", FEWEST)),
    ],
)
def test_the_plan_is_what_one_epoch_pays_for(epoch: float, plan: Plan):
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, clock=clock)
    first = budgeted(nn.Linear(3, 2), step=1, trained=epoch)
    assert budgeted.plan == plan
    assert (first.state, first.reason) == ("unknown", "the plan was tried out at this step")
    cost = SECONDS[plan.measure] * plan.num_examples / 100
    assert cost <= 0.08 * epoch or plan == Plan("tic.trace_ratio", FEWEST)


@pytest.mark.parametrize("epoch", [0.5, 8.0, 30.0, 300.0])
def test_overhead_stays_within_the_budget_and_values_come_by_one_plan(epoch: float):
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, clock=clock)
    ledger, found = budgeted.ledger, []
    for _ in range(10):
        found += trained(budgeted, clock, nn.Linear(3, 2), 27, epoch)
    assert ledger.measuring <= 0.1 * ledger.training + 1e-9
    assert sum(each.seconds for each in found) == pytest.approx(ledger.measuring)
    known = [each for each in found if each.state == "known"]
    assert {(each.measure, each.num_examples) for each in known} == {
        (budgeted.plan.measure, budgeted.plan.num_examples)
    }
    assert len(known) > (200 if epoch > 1 else 20)
    for each in found:
        assert each.state == "known" or "tried out" in each.reason or "over budget" in each.reason


def test_a_larger_model_waits_until_the_account_can_pay():
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, plan=Plan("tic.kfac", 100), clock=clock)
    small, large = nn.Linear(3, 2), nn.Linear(39, 2)  # ten times the parameters and the cost
    assert [found.state for found in trained(budgeted, clock, small, 3, 25.0)] == ["known"] * 3
    states = [found.state for found in trained(budgeted, clock, large, 14, 25.0)]
    assert states.count("known") == 1
    assert states.index("known") in (6, 7)  # 20 s, where each epoch brings 2.5
    assert budgeted.ledger.measuring <= 0.1 * budgeted.ledger.training


def test_what_other_models_saved_is_spent():
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, plan=Plan("tic.kfac", 100), clock=clock)
    for _ in range(3):
        budgeted.follow(nn.Linear(3, 2), step=1, trained=10.0)
    assert budgeted(nn.Linear(3, 2), step=1).state == "known"


def test_nothing_is_chosen_before_training_was_timed():
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, clock=clock)
    found = budgeted(nn.Linear(3, 2), step=0)
    assert (found.state, budgeted.plan) == ("unknown", None)
    assert found.reason == "no training was timed yet, so there is nothing to pay by"


def test_divergence_is_said_before_a_plan_is_chosen():
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, clock=clock)
    model = nn.Linear(3, 2)
    nn.init.constant_(model.bias, math.nan)
    assert budgeted(model, step=1, trained=10.0).state == "diverged"
    assert budgeted.plan is None


def test_looks_for_running_means_are_booked_and_skipped_when_they_cannot_be_paid():
    clock = Clock()
    fake = Fake(clock, "tic.leave_one_out", residuals="training")
    SECONDS["tic.leave_one_out"] = 1.0
    budgeted = Budgeted(fake, 0.1, plan=Plan("tic.leave_one_out", 100), clock=clock)
    model = nn.Linear(3, 2)
    budgeted.follow(model, step=1, trained=1.0)
    assert (fake.looks, budgeted.ledger.measuring) == (1, pytest.approx(0.01))
    for step in range(2, 22):
        clock.now += 0.02
        budgeted.follow(model, step=step)
    assert budgeted.ledger.measuring <= 0.1 * budgeted.ledger.training
    assert 10 < fake.looks < 21
    assert budgeted.ladder == ("tic.leave_one_out",)


def test_the_ladder_starts_at_the_measure_and_can_be_given():
    criterion = Criterion("tic.diagonal", loss="mse", data=(torch.zeros(2, 1), torch.zeros(2, 1)))
    assert Budgeted(criterion).ladder == ("tic.diagonal", "tic.trace_ratio")
    assert Budgeted(criterion, ladder=["tic.ekfac"]).ladder == ("tic.ekfac",)
    with pytest.raises(InputError, match=r"found 'tic\.nothing', expected one of"):
        Budgeted(criterion, ladder=["tic.nothing"])


@pytest.mark.parametrize("share", [0.0, -1.0, math.nan, math.inf])
def test_overheads_that_are_none(share: float):
    with pytest.raises(InputError, match=r"max_overhead: found .*, expected a positive number"):
        Budgeted(Fake(Clock()), share)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_largest_size_that_fits_is_found_at_twice_its_price(power: float):
    spent = []

    def run(plan: Plan) -> float:
        spent.append((plan.num_examples / FEWEST) ** power)
        return spent[-1]

    plan = largest(["tic.kfac"], 10_000, 70.0, run)
    sizes = [*(FEWEST * 2**k for k in range(9)), 10_000]
    fits = [n for n in sizes if (n / FEWEST) ** power <= 70.0]
    assert plan.num_examples in fits[-2:]
    assert sum(spent) <= 4 * 70.0


def test_a_measure_without_a_number_is_passed_over():
    run = {"tic.exact": math.inf, "tic.kfac": 1.0}
    assert (
        largest(["tic.exact", "tic.kfac"], 10, 2.0, lambda p: run[p.measure]).measure == "tic.kfac"
    )


def test_the_cost_of_a_larger_model_is_expected_in_proportion():
    ledger, plan = Ledger(0.1), Plan("tic.kfac", 10)
    assert ledger.expected(plan, 100) == 0.0
    ledger.measured(2.0, plan, 100)
    assert [ledger.expected(plan, size) for size in (50, 100, 300)] == [2.0, 2.0, 6.0]


def test_an_evaluation_that_took_long_for_once_counts_half_and_a_short_one_at_once():
    ledger, plan = Ledger(0.1), Plan("tic.kfac", 10)
    for seconds, expected in ((30.0, 30.0), (2.0, 2.0), (8.0, 5.0), (3.0, 3.0)):
        ledger.measured(seconds, plan, 100)
        assert ledger.expected(plan, 100) == expected
    assert ledger.measuring == 43.0


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def test_on_the_real_clock():
    stream = torch.Generator().manual_seed(0)
    data = (torch.randn(512, 8, generator=stream), torch.randint(3, (512,), generator=stream))
    criterion = Criterion("tic.kfac", loss="cross_entropy", data=data)
    least = [criterion(net(), step=0, plan=Plan("tic.kfac", 32)).seconds for _ in range(4)][1:]
    epoch = min(max(0.03, 15 * sum(least) / 3), 0.3)  # so that the machine's speed does not matter
    budgeted = Budgeted(criterion, 0.1)
    start, known, spent, model = time.perf_counter(), 0, [], net()
    budgeted.follow(model, step=0)
    while known < 5 and len(spent) < 150:
        time.sleep(epoch)
        before = time.perf_counter()
        known += budgeted(model, step=len(spent) + 1).state == "known"
        spent.append(time.perf_counter() - before)
    training = time.perf_counter() - start - sum(spent)
    assert budgeted.ledger.measuring == pytest.approx(sum(spent), rel=0.1)
    # A call may take longer than the one before it, which was all there was to go by.
    assert sum(spent) <= 0.1 * training + max(spent)
    if known < 5:
        pytest.skip("the machine is too busy for its clock to say anything")


def test_models_are_not_kept_alive():
    clock = Clock()
    budgeted = Budgeted(Fake(clock), 0.1, clock=clock)
    for trial in range(20):
        budgeted(nn.Linear(3, 2), step=1, trial=trial, trained=1.0)
    gc.collect()
    assert len(budgeted._meters) == 0
