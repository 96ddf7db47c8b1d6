"""Margins with their sign, quantiles with their error, accuracies of many vectors."""

import math

import numpy as np
import pytest
import torch
from cases import CASES
from scipy import stats

import gentheory as gt
from gentheory import predictions
from gentheory.checkpoint import Checkpoint
from gentheory.predictions import accuracies_at, margins, positive_margin, quantile


def test_margins_are_own_output_less_the_best_other():
    risk = CASES["mlp"].risk()
    inputs, targets = CASES["mlp"].data
    outputs = risk.outputs(risk.theta, inputs)
    expected = [
        float(z[y]) - max(float(z[k]) for k in range(3) if k != y)
        for z, y in zip(outputs, targets.tolist(), strict=True)
    ]
    assert margins("here", risk).tolist() == pytest.approx(expected)
    correct = (outputs.argmax(1) == targets).double().mean()
    assert (margins("here", risk) > 0).double().mean() == correct
    assert accuracies_at(risk, risk.theta[None]).item() == pytest.approx(correct)


@pytest.mark.parametrize("name", ["linear net", "gelu residual"])
def test_targets_that_are_not_classes_have_no_margin(name: str):
    with pytest.raises(gt.InputError, match="here: found targets torch"):
        margins("here", CASES[name].risk())


def test_one_output_has_no_margin():
    data = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(4).long()
    risk = gt.EmpiricalRisk(torch.nn.Linear(2, 1), "mse", data)
    with pytest.raises(gt.InputError, match="1 outputs"):
        margins("here", risk)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_error_of_a_quantile_is_the_bootstraps(share: float):
    stream, resamples = np.random.default_rng(0), 40_000
    sample = stream.normal(size=57)
    found = quantile(torch.from_numpy(sample), share)
    assert found.value == pytest.approx(np.quantile(sample, share))
    rank = math.floor(share * 57 + 0.5) - 1
    drawn = np.sort(stream.choice(sample, (resamples, 57)), axis=1)[:, rank]
    # Relative error of a standard deviation from as many draws, four times over.
    kurtosis = stats.kurtosis(drawn, fisher=False)
    assert found.stderr == pytest.approx(drawn.std(), rel=2 * math.sqrt(kurtosis / resamples))


def test_trap_25_the_error_of_a_quantile_is_calibrated():
    seeds, n, share = 200, 4000, 0.1
    draws = np.random.default_rng(1).normal(size=(seeds, n))
    found = [quantile(torch.from_numpy(draw), share) for draw in draws]
    scores = np.array([(q.value - stats.norm.ppf(share)) / q.stderr for q in found])
    assert stats.kstest(scores, stats.norm.cdf).pvalue > 0.01
    values = np.array([q.value for q in found])
    assert abs(values.mean() - stats.norm.ppf(share)) < 3 * values.std() / math.sqrt(seeds)


def test_one_example_has_no_error():
    found = quantile(torch.tensor([2.0]), 0.1)
    assert found.value == 2
    assert math.isnan(found.stderr)


def test_a_margin_that_is_not_positive_is_not_divided_by():
    with pytest.raises(gt.InputError, match="here: found a 10th percentile of the margins of -0"):
        positive_margin("here", CASES["mlp"].risk())


def test_accuracies_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["conv"].risk()
    noise = torch.randn(6, risk.num_params, generator=torch.Generator().manual_seed(0))
    thetas = risk.theta + noise.double()
    inputs, targets = CASES["conv"].data
    expected = [(risk.outputs(t, inputs).argmax(1) == targets).double().mean() for t in thetas]
    whole = accuracies_at(risk, thetas)
    monkeypatch.setattr("gentheory.parameter_sets._NUMBERS", 2 * risk.num_params)
    assert torch.equal(accuracies_at(risk, thetas), whole)
    torch.testing.assert_close(whole, torch.stack(expected))
    assert predictions.check_classes("here", risk) is None
    assert Checkpoint(risk).num_training_examples == 7
