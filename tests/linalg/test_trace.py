"""Hutchinson, Hutch++ and XTrace: unbiased, with honest error bars."""

import math

import pytest
import torch
from cases import operator_of
from scipy import stats

from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.linalg import LinearOperator, hutch_pp, hutchinson, xtrace
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


def decaying(size: int) -> torch.Tensor:
    a = torch.randn(size, size, generator=generator("decay", size), dtype=torch.float64)
    q = torch.linalg.qr(a)[0]
    return (q / torch.arange(1, size + 1)) @ q.T


@pytest.mark.parametrize("build", [symmetric, decaying])
@pytest.mark.parametrize("find", [hutch_pp, xtrace])
def test_traps_25_and_26_two_hundred_seeds_give_standard_scores(find, build):
    matrix, seeds = build(60), 200
    truth = matrix.trace().item()
    found = [
        find(operator_of(matrix), num_products=48, generator=generator(find.__name__, s))
        for s in range(seeds)
    ]
    scores = torch.tensor([(e.value - truth) / e.stderr for e in found])
    freedom = found[0].stats["num_samples"] - 1
    assert stats.kstest(scores.numpy(), stats.t(freedom).cdf).pvalue > 0.01
    values = torch.tensor([e.value for e in found], dtype=torch.float64)
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(seeds)


def test_a_decaying_spectrum_leaves_little_to_chance():
    operator, truth = operator_of(decaying(200)), decaying(200).trace().item()
    plain = Estimate.from_samples(hutchinson(operator, num_probes=60, generator=generator(0)))
    for find in (hutch_pp, xtrace):
        found = find(operator, num_products=60, generator=generator(0))
        assert found.stderr < plain.stderr / 3
        assert abs(found.value - truth) < 4 * found.stderr
        assert found.stats["num_products"] == 60


@pytest.mark.parametrize("find", [hutch_pp, xtrace])
@pytest.mark.parametrize("num_products", [30, 36, 90])
def test_trap_26_low_rank_is_exact(find, num_products: int):
    a = torch.randn(80, 3, generator=generator("low"), dtype=torch.float64)
    matrix = a @ torch.diag(torch.tensor([3.0, -2.0, 1.0], dtype=torch.float64)) @ a.T
    found = find(operator_of(matrix), num_products=num_products, generator=generator(0))
    assert found.value == pytest.approx(matrix.trace().item(), rel=1e-11)
    assert found.stderr < 1e-11 * matrix.norm()


@pytest.mark.parametrize("find", [hutch_pp, xtrace])
@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_trap_26_more_products_than_dimensions_are_exact(find, size: int):
    matrix = symmetric(size)
    found = find(operator_of(matrix), num_products=48, generator=generator(0))
    assert found.value == pytest.approx(matrix.trace().item(), rel=1e-12)
    assert found.stderr == 0
    assert found.stats["num_products"] == size


@pytest.mark.parametrize("find", [hutch_pp, xtrace])
def test_products_are_counted_and_zero_is_zero(find):
    calls: list[int] = []

    def block(v: torch.Tensor) -> torch.Tensor:
        calls.append(len(v))
        return 0 * v

    operator = LinearOperator(block, 50, torch.float64, torch.device("cpu"))
    found = find(operator, num_products=30, generator=generator(0))
    assert sum(calls) == found.stats["num_products"] == 30
    assert (found.value, found.stderr) == (0, 0)


def by_hutchinson(operator: LinearOperator, num_products: int, generator: torch.Generator):
    return hutchinson(operator, num_probes=num_products, generator=generator)


@pytest.mark.parametrize("find", [by_hutchinson, hutch_pp, xtrace])
def test_trap_14_asymmetric_and_infinite_products_are_noticed(find):
    noise = torch.randn(40, 40, generator=generator("noise"), dtype=torch.float64)
    skew = LinearOperator(lambda v: v @ noise, 40, noise.dtype, noise.device)
    with pytest.raises(InputError, match="found an operator with uᵀAv other than vᵀAu"):
        find(skew, num_products=12, generator=generator(0))
    with pytest.raises(FloatingPointError, match="a product with the operator is not finite"):
        find(operator_of(torch.full((40, 40), torch.inf)), num_products=12, generator=generator(0))


@pytest.mark.parametrize("find", [hutch_pp, xtrace])
def test_float32_agrees_with_float64(find):
    matrix = decaying(60)
    single, double = (
        find(operator_of(m), num_products=30, generator=generator(0))
        for m in (matrix.float(), matrix)
    )
    assert single.value == pytest.approx(double.value, rel=1e-4)


@pytest.mark.parametrize(("find", "least"), [(hutch_pp, 6), (xtrace, 4)])
def test_too_few_products_are_refused(find, least: int):
    with pytest.raises(InputError, match=f"num_products: found 3, expected at least {least}"):
        find(operator_of(symmetric(9)), num_products=3, generator=generator(0))
