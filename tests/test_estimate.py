"""A number, its error bar, and strict JSON both ways."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from gentheory.estimate import Estimate
from gentheory.seeds import generator

INF, NAN = math.inf, math.nan


def test_mean_and_standard_error_of_samples():
    samples = torch.tensor([0.3, -1.2, 4.4, 0.9, 2.2], dtype=torch.float64)
    estimate = Estimate.from_samples(samples, warnings=("look",), kind="probe")
    assert estimate.value == pytest.approx(np.mean(samples.numpy()), rel=1e-15)
    expected = np.std(samples.numpy(), ddof=1) / math.sqrt(5)
    assert estimate.stderr == pytest.approx(expected, rel=1e-14)
    assert estimate.stats == {"num_samples": 5, "kind": "probe"}
    assert estimate.warnings == ("look",)


def test_one_sample_has_an_unknown_error():
    estimate = Estimate.from_samples(torch.tensor([2.0]))
    assert estimate.value == 2.0
    assert math.isnan(estimate.stderr)


def test_trap_30_float32_samples_are_averaged_in_float64():
    samples = torch.full((100_000,), 0.1, dtype=torch.float32)
    assert Estimate.from_samples(samples).value == pytest.approx(float(samples[0]), rel=1e-14)


def test_samples_may_carry_gradients():
    samples = torch.tensor([1.0, 3.0], requires_grad=True)
    assert Estimate.from_samples(samples).value == 2.0


def test_missing_is_nan_with_a_reason():
    estimate = Estimate.missing("refused", "too large")
    assert (estimate.status, estimate.reason) == ("refused", "too large")
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.stderr)


def test_estimates_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'value'"):
        Estimate(1.0).value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "estimate",
    [
        Estimate(1 / 3, 1e-300),
        Estimate(INF, NAN, status="failed", reason='said "no"\nand left — ö'),
        Estimate(-INF, 0.0, warnings=("one", "two")),
        Estimate(0.0, stats={"list": [1.5, NAN, -INF], "n": 3, "flag": True, "text": "ggn"}),
        Estimate.missing("refused", "why"),
    ],
)
def test_json_round_trip(estimate: Estimate):
    back = Estimate.from_json(estimate.to_json())
    # Neither nan nor an estimate that holds one equals itself: compare what they print.
    assert repr(back) == repr(estimate)


def test_json_is_strict():
    text = Estimate(NAN, INF, stats={"deep": [NAN]}).to_json()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads(text, parse_constant=refuse)
    assert (record["value"], record["stderr"], record["stats"]) == (None, "inf", {"deep": [None]})


def test_ratios_of_means_give_standard_scores():
    scores: list[float] = []
    for seed in range(200):
        pairs = torch.randn(200, 2, generator=generator("ratio", seed), dtype=torch.float64)
        above, below = 3 + pairs[:, 0] + pairs[:, 1], 5 + pairs[:, 1]
        found = Estimate.from_ratio(above, below, note="x")
        scores.append((found.value - 3 / 5) / found.stderr)
    assert found.stats == {"num_samples": 200, "note": "x"}
    assert stats.kstest(scores, "norm").pvalue > 0.01
