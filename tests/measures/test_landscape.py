"""Landscape measures against closed forms of quadratics, loops and the law of running means."""

from functools import cache

import pytest
import torch
from cases import CASES, initial_of, regression
from scipy import stats
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.landscape import directions, slices
from gentheory.measures import landscape
from gentheory.seeds import generator


@cache
def hessian() -> Tensor:
    """Of the quadratic."""
    risk = regression()
    return gt.hessian(risk)(torch.eye(risk.num_params, dtype=risk.dtype))


def normal_scores(scores: list[float]) -> None:
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert abs(sum(scores)) < 3 * len(scores) ** 0.5


def test_the_line_of_a_quadratic_rises_by_the_mean_eigenvalue():
    """The rise along a unit vector is ρ²/2 dᵀHd, whose mean over the sphere is ρ²/2 tr H / P."""
    truth = 0.7**2 / 2 * hessian().trace().item() / len(hessian())
    scores: list[float] = []
    for seed in range(200):
        found = landscape.line(
            Checkpoint(regression()),
            normalization="none",
            num_directions=64,
            num_points=3,
            distance=0.7,
            generator=generator(seed),
        )
        scores.append((found.value - truth) / found.stderr)
    normal_scores(scores)


def test_the_plane_of_a_quadratic_rises_by_the_mean_square_of_its_coordinates():
    places = torch.linspace(-0.7, 0.7, 3, dtype=torch.float64)
    mean = torch.trapezoid(places.square(), places).item() / 1.4
    truth = mean * hessian().trace().item() / len(hessian())
    scores: list[float] = []
    for seed in range(200):
        found = landscape.plane(
            Checkpoint(regression()),
            normalization="none",
            num_planes=16,
            num_points=3,
            distance=0.7,
            generator=generator(seed),
        )
        scores.append((found.value - truth) / found.stderr)
    normal_scores(scores)


@pytest.mark.parametrize("normalization", ["filter", "layer"])
def test_a_line_is_the_loop_over_its_directions(normalization: str):
    risk = CASES["conv"].risk(weight_decay=0.3)
    found = landscape.line(
        Checkpoint(risk), normalization=normalization, distance=0.5, generator=generator(3)
    )
    normalized = getattr(directions, f"{normalization}_normalized")
    ways = normalized(risk, directions.random(risk, 8, generator=generator(3)))
    losses = [
        [risk.example_losses(risk.theta + a * d).mean() for a in (-0.5, 0, 0.5)] for d in ways
    ]
    low, middle, high = torch.tensor(losses, dtype=torch.float64).T
    rises = (low + high) / 2 - middle
    assert found.stats["rises"] == pytest.approx(rises.tolist(), rel=1e-9)
    assert found.value == pytest.approx(rises.mean().item(), rel=1e-9)
    assert found.stats["distances"] == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert found.stats["losses"][2] == pytest.approx(middle[0].item(), rel=1e-12)
    error = risk.example_losses().std().item() / risk.num_examples**0.5
    assert found.stats["loss_stderr"] == pytest.approx(error, rel=1e-9)


def test_a_plane_keeps_the_losses_of_its_first_pair():
    risk = CASES["mlp"].risk()
    found = landscape.plane(Checkpoint(risk), num_points=3, distance=0.2, generator=generator(3))
    pairs = directions.filter_normalized(risk, directions.random(risk, 8, generator=generator(3)))
    table = slices.plane(risk, pairs[:2], first=[-0.2, 0, 0.2], second=[-0.2, 0, 0.2])
    losses = torch.tensor(found.stats["losses"]).double()
    expected = torch.tensor(table["loss"].to_numpy()).view(3, 3)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    weights = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    rise = weights @ expected @ weights - expected[1, 1]
    assert found.stats["rises"][0] == pytest.approx(rise.item(), rel=1e-9)
    cosine = torch.cosine_similarity(pairs[0], pairs[1], dim=0).item()
    assert found.stats["cosines"][0] == pytest.approx(cosine)


