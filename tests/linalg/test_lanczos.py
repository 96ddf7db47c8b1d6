"""Lanczos against dense eigendecompositions, with the spectra that break it."""

import math

import pytest
import torch
from cases import operator_of
from oracle import relative_error

from gentheory.errors import InputError
from gentheory.linalg import LinearOperator, extremes, largest, smallest
from gentheory.linalg.krylov import Basis
from gentheory.seeds import generator


def with_spectrum(values: list[float] | torch.Tensor, seed: int = 0) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    a = torch.randn(len(values), len(values), generator=generator("q", seed), dtype=torch.float64)
    q = torch.linalg.qr(a)[0]
    return q @ torch.diag(values) @ q.T


def counted(matrix: torch.Tensor) -> tuple[LinearOperator, list[int]]:
    calls: list[int] = []

    def block(v: torch.Tensor) -> torch.Tensor:
        calls.append(len(v))
        return v @ matrix

    return LinearOperator(block, len(matrix), matrix.dtype, matrix.device), calls


SPECTRA = {
    "decaying": 2.0 ** -torch.arange(60.0),
    "indefinite": torch.linspace(-3, 2, 50),
    "negative": torch.linspace(-3, -1, 20),
    "one outlier": torch.cat([torch.linspace(0, 1, 99), torch.tensor([50.0])]),
    "larger below": torch.cat([torch.linspace(0, 1, 40), torch.tensor([-100.0])]),
    "bulk at zero": torch.cat([torch.zeros(80), torch.tensor([1.0, 2.0, 5.0])]),
    "all equal": torch.full((12,), 3.0),
    "pairs": torch.arange(1.0, 21.0).repeat_interleave(2),
    "triple at the top": torch.cat([torch.linspace(-1, 4, 30), torch.full((3,), 5.0)]),
    "zero": torch.zeros(9),
    "one by one": torch.tensor([-2.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [1, 4])
def test_largest_eigenpairs_are_those_of_eigh(name: str, k: int):
    matrix = with_spectrum(SPECTRA[name])
    pairs = largest(operator_of(matrix), k, rtol=1e-10, generator=generator("lanczos", name))
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:k]
    scale = SPECTRA[name].abs().max().item()
    assert pairs.converged or scale == 0
    assert (pairs.values - expected).abs().max() <= 1e-9 * scale + 1e-12
    gram = pairs.vectors @ pairs.vectors.T
    assert torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype), atol=1e-8)


@pytest.mark.parametrize("name", ["decaying", "indefinite", "pairs"])
def test_residuals_are_honest(name: str):
    matrix = with_spectrum(SPECTRA[name])
    pairs = largest(operator_of(matrix), 3, rtol=1e-3, generator=generator(0))
    for value, x, residual in zip(pairs.values, pairs.vectors, pairs.residuals, strict=True):
        assert x.norm().item() == pytest.approx(1.0, rel=1e-14)
        recomputed = (matrix @ x - value * x).norm().item()
        assert residual.item() == pytest.approx(recomputed, rel=1e-6, abs=1e-13)
        # An eigenvalue lies within the residual.
        assert (torch.linalg.eigvalsh(matrix) - value).abs().min() <= residual + 1e-13
    assert pairs.converged == bool((pairs.residuals <= 1e-3 * SPECTRA[name].abs().max()).all())


def test_trap_27_no_ghost_copies_after_convergence():
    """Without reorthogonalization the outlier comes several times once it has converged."""
    matrix = with_spectrum(torch.cat([torch.linspace(0, 1, 199), torch.tensor([1e4])]))
    pairs = largest(operator_of(matrix), 5, rtol=1e-9, max_steps=200, generator=generator(2))
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:5]
    assert (pairs.values - expected).abs().max() < 1e-9 * 1e4
    assert (pairs.values > 100).sum() == 1


@pytest.mark.parametrize("k", [2, 3, 6])
def test_multiple_eigenvalues_come_as_often_as_they_are(k: int):
    """The GGN of a linear model under mse has each eigenvalue once for each output."""
    distinct = torch.tensor([9.0, 7.0, 4.0, 1.0]).repeat_interleave(3)
    matrix = with_spectrum(torch.cat([distinct, torch.linspace(0, 0.5, 48)]))
    pairs = largest(operator_of(matrix), k, rtol=1e-8, generator=generator(5))
    assert pairs.values.tolist() == pytest.approx(([9.0] * 3 + [7.0] * 3)[:k], rel=1e-9)
    assert pairs.converged


