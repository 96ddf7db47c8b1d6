"""The scale of noise that costs accuracy, against the normal distribution of a linear net."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import brentq

import gentheory as gt
from gentheory import noise_scale as module
from gentheory.noise_scale import NoiseScale, noise_scale
from gentheory.seeds import generator

DROP = 0.1


@cache
def risk() -> gt.EmpiricalRisk:
    """A linear classifier of two classes that gets nearly all of its examples right."""
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 5, generator=stream, dtype=torch.float64)
    net = torch.nn.Linear(5, 2).double()
    torch.nn.init.normal_(net.weight, generator=stream)
    torch.nn.init.normal_(net.bias, generator=stream)
    targets = net(inputs).argmax(1)
    targets[:6] = 1 - targets[:6]
    return gt.EmpiricalRisk(net, "cross_entropy", (inputs, targets))


def exact(drop: float) -> float:
    """Noise on both rows and biases: the margin is normal, of variance 2 σ² (|x|² + 1)."""
    inputs, targets = next(risk().batches())
    outputs = risk().outputs(risk().theta, inputs).detach()
    own = outputs.gather(1, targets[:, None])[:, 0]
    other = outputs.gather(1, 1 - targets[:, None])[:, 0]
    reach = (2 * (inputs.square().sum(1) + 1)).sqrt()
    scores = ((own - other) / reach).numpy()
    accuracy = (scores > 0).mean()
    return float(
        brentq(lambda s: accuracy - stats.norm.cdf(scores / s).mean() - drop, 1e-3, 10)  # pyright: ignore[reportArgumentType]
    )


def plain(scale: float) -> torch.Tensor:
    return torch.full_like(risk().theta, scale)


def found(seed: int, num_draws: int = 64, **options: float) -> NoiseScale:
    options = {"start": 0.1, "drop": DROP, **options}
    return noise_scale(
        "here", risk(), plain, num_draws=num_draws, generator=generator("noise", seed), **options
    )


def test_trap_24_sigma_is_a_standard_deviation():
    scale = found(0, num_draws=4000)
    assert abs(scale.value - exact(DROP)) < 3 * scale.stderr
    assert scale.stderr < 0.02 * scale.value
    assert abs(scale.value**2 - exact(DROP)) > 20 * scale.stderr  # what it would be of a variance


def test_trap_25_two_hundred_seeds_give_standard_scores():
    scales = [found(seed) for seed in range(200)]
    truth = exact(DROP)
    scores = np.array([(s.value - truth) / s.stderr for s in scales])
    assert stats.kstest(scores, stats.t(63).cdf).pvalue > 0.01
    values = np.array([s.value for s in scales])
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(200)


def test_trap_24_the_bracket_is_kept():
    scale = found(0)
    assert scale.low <= scale.value <= scale.high
    assert scale.drop_low < DROP <= scale.drop_high
    assert scale.accuracy == pytest.approx(294 / 300)


@pytest.mark.parametrize("start", [1e-3, 30.0])
def test_the_search_may_begin_anywhere(start: float):
    scale, usual = found(0, start=start), found(0)
    assert abs(scale.value - usual.value) < 0.5 * usual.stderr  # the draws are the same


def test_a_larger_drop_takes_more_noise():
    assert found(0, drop=0.05).value < found(0).value < found(0, drop=0.2).value
    assert found(1, num_draws=2000, drop=0.2).value == pytest.approx(exact(0.2), rel=0.05)


def test_draws_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    whole = found(0, num_draws=16)
    monkeypatch.setattr(module, "_NUMBERS", 3 * risk().num_params)
    assert found(0, num_draws=16) == whole


def test_a_drop_that_no_noise_gives_is_refused():
    with pytest.raises(gt.InputError, match=r"here: found a drop of the accuracy below 0.9"):
        found(0, drop=0.9)
    with pytest.raises(gt.InputError, match=r"here: found an accuracy of 0.98, expected more"):
        found(0, drop=0.99)


def test_noise_that_is_too_wide_at_any_scale_is_refused():
    with pytest.raises(gt.InputError, match=r"the accuracy above 0\.1 at scale"):
        noise_scale(
            "here",
            risk(),
            lambda scale: plain(scale + 5),
            start=0.1,
            drop=DROP,
            num_draws=8,
            generator=generator(0),
        )
