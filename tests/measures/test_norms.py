"""Norms of parameters and of their way, against sums over the module."""

import math

import pytest
import torch
from cases import CASES, Case

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import norms
from gentheory.params import flatten
from gentheory.seeds import generator


def test_norm_counts_each_trainable_number_once(case: Case):
    trained = [p.detach() for p in case.module.parameters() if p.requires_grad]
    squares = sum(float(p.square().sum()) for p in trained)
    estimate = norms.parameters(Checkpoint(case.risk()), generator=generator(0))
    assert estimate.value == pytest.approx(math.sqrt(squares), rel=1e-13)
    assert estimate.stderr == 0


def test_distance_from_the_start():
    risk = CASES["mlp"].risk()
    way = torch.linspace(-1, 1, 100, dtype=torch.float64)
    initial = risk.theta + way
    estimate = norms.distance(Checkpoint(risk, initial), generator=generator(0))
    assert estimate.value == pytest.approx(way.norm().item(), rel=1e-13)
    assert estimate.stats["initial_norm"] == pytest.approx(initial.norm().item(), rel=1e-14)
    still = norms.distance(Checkpoint(risk, flatten(CASES["mlp"].module)), generator=generator(0))
    assert still.value == 0


def test_trap_30_float32_parameters_are_summed_in_float64():
    risk = gt.EmpiricalRisk(
        torch.nn.Linear(1, 1, bias=False), "mse", (torch.zeros(2, 1), torch.zeros(2, 1))
    )
    wide = gt.EmpiricalRisk(
        torch.nn.Linear(200_000, 1, bias=False),
        "mse",
        (torch.zeros(2, 200_000), torch.zeros(2, 1)),
        theta=torch.full((200_000,), 0.1),
    )
    estimate = norms.parameters(Checkpoint(wide), generator=generator(0))
    assert estimate.value == pytest.approx(float(torch.tensor(0.1)) * 200_000**0.5, rel=1e-12)
    assert norms.parameters(Checkpoint(risk), generator=generator(0)).value > 0


def test_without_a_start_there_is_no_distance():
    with pytest.raises(gt.InputError, match=r"norms\.distance: found no initial parameters"):
        norms.distance(Checkpoint(CASES["mlp"].risk()), generator=generator(0))
