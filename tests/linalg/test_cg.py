"""Conjugate gradients against dense solves."""

import pytest
import torch
from cases import operator_of

from gentheory.errors import InputError
from gentheory.linalg import LinearOperator, cg, nystrom
from gentheory.seeds import generator


def positive(values: torch.Tensor, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    size = len(values)
    a = torch.randn(size, size, generator=generator("cg", size), dtype=torch.float64)
    q = torch.linalg.qr(a)[0]
    return ((q * values.double()) @ q.T).to(dtype)


def block(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=generator("rhs"), dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_solutions_are_those_of_a_dense_solve(shift: float):
    matrix, rhs = positive(torch.logspace(-3, 1, 40)), block(5, 40)
    found = cg(operator_of(matrix), rhs, shift=shift, rtol=1e-12)
    dense = matrix + shift * torch.eye(40, dtype=torch.float64)
    expected = torch.linalg.solve(dense, rhs.T).T
    assert found.converged
    assert torch.allclose(found.x, expected, rtol=0, atol=1e-8 * expected.abs().max().item())
    residuals = (rhs - found.x @ dense).norm(dim=1) / rhs.norm(dim=1)
    torch.testing.assert_close(found.residuals, residuals, rtol=1e-6, atol=1e-15)


def test_each_row_has_its_own_steps():
    """A row in an invariant subspace is done long before a general one, and neither disturbs."""
    matrix = torch.diag(torch.logspace(0, 4, 30, dtype=torch.float64))
    rhs = torch.stack([torch.eye(30, dtype=torch.float64)[3], block(1, 30)[0], torch.zeros(30)])
    blocks: list[int] = []

    def counted(v: torch.Tensor) -> torch.Tensor:
        blocks.append(len(v))
        return v @ matrix

    found = cg(LinearOperator(counted, 30, torch.float64, rhs.device), rhs, rtol=1e-10)
    assert found.converged
    assert found.num_steps == len(blocks)
    assert blocks[:2] == [2, 1]  # the row of zeros is done before it starts
    alone = cg(operator_of(matrix), rhs[1:2], rtol=1e-10)
    torch.testing.assert_close(found.x[1:2], alone.x, rtol=1e-6, atol=0)
    assert found.x[2].abs().max() == 0


@pytest.mark.parametrize("condition", [1e2, 1e5])
def test_trap_30_the_true_residual_counts_in_float32(condition: float):
    values = torch.logspace(0, -torch.tensor(condition).log10().item(), 60)
    matrix, rhs = positive(values, torch.float32), block(3, 60).float()
    found = cg(operator_of(matrix), rhs, rtol=1e-5, max_steps=300)
    exact = (rhs.double() - found.x.double() @ matrix.double()).norm(dim=1)
    # The product's own rounding, 6e-8 |A| |x|, is all that lies between the two.
    rounding = 1e-7 * found.x.double().norm(dim=1) / rhs.double().norm(dim=1)
    assert ((found.residuals - exact / rhs.double().norm(dim=1)).abs() <= 5 * rounding).all()
    assert found.converged == bool((found.residuals <= 1e-5).all())
    assert found.converged or condition > 1e4  # there rounding in the product alone is above rtol


def test_a_preconditioner_saves_steps_and_keeps_the_solution():
    values = torch.cat([torch.logspace(0, 4, 20), torch.full((80,), 1e-2)])
    operator, rhs = operator_of(positive(values)), block(4, 100)
    plain = cg(operator, rhs, shift=0.01, rtol=1e-9)
    approximation = nystrom(operator, 25, generator=generator(0))
    found = cg(
        operator,
        rhs,
        shift=0.01,
        preconditioner=lambda v: approximation.inverse(v, 0.01),
        rtol=1e-9,
    )
    assert found.converged
    assert found.num_steps < plain.num_steps / 4
    torch.testing.assert_close(found.x, plain.x, rtol=0, atol=1e-6)


def test_an_early_stop_says_so():
    found = cg(operator_of(positive(torch.logspace(-4, 0, 50))), block(2, 50), max_steps=3)
    assert not found.converged
    assert found.residuals.min() > 1e-6
    assert found.num_steps <= 4


def test_trap_9_negative_curvature_is_refused():
    matrix = positive(torch.linspace(-1, 2, 20))
    with pytest.raises(InputError, match="cg: found a direction of negative curvature"):
        cg(operator_of(matrix), block(2, 20))
    assert cg(operator_of(matrix), block(2, 20), shift=1.5).converged


def test_a_product_that_is_not_finite_is_an_error():
    matrix = torch.full((4, 4), torch.nan, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="cg: a product with the operator is not finite"):
        cg(operator_of(matrix), block(2, 4))


def test_a_singular_system_with_a_solution_is_solved():
    matrix = positive(torch.cat([torch.zeros(10), torch.linspace(1, 3, 20)]))
    wanted = block(2, 30) @ matrix
    found = cg(operator_of(matrix), wanted @ matrix, rtol=1e-10)
    torch.testing.assert_close(found.x, wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_scale_does_not_matter(scale: float):
    matrix, rhs = positive(torch.logspace(-1, 1, 25)), block(2, 25)
    plain, scaled = cg(operator_of(matrix), rhs), cg(operator_of(scale * matrix), rhs)
    torch.testing.assert_close(scaled.x * scale, plain.x, rtol=0, atol=1e-5)
    assert scaled.converged
