"""Noise and coherence against gradients from a loop, and against a population known in full."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, Case, truth
from scipy import stats
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.measures import noise
from gentheory.seeds import generator


def found(name: str, risk: gt.EmpiricalRisk, **options: Any) -> Estimate:
    return getattr(noise, name)(Checkpoint(risk), generator=generator(0), **options)


def rows_of(case: Case) -> Tensor:
    """[N, P] without weight decay (trap 3)."""
    return truth(case.name).gradients - case.weight_decay * truth(case.name).theta


def variance(rows: Tensor) -> Tensor:
    return rows.var(0).sum()


def scale(rows: Tensor) -> Tensor:
    return variance(rows) / rows.mean(0).square().sum()


def unbiased_scale(rows: Tensor) -> Tensor:
    return variance(rows) / (rows.mean(0).square().sum() - variance(rows) / len(rows))


def coherence(rows: Tensor) -> Tensor:
    return rows.sum(0).square().sum() / rows.square().sum()


def stiffness(rows: Tensor) -> Tensor:
    cosines = torch.corrcoef(torch.cat([rows, -rows], 1))  # centred at 0: a correlation is a cosine
    return (cosines.sum() - len(rows)) / (len(rows) * (len(rows) - 1))


def gsnr(rows: Tensor) -> Tensor:
    sizes = rows.square().mean(0).sqrt()
    seen = sizes > 1e-13 * sizes.max()  # softmax does not see a key's bias
    return (rows.mean(0).square() / rows.var(0))[seen].mean()


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "variance": variance,
    "scale": scale,
    "coherence": coherence,
    "stiffness": stiffness,
    "gsnr": gsnr,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_looped_gradients(case: Case, name: str):
    rows = rows_of(case)
    assert found(name, case.risk()).value == pytest.approx(FORMULAS[name](rows).item(), rel=1e-8)


@pytest.mark.parametrize("name", ["variance", "scale", "stiffness"])
def test_errors_are_the_jackknife_s(name: str):
    rows = rows_of(CASES["conv"])
    index = torch.arange(len(rows))
    left_out = torch.stack([FORMULAS[name](rows[index != i]) for i in index])
    n = len(rows)
    wanted = ((n - 1) / n * (left_out - left_out.mean()).square().sum()).sqrt().item()
    assert found(name, CASES["conv"].risk()).stderr == pytest.approx(wanted, rel=1e-8)


def test_coherence_is_between_none_and_all():
    x, y = CASES["mlp"].data
    same = gt.EmpiricalRisk(
        CASES["mlp"].module, "cross_entropy", (x[:1].repeat(8, 1), y[:1].repeat(8))
    )
    assert found("coherence", same).value == pytest.approx(8, rel=1e-12)
    assert found("coherence", same).stats["share"] == pytest.approx(1, rel=1e-12)
    assert found("stiffness", same).value == pytest.approx(1, rel=1e-12)
    net = nn.Linear(4, 1, bias=False).double()
    apart = gt.EmpiricalRisk(net, "mse", (torch.eye(4).double(), torch.ones(4, 1).double() * 9))
    assert found("coherence", apart).value == pytest.approx(1, rel=1e-12)
    assert found("stiffness", apart).value == pytest.approx(0, abs=1e-12)


WIDTH, NOISE = 4, 0.5


def signs(seed: int, count: int = 400) -> gt.EmpiricalRisk:
    """y = xᵀw + noise with x of random signs: g = 2x(xᵀδ + noise), δ what the weights are off."""
    stream = generator("signs", seed)
    x = torch.randint(2, (count, WIDTH), generator=stream).double() * 2 - 1
    y = NOISE * torch.randn(count, 1, generator=stream, dtype=torch.float64)
    theta = torch.full((WIDTH,), 0.3, dtype=torch.float64)
    return gt.EmpiricalRisk(nn.Linear(WIDTH, 1, bias=False).double(), "mse", (x, y), theta=theta)


SIGNAL = 4 * WIDTH * 0.3**2  # |E g|²
SECOND = 4 * WIDTH * (WIDTH * 0.3**2 + NOISE**2)  # E |g|²
POPULATION = {
    "variance": ({}, SECOND - SIGNAL),
    "scale": ({"unbiased": True}, (SECOND - SIGNAL) / SIGNAL),
    "stiffness": ({}, None),
}


@pytest.mark.parametrize("name", POPULATION)
def test_two_hundred_draws_of_the_examples_give_standard_scores(name: str):
    """The ratio has a bias of the order of 1/N; a direction's mean has no closed form."""
    options, expected = POPULATION[name]
    drawn = [found(name, signs(seed), **options) for seed in range(200)]
    values = np.array([e.value for e in drawn])
    if expected is None:
        expected = found(name, signs(1000, 100_000)).value
    scores = (values - expected) / np.array([e.stderr for e in drawn])
    assert stats.kstest(scores, stats.norm.cdf).pvalue > 0.01
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(len(values))


