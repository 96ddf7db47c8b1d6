"""Stochastic Lanczos quadrature: exact where it must be, calibrated, and a density of mass 1."""

import math

import pytest
import torch
from cases import operator_of
from scipy import stats

from gentheory.errors import InputError
from gentheory.estimate import Estimate
from gentheory.linalg import (
    LinearOperator,
    dense_quadrature,
    hutchinson,
    lanczos_quadrature,
)
from gentheory.seeds import generator


def with_spectrum(values: torch.Tensor) -> torch.Tensor:
    size = len(values)
    a = torch.randn(size, size, generator=generator("slq", size), dtype=torch.float64)
    q = torch.linalg.qr(a)[0]
    return (q * values.double()) @ q.T


@pytest.mark.parametrize("degree", [0, 1, 2, 9])
def test_polynomials_up_to_twice_the_steps_are_exact(degree: int):
    matrix = with_spectrum(torch.linspace(-1, 2, 40))
    found = lanczos_quadrature(
        operator_of(matrix), num_probes=3, num_steps=5, generator=generator(0)
    )
    power = operator_of(torch.linalg.matrix_power(matrix, degree))
    expected = hutchinson(power, num_probes=3, generator=generator(0))
    torch.testing.assert_close(found.traces(lambda e: e**degree), expected, rtol=1e-10, atol=1e-10)