def test_statistics_of_batch_norm_are_taken_anew_where_asked():
    subject = Checkpoint(CASES["batch norm"].risk(), initial_of(CASES["batch norm"].risk()))
    for measure in (landscape.line, landscape.plane, landscape.barrier):
        kept, anew = (
            measure(subject, batch_norm=policy, generator=generator(0))
            for policy in ("keep", "reestimate")
        )
        assert kept.stats["losses"] != anew.stats["losses"]
        assert (kept.stats["batch_norm"], anew.stats["batch_norm"]) == ("keep", "reestimate")


def test_the_barrier_is_that_of_the_way_to_the_start():
    risk = CASES["mlp"].risk()
    other = risk.theta + directions.random(risk, 1, generator=generator(1))[0]
    found = landscape.barrier(Checkpoint(risk, other), num_points=9, generator=generator(0))
    expected = slices.barrier(risk, other, num_points=9)
    assert (found.value, found.stderr) == (expected.height, expected.stderr)
    assert found.stats["position"] == expected.position
    assert found.stats["losses"] == expected.table["loss"].tolist()


def test_the_smallest_eigenvalue_over_the_largest():
    risk = CASES["skip"].risk()
    eye = torch.eye(risk.num_params, dtype=risk.dtype)
    values = torch.linalg.eigvalsh(gt.hessian(risk)(eye) - risk.weight_decay * eye)
    found = landscape.non_convexity(Checkpoint(risk), rtol=1e-8, generator=generator(0))
    assert values[0] < 0
    assert found.value == pytest.approx((-values[0] / values[-1]).item(), rel=1e-6)
    assert abs(found.value + (values[0] / values[-1]).item()) <= found.stderr + 1e-12
    convex = landscape.non_convexity(Checkpoint(regression()), generator=generator(0))
    assert convex.value < 1e-12
    short = landscape.non_convexity(Checkpoint(risk), max_steps=2, generator=generator(0))
    assert "after 2 products" in short.warnings[0]
    with pytest.raises(InputError, match="largest eigenvalue of 0, expected a positive one"):
        landscape.non_convexity(Checkpoint(flat()), generator=generator(0))


def flat() -> gt.EmpiricalRisk:
    """A loss that is linear in the parameters."""
    x, y = regression().joined()
    return gt.EmpiricalRisk(regression().module, lambda f, t: (f * t).sum(1), (x, y))


