"""The Nyström approximation against its definition, its bounds, and what it refuses."""

import pytest
import torch
from cases import operator_of

from gentheory.errors import InputError
from gentheory.linalg import Nystrom, nystrom
from gentheory.seeds import generator


def positive(values: torch.Tensor) -> torch.Tensor:
    size = len(values)
    a = torch.randn(size, size, generator=generator("nystrom", size), dtype=torch.float64)
    q = torch.linalg.qr(a)[0]
    return (q * values.double()) @ q.T


def dense(found: Nystrom) -> torch.Tensor:
    vectors = found.vectors.double()
    return (vectors.T * found.values) @ vectors


def test_low_rank_operators_are_exact():
    matrix = positive(torch.cat([torch.tensor([5.0, 2.0, 1.0]), torch.zeros(27)]))
    found = nystrom(operator_of(matrix), 6, generator=generator(0))
    torch.testing.assert_close(dense(found), matrix, rtol=0, atol=1e-12)
    assert found.values.tolist() == pytest.approx([5, 2, 1, 0, 0, 0], abs=1e-12)
    gram = found.vectors @ found.vectors.T
    torch.testing.assert_close(gram, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_it_is_the_best_of_its_range_and_below_the_operator():
    matrix = positive(0.7 ** torch.arange(40.0))
    found = nystrom(operator_of(matrix), 10, generator=generator(1))
    gap = torch.linalg.eigvalsh(matrix - dense(found))
    assert gap.min() > -1e-12
    assert gap.max() < 10 * 0.7**10
    exact = torch.linalg.eigvalsh(matrix).flip(0)[:10]
    assert (found.values <= exact + 1e-12).all()


@pytest.mark.parametrize("shift", [1e-3, 1.0])
def test_inverse_is_that_of_the_approximation_with_a_floor(shift: float):
    matrix = positive(0.6 ** torch.arange(25.0))
    found = nystrom(operator_of(matrix), 8, generator=generator(2))
    beyond = torch.eye(25, dtype=torch.float64) - found.vectors.T @ found.vectors
    filled = dense(found) + found.values[-1] * beyond + shift * torch.eye(25, dtype=torch.float64)
    v = torch.randn(2, 3, 25, generator=generator("v"), dtype=torch.float64)
    torch.testing.assert_close(found.inverse(v, shift) @ filled, v, rtol=0, atol=1e-11)


def test_more_than_the_size_and_nothing_at_all():
    matrix = positive(torch.linspace(1, 2, 5))
    found = nystrom(operator_of(matrix), 9, generator=generator(0))
    torch.testing.assert_close(dense(found), matrix, rtol=0, atol=1e-12)
    empty = nystrom(operator_of(torch.zeros(5, 5)), 2, generator=generator(0))
    assert empty.values.tolist() == pytest.approx([0.0, 0.0], abs=1e-150)
    assert torch.equal(empty.inverse(torch.ones(5), 0.5), torch.full((5,), 2.0))


def test_float32_stays_above_its_rounding():
    matrix = positive(0.5 ** torch.arange(30.0))
    found = nystrom(operator_of(matrix.float()), 12, generator=generator(3))
    assert found.vectors.dtype == torch.float32
    assert found.values.dtype == torch.float64
    torch.testing.assert_close(dense(found), matrix, rtol=0, atol=2e-3)


def test_what_it_refuses():
    with pytest.raises(InputError, match=r"nystrom.rank: found 0, expected at least 1"):
        nystrom(operator_of(torch.eye(3)), 0, generator=generator(0))
    with pytest.raises(InputError, match="nystrom: found an operator with negative eigenvalues"):
        nystrom(operator_of(positive(torch.linspace(-1, 1, 9))), 4, generator=generator(0))
    with pytest.raises(FloatingPointError, match="nystrom: a product with the operator is not"):
        nystrom(operator_of(torch.full((3, 3), torch.inf)), 2, generator=generator(0))