def test_an_invariant_subspace_is_left_for_a_new_direction():
    rank_two = with_spectrum([4.0, 1.0] + [0.0] * 28)
    pairs = largest(operator_of(rank_two), 6, rtol=1e-8, generator=generator(0))
    assert pairs.values.tolist() == pytest.approx([4.0, 1.0, 0.0, 0.0, 0.0, 0.0], abs=1e-12)
    assert pairs.converged
    assert pairs.residuals.max() < 1e-12


@pytest.mark.parametrize("k", [5, 8])
def test_more_pairs_than_dimensions(k: int):
    matrix = with_spectrum([3.0, 1.0, 0.0, -1.0, -4.0])
    pairs = largest(operator_of(matrix), k, generator=generator(0))
    assert pairs.values.tolist() == pytest.approx([3.0, 1.0, 0.0, -1.0, -4.0], abs=1e-12)
    assert pairs.vectors.shape == (5, 5)


@pytest.mark.parametrize("name", ["decaying", "one outlier", "bulk at zero", "pairs"])
def test_float32_reaches_its_own_precision(name: str):
    matrix = with_spectrum(SPECTRA[name])
    pairs = largest(operator_of(matrix.float()), 4, rtol=1e-4, generator=generator(1))
    expected = torch.linalg.eigvalsh(matrix).flip(0)[:4]
    assert pairs.converged
    assert pairs.values.dtype == torch.float64
    assert pairs.vectors.dtype == torch.float32
    assert relative_error(pairs.values, expected) < 1e-4


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("name", ["indefinite", "bulk at zero"])
def test_trap_27_breakdown_is_relative_to_the_operator(name: str, scale: float):
    matrix = with_spectrum(SPECTRA[name])
    pairs = largest(operator_of(matrix), 3, rtol=1e-9, generator=generator(0))
    scaled = largest(operator_of(scale * matrix), 3, rtol=1e-9, generator=generator(0))
    assert relative_error(scaled.values / scale, pairs.values) < 1e-9
    assert scaled.converged
    assert abs(scaled.num_products - pairs.num_products) <= 5  # rounding may cost one look more


def test_an_early_stop_says_so():
    matrix = with_spectrum(torch.linspace(0, 1, 200))
    pairs = largest(operator_of(matrix), 3, rtol=1e-8, max_steps=10, generator=generator(0))
    assert not pairs.converged
    assert pairs.residuals.max() > 1e-8
    assert len(largest(operator_of(matrix), 3, max_steps=2, generator=generator(0)).values) == 2


@pytest.mark.parametrize("k", [1, 3])
def test_products_are_counted(k: int):
    operator, calls = counted(with_spectrum(SPECTRA["decaying"]))
    pairs = largest(operator, k, rtol=1e-6, generator=generator(0))
    assert pairs.num_products == sum(calls)
    assert sum(calls) < 60