def test_trap_28_weights_are_real_and_sum_to_1():
    matrix = with_spectrum(torch.linspace(-3, 5, 60))
    found = lanczos_quadrature(
        operator_of(matrix), num_probes=4, num_steps=60, generator=generator(1)
    )
    assert found.weights.shape == found.nodes.shape == (4, 60)
    assert (found.weights >= 0).all()
    assert found.weights.sum(1).tolist() == pytest.approx([1.0] * 4, rel=1e-12)
    # With full reorthogonalization no node comes as a ghost copy, even after convergence.
    exact = torch.linalg.eigvalsh(matrix).expand(4, -1)
    torch.testing.assert_close(found.nodes, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_trap_27_exhausted_probes_are_complete(scale: float):
    values = torch.cat([torch.tensor([4.0, 1.0]), torch.zeros(28)])
    matrix = scale * with_spectrum(values)
    found = lanczos_quadrature(
        operator_of(matrix), num_probes=3, num_steps=12, generator=generator(2)
    )
    expected = hutchinson(operator_of(matrix @ matrix), num_probes=3, generator=generator(2))
    torch.testing.assert_close(found.traces(torch.square), expected, rtol=1e-9, atol=0)
    assert found.weights.sum(1).tolist() == pytest.approx([1.0] * 3, rel=1e-12)
    assert found.nodes[found.weights > 1e-12].max().item() == pytest.approx(4 * scale, rel=1e-9)


def test_two_hundred_seeds_give_standard_scores():
    values = torch.linspace(0.1, 3, 50).double()
    operator, truth = operator_of(with_spectrum(values)), values.sqrt().sum().item()
    found = [
        Estimate.from_samples(
            lanczos_quadrature(
                operator, num_probes=16, num_steps=20, generator=generator("sqrt", s)
            ).traces(torch.sqrt)
        )
        for s in range(200)
    ]
    scores = torch.tensor([(e.value - truth) / e.stderr for e in found])
    assert stats.kstest(scores.numpy(), stats.t(15).cdf).pvalue > 0.01
    means = torch.tensor([e.value for e in found], dtype=torch.float64)
    assert abs(means.mean() - truth) < 3 * means.std() / math.sqrt(200)


def test_the_band_of_the_density_gives_standard_scores():
    values = torch.cat([torch.linspace(-1, 0, 25), torch.linspace(1, 3, 25)]).double()
    operator, width = operator_of(with_spectrum(values)), 0.3
    scores: list[float] = []
    for seed in range(200):
        quadrature = lanczos_quadrature(
            operator, num_probes=12, num_steps=30, generator=generator("band", seed)
        )
        found = quadrature.density(width=width)
        index = int((found.grid - 0.5).abs().argmin())
        kernels = (-0.5 * ((found.grid[index] - values) / width).square()).exp()
        truth = kernels.mean() / (width * math.sqrt(2 * math.pi))
        scores.append(float((found.density[index] - truth) / found.band[index]))
    assert stats.kstest(scores, stats.t(11).cdf).pvalue > 0.01


SPECTRA = {
    "spread": torch.linspace(-2, 5, 40),
    "one outlier": torch.cat([torch.linspace(0, 1e-3, 39), torch.tensor([100.0])]),
    "all equal": torch.full((9,), 3.0),
    "zero": torch.zeros(9),
    "one by one": torch.tensor([-2.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("width", [None, 0.02])
def test_trap_28_a_common_grid_of_mass_1(name: str, width: float | None):
    operator = operator_of(with_spectrum(SPECTRA[name]))
    quadrature = lanczos_quadrature(operator, num_probes=3, num_steps=30, generator=generator(3))
    found = quadrature.density(width=width)
    assert torch.trapezoid(found.density, found.grid).item() == pytest.approx(1, abs=1e-9)
    assert found.grid[0] <= SPECTRA[name].min() - 4 * found.width
    assert found.grid[-1] >= SPECTRA[name].max() + 4 * found.width
    assert found.grid.diff().max() <= found.width
    assert found.width == (width or found.width) > 0
    assert found.band.shape == found.density.shape == found.grid.shape


def test_trap_39_a_budget_takes_fewer_probes_at_once_with_the_same_result():
    matrix = with_spectrum(torch.linspace(-2, 5, 40))
    blocks: list[int] = []

    def counted(v: torch.Tensor) -> torch.Tensor:
        blocks.append(len(v))
        return v @ matrix

    operator = LinearOperator(counted, 40, matrix.dtype, matrix.device)
    sizes = {"num_probes": 5, "num_steps": 6}
    free = lanczos_quadrature(operator, **sizes, generator=generator(0))
    assert blocks == [5] * 6
    blocks.clear()
    budget = 2 * 10 * 40 * 8
    tight = lanczos_quadrature(operator, **sizes, max_memory=budget, generator=generator(0))
    assert blocks == [2] * 12 + [1] * 6
    torch.testing.assert_close(tight.nodes, free.nodes, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"max_memory: found 999 bytes for 6 steps.* least 3200"):
        lanczos_quadrature(operator, **sizes, max_memory=999, generator=generator(0))


def test_float32_has_float64_tridiagonals():
    matrix = with_spectrum(torch.linspace(0, 1, 30))
    single, double = (
        lanczos_quadrature(operator_of(m), num_probes=2, num_steps=10, generator=generator(0))
        for m in (matrix.float(), matrix)
    )
    assert single.nodes.dtype == torch.float64
    torch.testing.assert_close(single.nodes, double.nodes, rtol=0, atol=1e-4)


def test_dense_quadrature_is_exact():
    matrix = with_spectrum(torch.linspace(-1, 4, 12))
    found = dense_quadrature(operator_of(matrix))
    assert found.traces(lambda e: e).tolist() == pytest.approx([matrix.trace().item()], rel=1e-12)


def test_what_it_refuses():
    skew = torch.triu(torch.ones(6, 6, dtype=torch.float64))
    operator = LinearOperator(lambda v: v @ skew, 6, skew.dtype, skew.device)
    with pytest.raises(InputError, match="quadrature: found an operator with uᵀAv other than vᵀAu"):
        lanczos_quadrature(operator, num_probes=4, num_steps=3, generator=generator(0))
    with pytest.raises(FloatingPointError, match="quadrature: a product with the operator is not"):
        lanczos_quadrature(
            operator_of(torch.full((3, 3), torch.nan)),
            num_probes=2,
            num_steps=2,
            generator=generator(0),
        )