class Own(nn.Module):
    """The loss of an example is its input, whatever the parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.w


def of_losses(losses: Tensor) -> gt.EmpiricalRisk:
    data = losses.double()[:, None], torch.zeros(len(losses), dtype=torch.int64)
    return gt.EmpiricalRisk(Own(), lambda outputs, targets: outputs[:, 0], data)


def exponential(count: int) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    return torch.empty(count, dtype=torch.float64).exponential_(generator=stream)


def test_the_move_of_the_mean_is_that_of_the_identity():
    losses = exponential(300)
    moves = landscape._moves(losses, torch.Generator().manual_seed(5))
    order = torch.randperm(300, generator=torch.Generator().manual_seed(5))
    means = losses[order].cumsum(0) / torch.arange(1, 301)
    torch.testing.assert_close(moves, means.diff().abs(), rtol=0, atol=1e-12)


def test_the_slope_at_a_point_is_minus_one_by_the_law_of_the_running_mean():
    found = landscape.convergence(Checkpoint(of_losses(exponential(1000))), generator=generator(0))
    assert -1.1 < found.value < -0.9
    assert 0 < found.stderr < 0.02
    assert "whatever the landscape" in found.warnings[0]
    losses = exponential(1000)
    others = (losses.sum() - losses) / 999
    assert found.stats["level"] == pytest.approx((losses - others).abs().mean().item(), rel=1e-10)


def test_error_bars_of_the_slope_cover_the_draw_of_the_orders():
    subject = Checkpoint(of_losses(exponential(60)))
    found = [landscape.convergence(subject, generator=generator(seed)) for seed in range(200)]
    truth = sum(each.value for each in found) / 200
    assert stats.kstest([(e.value - truth) / e.stderr for e in found], "norm").pvalue > 0.01


def wide_apart() -> gt.EmpiricalRisk:
    """Squared errors of about 10⁴ and of about 1: which are above their mean never changes."""
    x, y = regression().joined()
    y[::2] += 100
    return gt.EmpiricalRisk(regression().module, "mse", (x, y), theta=regression().theta)


def test_the_level_grows_with_the_square_of_the_radius():
    """Where no deviation changes its sign, A is ½ δᵀMδ with M = Σ s_i (H_i − H̄) / (N − 1)."""
    risk = wide_apart()
    found = landscape.convergence_in_ball(
        Checkpoint(risk), relative_radius=0.1, rtol=1e-8, generator=generator(0)
    )
    assert found.stats["exponent"] == pytest.approx(2, abs=1e-6)
    eye = torch.eye(risk.num_params, dtype=risk.dtype)
    top = torch.linalg.eigvalsh(gt.hessian(risk)(eye))[-1].item()
    assert found.stats["largest_eigenvalue"] == pytest.approx(top, rel=1e-6)
    assert found.stats["per_curvature"] == pytest.approx(found.value / top, rel=1e-6)
    losses = risk.example_losses()
    signs = (losses - losses.mean()).sign()
    x, _ = risk.joined()
    rows = torch.cat([x, torch.ones(20, 1).double()], 1)
    blocks = torch.einsum("n,na,nb->ab", signs - signs.mean(), rows, rows) / 19
    bounds = torch.linalg.eigvalsh(blocks)
    assert bounds[0] <= 2 * found.value <= bounds[-1]


def test_error_bars_of_the_growth_cover_the_draws():
    """E δᵀMδ over a ball of radius R in P dimensions is R² tr M / (P + 2)."""
    risk = wide_apart()
    losses = risk.example_losses()
    signs = (losses - losses.mean()).sign()
    x, _ = risk.joined()
    squares = x.square().sum(1) + 1
    # Each of two outputs has x and 1 as its gradient, and the loss is the mean of their squares.
    trace = ((signs - signs.mean()) * 2 * squares).sum() / 19
    truth = trace.item() / 2 / (risk.num_params + 2)
    scores: list[float] = []
    for seed in range(200):
        found = landscape.convergence_in_ball(
            Checkpoint(risk),
            relative_radius=0.1,
            num_radii=2,
            num_draws=24,
            generator=generator(seed),
        )
        scores.append((found.value - truth) / found.stderr)
    normal_scores(scores)


def test_options_that_make_no_sense_are_refused():
    subject = Checkpoint(CASES["mlp"].risk())
    for measure, options, message in (
        (landscape.line, {"num_points": 4}, "found 4, expected an odd number from 3 on"),
        (landscape.line, {"num_directions": 1}, "num_directions: found 1, expected at least 2"),
        (landscape.plane, {"distance": 0.0}, r"distance: found 0\.0, expected a number above 0"),
        (landscape.plane, {"num_planes": 1}, "num_planes: found 1"),
        (landscape.line, {"normalization": "row"}, "found 'row', expected 'filter'"),
        (landscape.barrier, {}, "found no initial parameters"),
        (landscape.convergence, {"num_orders": 1}, "num_orders: found 1"),
        (landscape.convergence_in_ball, {"num_radii": 1}, "num_radii: found 1"),
        (landscape.convergence_in_ball, {"relative_radius": -1.0}, r"found -1\.0, expected"),
    ):
        with pytest.raises(InputError, match=message):
            measure(subject, **options, generator=generator(0))


def test_what_has_no_convergence_is_refused():
    for losses, message in (
        (exponential(3), "found 3 examples, expected four examples"),
        (torch.ones(9), "found the same loss for all examples"),
    ):
        with pytest.raises(InputError, match=message):
            landscape.convergence(Checkpoint(of_losses(losses)), generator=generator(0))
    still = CASES["mlp"].risk().at(torch.zeros(CASES["mlp"].risk().num_params).double())
    x, y = regression().joined()
    zero = gt.EmpiricalRisk(regression().module, "mse", (x, y), theta=torch.zeros(8).double())
    with pytest.raises(InputError, match="found the same loss for all examples"):
        landscape.convergence_in_ball(Checkpoint(still), generator=generator(0))
    with pytest.raises(InputError, match="found parameters of zeros"):
        landscape.convergence_in_ball(Checkpoint(zero), generator=generator(0))
