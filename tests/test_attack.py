"""Attacks of which the strongest is known: those on linear nets."""

import pytest
import torch
from torch import Tensor, nn

import gentheory as gt
from gentheory.attack import Ball, Norm, starts, survivors
from gentheory.seeds import generator


def linear(count: int = 60) -> tuple[gt.EmpiricalRisk, Tensor, Tensor]:
    """A linear net of two classes, its difference of weights, and its margins."""
    stream = generator("linear")
    x = torch.randn(count, 4, generator=stream, dtype=torch.float64)
    net = nn.Linear(4, 2).double()
    theta = torch.randn(10, generator=stream, dtype=torch.float64)
    weight = theta[:4] - theta[4:8]
    y = (x @ weight + theta[8] - theta[9] < 0).long()
    y[::6] = 1 - y[::6]
    signed = (x @ weight + theta[8] - theta[9]) * (1 - 2 * y)
    return gt.EmpiricalRisk(net, "cross_entropy", (x, y), theta=theta, batch_size=7), weight, signed


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("num_steps", [1, 10])
def test_on_a_linear_net_it_is_the_dual_norm_that_counts(
    norm: Norm, dual: int, restarts: int, num_steps: int
):
    risk, weight, margins = linear()
    radius = 0.3
    ball = Ball(norm, radius)
    begin = starts(restarts, 4, ball, generator(0))
    right, clean = survivors(risk, ball, begin, num_steps)
    assert torch.equal(clean, margins > 0)
    assert torch.equal(right, margins > radius * torch.linalg.vector_norm(weight, ord=dual))
    assert 0 < int(right.sum()) < int(clean.sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_of_a_ball_stay_in_it_and_the_farthest_lies_on_its_surface(norm: Norm):
    ball, order = Ball(norm, 0.5), torch.inf if norm == "linf" else 2
    x = torch.randn(30, 6, generator=generator(0), dtype=torch.float64)
    sizes = torch.linalg.vector_norm(ball.project(x), ord=order, dim=1)
    assert float(sizes.max()) <= 0.5 + 1e-12
    inside = 0.1 * x / torch.linalg.vector_norm(x, ord=order, dim=1, keepdim=True)
    torch.testing.assert_close(ball.project(inside), inside)
    far = ball.farthest(x)
    torch.testing.assert_close(
        torch.linalg.vector_norm(far, ord=order, dim=1), torch.full((30,), 0.5).double()
    )
    dual = torch.linalg.vector_norm(x, ord=1 if norm == "linf" else 2, dim=1)
    torch.testing.assert_close((far * x).sum(1), 0.5 * dual)
    assert not ball.farthest(torch.zeros(2, 6)).any()
    assert not starts(4, 6, ball, generator(0))[0].any()


def test_more_starts_and_a_larger_ball_leave_fewer_right():
    stream = generator("net")
    x = torch.randn(80, 5, generator=stream, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Linear(30, 3)).double()
    theta = torch.randn(5 * 30 + 30 + 93, generator=stream, dtype=torch.float64)
    y = gt.EmpiricalRisk(net, "mse", (x, torch.zeros(80).long()), theta=theta)
    labels = y.outputs(theta, x).argmax(1)
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, labels), theta=theta)

    def right(radius: float, restarts: int) -> int:
        ball = Ball("l2", radius)
        begin = starts(restarts, 5, ball, generator(0))
        return int(survivors(risk, ball, begin, 10)[0].sum())

    shares = [right(radius, 1) for radius in (0.01, 0.1, 0.3, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 70
    assert right(0.3, 8) <= shares[2]


def test_a_net_that_is_sure_beyond_rounding_is_attacked_all_the_same():
    risk, weight, margins = linear()
    sure = risk.at(1e6 * risk.theta)  # the cross-entropy's gradient would be zero
    single = gt.EmpiricalRisk(sure.module, "cross_entropy", sure.joined(), theta=sure.theta)
    ball = Ball("l2", 0.3)
    right, _ = survivors(single, ball, starts(1, 4, ball, generator(0)), 5)
    assert torch.equal(right, margins > 0.3 * weight.norm())
