"""Hutchinson's estimator: unbiased, of known variance, with an honest error bar."""

import math

import pytest
import torch
from cases import operator_of
from scipy import stats

from gentheory.estimate import Estimate
from gentheory.linalg import hutchinson
from gentheory.seeds import generator


def symmetric(size: int) -> torch.Tensor:
    a = torch.randn(size, size, generator=generator("trace", size), dtype=torch.float64)
    return (a + a.T) / 2


def test_trap_25_two_hundred_seeds_give_standard_scores():
    matrix, probes, seeds = symmetric(40), 64, 200
    truth = matrix.trace().item()
    estimates = [
        Estimate.from_samples(
            hutchinson(operator_of(matrix), num_probes=probes, generator=generator("seed", s))
        )
        for s in range(seeds)
    ]
    scores = torch.tensor([(e.value - truth) / e.stderr for e in estimates])
    # 64 probes: the scores follow Student's distribution with 63 degrees of freedom.
    assert stats.kstest(scores.numpy(), stats.t(probes - 1).cdf).pvalue > 0.01
    values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(seeds)


def test_variance_of_a_sample_is_twice_the_squares_off_the_diagonal():
    matrix, count = symmetric(12), 20_000
    samples = hutchinson(operator_of(matrix), num_probes=count, generator=generator("variance"))
    off = matrix - torch.diag(matrix.diagonal())
    expected = 2 * float(off.square().sum())
    fourth = float((samples - samples.mean()).pow(4).mean())
    error = math.sqrt((fourth - expected**2) / count)
    assert abs(float(samples.var()) - expected) < 3 * error


def test_a_diagonal_operator_has_no_variance():
    matrix = torch.diag(torch.tensor([3.0, -1.0, 0.5, 0.0], dtype=torch.float64))
    samples = hutchinson(operator_of(matrix), num_probes=5, generator=generator(0))
    assert samples.tolist() == [2.5] * 5


def test_samples_of_a_float32_operator_are_float64():
    matrix = symmetric(8).float()
    samples = hutchinson(operator_of(matrix), num_probes=4, generator=generator(0))
    assert samples.dtype == torch.float64
    again = hutchinson(operator_of(matrix.double()), num_probes=4, generator=generator(0))
    assert samples.tolist() == pytest.approx(again.tolist(), rel=1e-5)
