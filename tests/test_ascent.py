"""Maxima within a ball or a box against trust regions solved by scipy, and corners enumerated."""

import itertools

import oracle
import pytest
import torch
from cases import CASES, Case, regression, truth
from oracle import relative_error, trust_region
from torch import nn

import gentheory as gt
from gentheory.ascent import Ascent, Objective, Region, ascend, loss_and_slope, loss_at, slope_at
from gentheory.seeds import generator


def climbed(
    objective: Objective, region: Region, steps: int = 200, restarts: int = 1, seed: int = 0
) -> Ascent:
    return ascend(
        objective, region, num_steps=steps, restarts=restarts, generator=generator("climb", seed)
    )


@pytest.mark.parametrize("radius", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("stretched", [False, True])
def test_the_ball_s_maximum_is_the_trust_region_s(radius: float, stretched: bool):
    risk = regression()
    loss, slope = loss_and_slope(risk)
    hessian = gt.hessian(risk).dense()
    scale = risk.theta.abs() + 0.2 if stretched else torch.ones_like(risk.theta)
    wanted = trust_region(hessian * scale[:, None] * scale, slope * scale, radius)
    found = climbed(loss_at(risk), Region(risk.theta, scale, radius, "ball"))
    assert found.highest[0] - loss.item() == pytest.approx(wanted, rel=1e-10)
    assert found.highest[1] < 1e-8 * wanted
    assert found.distances.tolist() == pytest.approx([1.0])


def test_the_box_s_maximum_is_at_the_best_corner():
    risk = regression()
    scale = risk.theta.abs() + 1
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=8)), dtype=torch.float64)
    wanted = max(risk.value(theta).item() for theta in risk.theta + 0.5 * signs * scale)
    found = climbed(loss_at(risk), Region(risk.theta, scale, 0.5, "box"), restarts=20)
    assert found.highest[0] == pytest.approx(wanted, rel=1e-12)
    assert found.highest[1] == pytest.approx(0, abs=1e-12)
    corner = climbed(loss_at(risk), Region(risk.theta, scale, 0.5, "box"), steps=1, restarts=1)
    assert corner.values[0] <= found.values[0]


def test_random_starts_find_what_the_gradient_cannot_show():
    """At the saddle's foot the gradient has no part in the direction in which most is to gain."""
    net = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    risk = gt.EmpiricalRisk(net, "mse", (x, y), theta=torch.zeros(2).double())
    region = Region.ball(risk.theta, 1.0)
    single, several = (climbed(loss_at(risk), region, restarts=r) for r in (1, 5))
    assert single.highest[0] == pytest.approx(2.0)  # (1 + 1)² / 2
    assert several.highest[0] > 4.5
    assert several.values[0] == pytest.approx(single.values[0])


def test_a_start_without_gradient_is_random():
    net = nn.Linear(2, 1, bias=False).double()
    data = torch.eye(2).double() * torch.tensor([1.0, 2.0]), torch.zeros(2, 1).double()
    risk = gt.EmpiricalRisk(net, "mse", data, theta=torch.zeros(2).double())
    found = climbed(loss_at(risk), Region.ball(risk.theta, 0.1))
    assert found.highest[0] == pytest.approx(0.1**2 * 2, rel=1e-10)


def test_a_maximum_is_the_centre():
    net = nn.Linear(2, 1, bias=False).double()
    data = torch.eye(2).double(), torch.zeros(2, 1).double()
    risk = gt.EmpiricalRisk(net, lambda f, y: -(f**2).sum(1), data, theta=torch.zeros(2).double())
    for steps in (1, 50):
        found = climbed(loss_at(risk), Region.ball(risk.theta, 0.1), steps=steps, restarts=3)
        assert found.values.tolist() == pytest.approx([0.0] * 3, abs=1e-20)
        assert found.gaps.tolist() == pytest.approx([0.0] * 3, abs=1e-10)


def test_more_steps_never_fall(case: Case):
    risk = case.risk()
    region = Region.ball(risk.theta, 0.3)
    few, more = (climbed(loss_at(risk), region, steps=n, restarts=3) for n in (1, 12))
    assert bool((more.values >= few.values).all())
    assert bool((more.distances <= 1 + 1e-12).all())


def test_the_slope_s_gradient_is_the_hessian_s_product(case: Case):
    risk, dense = case.risk(), truth(case.name)
    mean = dense.mean_gradient - case.weight_decay * dense.theta
    hessian = dense.hessian - case.weight_decay * torch.eye(len(mean), dtype=mean.dtype)
    values, gradients = slope_at(risk)(torch.stack([risk.theta, risk.theta]))
    assert values.tolist() == pytest.approx([mean.norm().item()] * 2, rel=1e-10)
    wanted = hessian @ mean / mean.norm()
    assert relative_error(gradients, wanted.expand(2, -1)) < 1e-9


@pytest.mark.parametrize("radius", [1e-4, 0.5])
def test_the_steepest_point_of_a_quadratic(radius: float):
    """|g + Hε|² is a quadratic too."""
    risk = regression()
    slope, hessian = loss_and_slope(risk)[1], gt.hessian(risk).dense()
    squared = slope @ slope + 2 * trust_region(hessian @ hessian, hessian @ slope, radius)
    found = climbed(slope_at(risk), Region.ball(risk.theta, radius), steps=60)
    assert found.highest[0] == pytest.approx(squared.sqrt().item(), rel=1e-10)


def test_trap_3_weight_decay_has_no_part():
    plain, decayed = (CASES["mlp"].risk(weight_decay=w) for w in (0.0, 3.0))
    for one, other in zip(loss_and_slope(plain), loss_and_slope(decayed), strict=True):
        assert torch.equal(one, other)
    dense = oracle.dense(CASES["mlp"].module, CASES["mlp"].values, *CASES["mlp"].data)
    assert relative_error(loss_and_slope(decayed)[1], dense.mean_gradient) < 1e-10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0, "restarts": 1}, "ascent_steps: found 0, expected 1 or more to ascend"),
        ({"num_steps": 5, "restarts": 0}, "restarts: found 0, expected at least 1"),
    ],
)
def test_nothing_to_ascend(options: dict[str, int], message: str):
    risk = regression()
    with pytest.raises(gt.InputError, match=message):
        ascend(loss_at(risk), Region.ball(risk.theta, 1.0), **options, generator=generator(0))
