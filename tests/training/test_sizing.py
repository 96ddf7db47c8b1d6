"""Sizes of stacks: what memory they take, and which of them is chosen."""

import pytest
import torch
from torch import nn

from gentheory import losses
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.training import sizing
from gentheory.training.plan import Plan
from gentheory.training.sizing import stack_memory, stack_size, step_seconds

NET = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))  # P = 66
DATA = Split(torch.linspace(-1, 1, 100).reshape(20, 5), torch.arange(20) % 3, 3, "train")
ONE = torch.ones(2)
PLAN = Plan(3, 8, 0.1 * ONE, 0 * ONE, 0 * ONE)
INITIAL = flatten(NET).repeat(2, 1)
GIVEN = (NET, losses.cross_entropy, INITIAL, DATA)


def test_memory_by_hand():
    step = 8 * 2 * (5 + 7 + 7 + 3)  # what passes the layers, forwards and backwards
    assert stack_memory(NET, DATA, PLAN, INITIAL[0]) == int(1.25 * 4 * ((4 + 3) * 66 + step))
    adam = Plan(3, 8, 0.1 * ONE, 0 * ONE, 0 * ONE, optimizer="adam")
    assert stack_memory(NET, DATA, adam, INITIAL[0]) == int(1.25 * 4 * ((4 + 6) * 66 + step))
    kept = Plan(3, 8, 0.1 * ONE, 0 * ONE, 0 * ONE, keep_trajectory=True)
    more = 3 * (8 * 20 * (3 + 3) + 4 * 66)
    assert (
        stack_memory(NET, DATA, kept, INITIAL[0]) - stack_memory(NET, DATA, PLAN, INITIAL[0])
        == more
    )


def test_the_smallest_of_the_fast_sizes(monkeypatch: pytest.MonkeyPatch):
    seconds = {1: 8.0, 2: 4.0, 4: 2.0, 8: 1.02, 16: 1.0, 32: 1.1, 64: 0.1}
    monkeypatch.setattr(sizing, "step_seconds", lambda *given: seconds[given[-1]])
    chosen, tried = stack_size(*GIVEN, PLAN, memory=10**9)
    assert chosen == 8
    assert [candidate.models for candidate in tried] == [1, 2, 4, 8, 16, 32]
    each = stack_memory(NET, DATA, PLAN, INITIAL[0])
    assert [candidate.memory for candidate in tried] == [n * each for n in (1, 2, 4, 8, 16, 32)]
    assert stack_size(*GIVEN, PLAN, memory=5 * each)[0] == 4


def test_a_model_that_does_not_fit():
    with pytest.raises(InputError, match="for one model, expected at most 0 MB"):
        stack_size(*GIVEN, PLAN, memory=100)


def test_a_trial_is_a_training_and_changes_nothing():
    before, own = INITIAL.clone(), flatten(NET)
    assert 0 < step_seconds(*GIVEN, PLAN, 4) < 1
    assert torch.equal(INITIAL, before)
    assert torch.equal(flatten(NET), own)
    assert NET.training


@pytest.mark.parametrize("optimizer", ["adam", "sam", "saf"])
def test_every_optimizer_can_be_tried(optimizer: str):
    plan = Plan(9, 8, 0.1 * ONE, 0 * ONE, 0 * ONE, optimizer=optimizer, stop_at_loss=9.0)
    assert step_seconds(*GIVEN, plan, 2) > 0
