"""An operator is its matrix, for vectors of any leading shape, and for scipy."""

import numpy as np
import pytest
import torch
from cases import operator_of
from oracle import relative_error
from scipy.sparse import linalg as sparse

from gentheory.errors import InputError
from gentheory.linalg import LinearOperator
from gentheory.seeds import generator


def symmetric(size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    a = torch.randn(size, size, generator=generator("operator", seed), dtype=torch.float64)
    return ((a + a.T) / 2).to(dtype)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 1, 4)])
def test_products_for_any_leading_axes(shape: tuple[int, ...]):
    matrix = symmetric(7)
    v = torch.randn(*shape, 7, generator=generator("v"), dtype=torch.float64)
    product = operator_of(matrix)(v)
    assert product.shape == v.shape
    assert torch.allclose(product, torch.einsum("pq,...q->...p", matrix, v), rtol=1e-13)


@pytest.mark.parametrize("block_size", [1, 3, 7, 100])
def test_dense_and_diagonal(block_size: int):
    matrix = torch.arange(49.0).reshape(7, 7)  # not symmetric: rows and columns must not swap
    operator = LinearOperator(lambda v: v @ matrix.T, 7, matrix.dtype, matrix.device)
    assert torch.equal(operator.dense(block_size=block_size), matrix)
    assert torch.equal(operator.diagonal(block_size=block_size), matrix.diagonal())


def test_blocks_are_no_larger_than_asked():
    seen: list[int] = []

    def block(v: torch.Tensor) -> torch.Tensor:
        seen.append(len(v))
        return v

    operator = LinearOperator(block, 10, torch.float32, torch.device("cpu"))
    operator.dense(block_size=4)
    operator.diagonal(block_size=4)
    assert seen == [4, 4, 2] * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_scipy_finds_the_same_eigenvalues(dtype: torch.dtype):
    matrix = symmetric(30, dtype=dtype)
    operator = operator_of(matrix).to_scipy()
    assert operator.dtype == matrix.numpy().dtype
    values = sparse.eigsh(operator, k=4, which="LA", return_eigenvectors=False)
    expected = np.linalg.eigvalsh(matrix.double().numpy())[-4:]
    assert np.sort(values) == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-10)


def test_scipy_solves_and_multiplies_from_both_sides():
    matrix = symmetric(12)
    matrix = matrix @ matrix + torch.eye(12, dtype=torch.float64)
    operator, b = operator_of(matrix).to_scipy(), np.linspace(-1, 1, 12)
    solution, flag = sparse.cg(operator, b, rtol=1e-12)
    assert flag == 0
    assert solution == pytest.approx(np.linalg.solve(matrix.numpy(), b), rel=1e-8)
    assert operator.rmatvec(b) == pytest.approx(matrix.numpy() @ b, rel=1e-13)
    columns = np.eye(12)[:, :5]
    assert operator @ columns == pytest.approx(matrix.numpy()[:, :5], abs=1e-14)
    columns.setflags(write=False)
    assert operator @ columns == pytest.approx(matrix.numpy()[:, :5], abs=1e-14)


@pytest.mark.parametrize(
    "v", [torch.zeros(4, dtype=torch.float64), torch.zeros(5), torch.zeros(2, 6).double()]
)
def test_vectors_of_another_size_or_dtype_are_refused(v: torch.Tensor):
    with pytest.raises(
        InputError, match=r"vector: found \d numbers of torch.float\d\d, expected 5"
    ):
        operator_of(symmetric(5))(v)


def test_operators_do_not_change_their_argument():
    v = torch.ones(3, 5, dtype=torch.float64)
    operator_of(symmetric(5))(v)
    assert relative_error(v, torch.ones_like(v)) == 0
