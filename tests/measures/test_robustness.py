"""Accuracy under attack: what is counted, its error, and what is refused."""

import math
from typing import Any

import pytest
import torch
from cases import CASES
from torch import nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.seeds import generator

NAME = "robustness.pgd_accuracy"


def measured(risk: gt.EmpiricalRisk, **options: Any) -> Estimate:
    return gt.measure(Checkpoint(risk), NAME, options={NAME: options})[NAME]


def threshold() -> gt.EmpiricalRisk:
    """The sign of one input; half of the examples lie within 0.5 of the boundary."""
    x = torch.tensor([-2.0, -0.4, -0.3, -1.0, 0.1, 0.45, 0.8, 3.0, 0.2, -0.6]).double()[:, None]
    y = (x[:, 0] > 0).long()
    y[0] = 1
    net = nn.Linear(1, 2).double()
    theta = torch.tensor([-1.0, 1.0, 0.0, 0.0]).double()
    return gt.EmpiricalRisk(net, "mse", (x, y), theta=theta, batch_size=4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("radius", "right"), [(0.05, 9), (0.5, 4), (0.7, 3), (10.0, 0)])
def test_the_examples_farther_than_the_radius_stay_right(norm: str, radius: float, right: int):
    found = measured(threshold(), radius=radius, norm=norm)
    assert found.value == right / 10
    assert found.stats == {"accuracy": 0.9, "num_examples": 10}


def test_the_error_is_binomial_and_not_zero_where_all_agree():
    found = measured(threshold(), radius=10.0)
    assert found.stderr == pytest.approx(math.sqrt(2 / 14 * 12 / 14 / 14))


def test_the_error_is_honest():
    net = nn.Linear(3, 2).double()
    theta = torch.randn(8, generator=generator("theta"), dtype=torch.float64)
    values, squares = [], []
    for seed in range(200):
        x = torch.randn(60, 3, generator=generator(seed), dtype=torch.float64)
        data = (x, gt.EmpiricalRisk(net, "mse", (x, x[:, 0] > 9)).outputs(theta, x).argmax(1))
        found = measured(gt.EmpiricalRisk(net, "mse", data, theta=theta), radius=0.3, num_steps=3)
        values.append(found.value)
        squares.append(found.stderr**2)
    assert 0.2 < sum(values) / 200 < 0.8
    said = sum(squares) / 200
    assert said == pytest.approx(float(torch.tensor(values).var()), rel=0.3)


def test_restarts_are_drawn_by_the_seed_and_find_no_less():
    risk = CASES["mlp"].risk()
    options = {NAME: {"restarts": 6, "norm": "l2", "radius": 0.4, "num_steps": 2}}
    found = [gt.measure(risk, NAME, seed=seed, options=options)[NAME].value for seed in (0, 0, 1)]
    assert found[0] == found[1]
    once = measured(risk, norm="l2", radius=0.4, num_steps=2).value
    assert max(found) <= once


@pytest.mark.parametrize(
    ("option", "wrong"), [("radius", 0.0), ("num_steps", 0), ("restarts", 0), ("max_examples", 1)]
)
def test_options_out_of_range_are_refused_by_name(option: str, wrong: float):
    found = measured(threshold(), **{option: wrong})
    assert found.status == "refused"
    assert found.reason.startswith(f"{NAME}.{option}: found {wrong}")


def test_indices_cannot_be_moved():
    found = measured(CASES["embedding"].risk())
    assert found.status == "refused"
    assert "which are indices" in found.reason