def test_trap_6_the_plain_scale_is_that_of_the_examples_and_stays_below_their_number():
    few, many = found("scale", signs(0, 20)), found("scale", signs(0, 20_000))
    assert few.value < 20
    assert many.value == pytest.approx((SECOND - SIGNAL) / SIGNAL, rel=0.1)
    whole = found("scale", signs(0, 400))
    corrected = found("scale", signs(0, 400), unbiased=True)
    count, noise_part = 400, whole.stats["variance"] / 400
    assert whole.stats["num_examples"] == count
    wanted = whole.stats["squared_gradient"] - noise_part
    assert whole.stats["squared_signal"] == pytest.approx(wanted, rel=1e-10)
    assert corrected.value == pytest.approx(whole.stats["variance"] / wanted, rel=1e-10)


def minimum() -> gt.EmpiricalRisk:
    """Where the mean gradient is zero, in steps without rounding."""
    x = torch.tensor([[1.0], [1.0], [1.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]], dtype=torch.float64)
    net = nn.Linear(1, 1, bias=False).double()
    return gt.EmpiricalRisk(net, "mse", (x, y), theta=torch.zeros(1).double())


def test_trap_11_where_the_signal_is_lost():
    with pytest.raises(gt.InputError, match="found a squared gradient of 0, expected more than 0"):
        found("scale", minimum())
    with pytest.raises(gt.InputError, match=r"found a squared gradient of -\S+ beside its noise"):
        found("scale", minimum(), unbiased=True)
    assert found("variance", minimum()).value == pytest.approx(40 / 3)
    assert found("coherence", minimum()).value == 0


def test_noise_alone_has_a_gsnr_of_one_over_n():
    x = torch.randn(500, 200, generator=generator("noise"), dtype=torch.float64)
    y = torch.randn(500, 1, generator=generator("labels"), dtype=torch.float64)
    net = nn.Linear(200, 1, bias=False).double()
    risk = gt.EmpiricalRisk(net, "mse", (x, y), theta=torch.zeros(200).double())
    ratio = found("gsnr", risk)
    assert ratio.value == pytest.approx(ratio.stats["floor"], rel=0.3)
    assert ratio.stats["floor"] == 1 / 500


def test_trap_17_parameters_that_never_matter_are_left_out():
    ratio = found("gsnr", CASES["unused"].risk())
    dead = int((rows_of(CASES["unused"]).abs().sum(0) == 0).sum())
    assert dead > 0
    assert ratio.stats["num_params"] == CASES["unused"].risk().num_params - dead
    assert ratio.warnings == ()
    attention = found("gsnr", CASES["attention"].risk())
    assert attention.stats["num_params"] == CASES["attention"].risk().num_params - 4


def test_a_gradient_that_does_not_vary_is_left_out_with_a_warning():
    x = torch.randn(10, 2, generator=generator("still"), dtype=torch.float64)
    net = nn.Linear(2, 1).double()
    risk = gt.EmpiricalRisk(net, lambda f, y: f[:, 0], (x, torch.zeros(10)))
    ratio = found("gsnr", risk)
    assert ratio.warnings == ("1 parameters with the same gradient for every example are left out",)
    assert ratio.value == pytest.approx((x.mean(0).square() / x.var(0)).mean().item())
    still = gt.EmpiricalRisk(net, lambda f, y: f[:, 0], (x[:1].repeat(5, 1), torch.zeros(5)))
    with pytest.raises(gt.InputError, match="found the same gradient for every example"):
        found("gsnr", still)


@pytest.mark.parametrize(("name", "least"), [("scale", 3), ("variance", 3), ("gsnr", 2)])
def test_too_few_examples(name: str, least: int):
    x, y = CASES["mlp"].data
    risk = gt.EmpiricalRisk(CASES["mlp"].module, "cross_entropy", (x[:1], y[:1]))
    with pytest.raises(gt.InputError, match=f"1 examples .*, expected at least {least}"):
        found(name, risk)


@pytest.mark.parametrize(("name", "message"), [("coherence", "all 0"), ("stiffness", "0 examples")])
def test_no_gradient_at_all(name: str, message: str):
    x = CASES["mlp"].data[0]
    net = CASES["mlp"].module
    risk = gt.EmpiricalRisk(net, "mse", (x, net(x).detach()))
    with pytest.raises(gt.InputError, match=message):
        found(name, risk)


def test_trap_30_float32_gradients_are_summed_in_float64():
    for name, formula in FORMULAS.items():
        value = found(name, CASES["conv"].risk(dtype=torch.float32)).value
        assert value == pytest.approx(formula(rows_of(CASES["conv"])).item(), rel=1e-3)