def test_the_generator_decides_and_repeats():
    operator = operator_of(with_spectrum(SPECTRA["indefinite"]))
    runs = [largest(operator, 2, rtol=1e-3, generator=generator(s)).values for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.allclose(runs[0], runs[2], atol=1e-2)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("k", [1, 4])
def test_trap_29_smallest_are_those_of_eigh(name: str, k: int):
    matrix = with_spectrum(SPECTRA[name])
    pairs = smallest(operator_of(matrix), k, rtol=1e-10, generator=generator("smallest", name))
    expected = torch.linalg.eigvalsh(matrix)[:k]
    scale = SPECTRA[name].abs().max().item()
    assert (pairs.values - expected).abs().max() <= 1e-9 * scale + 1e-12
    products = pairs.vectors @ matrix - pairs.values[:, None] * pairs.vectors
    assert (products.norm(dim=1) <= 1e-9 * scale + 1e-12).all()


@pytest.mark.parametrize("name", SPECTRA)
def test_extremes_are_both_ends_of_one_run(name: str):
    operator, calls = counted(with_spectrum(SPECTRA[name]))
    low, high = extremes(operator, rtol=1e-10, generator=generator("extremes", name))
    scale = SPECTRA[name].abs().max().item()
    assert low.values.tolist() == pytest.approx([SPECTRA[name].min().item()], abs=1e-9 * scale)
    assert high.values.tolist() == pytest.approx([SPECTRA[name].max().item()], abs=1e-9 * scale)
    assert low.num_products == high.num_products == sum(calls)


COPIES = torch.cat(
    [torch.tensor([9.0, 7.0, 4.0, 1.0]).repeat_interleave(10), torch.linspace(0, 0.5, 160)]
)


@pytest.mark.parametrize("spectrum", [*SPECTRA, "copies"])
@pytest.mark.parametrize(("k", "spare"), [(1, 0), (4, 0), (4, 8), (10, 0), (10, 30)])
def test_trap_39_restarts_within_a_budget_find_the_same(spectrum: str, k: int, spare: int):
    values = {**SPECTRA, "copies": COPIES}[spectrum]
    matrix = with_spectrum(values)
    budget = (3 * k + 16 + spare) * 8 * len(values)
    pairs = largest(
        operator_of(matrix),
        k,
        rtol=1e-6,
        max_steps=600,
        max_memory=budget,
        generator=generator("budget", spectrum),
    )
    scale = values.abs().max().item()
    expected = values.double().sort(descending=True).values[:k]
    assert pairs.converged
    assert (pairs.values - expected).abs().max() <= 1e-6 * scale + 1e-12
    actual = (pairs.vectors @ matrix - pairs.values[:, None] * pairs.vectors).norm(dim=1)
    assert (actual <= pairs.residuals + 1e-12 * scale).all()


def test_trap_39_the_basis_stays_within_its_budget():
    size, k = 2000, 3
    values = torch.linspace(0, 1, size, dtype=torch.float64)
    operator = LinearOperator(lambda v: v * values, size, values.dtype, values.device)
    row = 8 * size
    seen: list[int] = []
    grown = Basis(operator, 200, generator(0), at_once=False)
    for _ in range(40):
        grown.expand()
        seen.append(grown.rows)
    assert seen[0] == 32
    assert seen[-1] == 64  # it grows as it is needed, not to the last of its 200 rows at once
    with pytest.raises(InputError, match=f"found {24 * row} bytes for 3 .* least {25 * row}"):
        largest(operator, k, max_memory=24 * row, generator=generator(0))
    found = largest(
        operator, k, rtol=1e-4, max_steps=400, max_memory=25 * row, generator=generator(0)
    )
    assert found.converged


def test_multiplicities_cost_few_products():
    """hessian-eigenthings returned the first eigenvalue three times; here ten are ten."""
    spectrum = torch.cat([torch.linspace(10, 20, 10), 5 / torch.arange(1, 2991).sqrt()]).double()
    calls: list[int] = []

    def block(v: torch.Tensor) -> torch.Tensor:
        calls.append(len(v))
        return v * spectrum

    operator = LinearOperator(block, 3000, torch.float64, spectrum.device)
    pairs = largest(operator, 10, generator=generator(0))
    assert torch.allclose(pairs.values, spectrum[:10].sort(descending=True).values, rtol=1e-6)
    assert pairs.missed <= 0.01
    assert sum(calls) == pairs.num_products < 45
    calls.clear()
    trusting = largest(operator, 10, max_missed=math.inf, generator=generator(0))
    assert sum(calls) == trusting.num_products < pairs.num_products
    assert trusting.missed == 1


def test_missed_bounds_the_chance_to_miss_a_copy():
    """With a start blind to the second vector of a double eigenvalue, the bound is passed."""
    spectrum = torch.cat([torch.tensor([5.0, 5.0, 4.0]), torch.linspace(0, 1, 97)]).double()
    missed = [
        largest(
            LinearOperator(lambda v: v * spectrum, 100, torch.float64, spectrum.device),
            3,
            generator=generator("missed", s),
        )
        for s in range(100)
    ]
    wrong = sum(int(abs(pairs.values[1] - 5) > 1e-3) for pairs in missed)
    assert wrong <= 3
    assert max(pairs.missed for pairs in missed) <= 0.01


def test_trap_14_an_asymmetric_operator_is_noticed():
    skew = torch.randn(50, 50, generator=generator("skew"), dtype=torch.float64)
    operator = LinearOperator(lambda v: v @ skew, 50, skew.dtype, skew.device)
    with pytest.raises(InputError, match="lanczos: found an operator with uᵀAv other than vᵀAu"):
        largest(operator, 2, generator=generator(0))


def test_a_product_that_is_not_finite_is_an_error():
    operator = operator_of(torch.full((20, 20), torch.nan, dtype=torch.float64))
    with pytest.raises(FloatingPointError, match="lanczos: a product with the operator is not"):
        largest(operator, 2, generator=generator(0))
