"""Products traced once and reused: the same numbers, whatever is kept."""

from collections.abc import Callable

import oracle
import pytest
import torch
from cases import CASES, Case, truth
from torch import Tensor, nn

import gentheory as gt
from gentheory.curvature import chunks, ggn, hessian, linearized
from gentheory.linalg import LinearOperator

BUILDERS: dict[str, Callable[..., LinearOperator]] = {"hessian": hessian, "ggn": ggn}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace before the first product, and cut the data into several chunks."""
    monkeypatch.setattr(linearized, "_TRACING", 0)
    monkeypatch.setattr(chunks, "chunk_size", lambda risk: 5)


def state_of(operator: LinearOperator) -> linearized.Linearized:
    cells = operator.block.__closure__ or ()
    return next(c.cell_contents for c in cells if type(c.cell_contents) is linearized.Linearized)


def vectors(count: int, like: LinearOperator) -> Tensor:
    stream = torch.Generator().manual_seed(count)
    return torch.randn(count, like.size, generator=stream, dtype=like.dtype)


def test_equals_the_dense_hessian(case: Case):
    operator, matrix = hessian(case.risk(batch_size=99)), truth(case.name).hessian
    v = vectors(2, operator)
    assert torch.allclose(operator(v), v @ matrix, rtol=0, atol=1e-10 * matrix.abs().max())
    assert state_of(operator)._traceable  # none of these nets falls back


@pytest.mark.parametrize(
    ("name", "count"), [("conv", 34), ("attention", 1), ("in place", 2), ("embedding tied", 1)]
)
def test_equals_the_dense_ggn(name: str, count: int):
    operator, matrix = ggn(CASES[name].risk(batch_size=99)), truth(name).ggn
    v = vectors(count, operator)  # 34 are more than a block
    assert torch.allclose(operator(v), v @ matrix, rtol=0, atol=1e-10 * matrix.abs().max())
    assert state_of(operator)._traceable


@pytest.mark.parametrize("which", BUILDERS)
@pytest.mark.parametrize("budget", [0, 10_000, 2**30])
def test_the_budget_changes_no_number(which: str, budget: int):
    risk = CASES["conv"].risk(batch_size=99)
    plain = BUILDERS[which](risk, max_memory=budget)
    v, matrix = vectors(2, plain), getattr(truth("conv"), which)
    for _ in range(3):
        assert torch.allclose(plain(v), v @ matrix, rtol=0, atol=1e-12)
    kept = state_of(plain)._passes[2]
    assert sum(linear.bytes for linear in kept.linears) <= budget
    assert kept.complete == (budget == 2**30)


def test_large_nets_take_one_vector_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "_wanted", lambda risk: 5)
    operator = hessian(CASES["attention"].risk())
    v = vectors(3, operator)
    assert torch.allclose(operator(v), v @ truth("attention").hessian, rtol=0, atol=1e-12)
    assert set(state_of(operator)._passes) == {1}


class Branching(nn.Module):
    """Takes another path for other data: no one trace is right for all."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        return torch.cat([row.sin()[None] if row.sum() > 0 else row[None] for row in out])


def test_a_model_that_branches_on_its_data_stays_plain():
    torch.manual_seed(0)
    net = Branching().double()
    x, y = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1, 0, 0])
    operator = hessian(gt.EmpiricalRisk(net, "cross_entropy", (x, y)))
    columns = [operator(row[None])[0] for row in torch.eye(operator.size, dtype=torch.float64)]
    values = lambda f, t: nn.functional.cross_entropy(f, t, reduction="none")  # noqa: E731
    expected = oracle.dense(net, values, x, y).hessian
    assert torch.allclose(torch.stack(columns), expected, rtol=0, atol=1e-12)
    assert not state_of(operator)._traceable


def test_the_first_products_are_plain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(linearized, "_TRACING", 10 * linearized._OVERHEAD)
    operator = hessian(CASES["mlp"].risk())
    v = vectors(1, operator)
    before = operator(v)
    assert not state_of(operator)._programs
    for _ in range(5):
        after = operator(v)
    assert state_of(operator)._programs
    assert torch.allclose(before, after, rtol=1e-12, atol=1e-14)


def test_float32_agrees_with_float64():
    case = CASES["conv"]
    operator = ggn(case.risk(dtype=torch.float32))
    v = vectors(2, operator)
    exact = v.double() @ truth("conv").ggn
    assert torch.allclose(operator(v).double(), exact, rtol=0, atol=1e-5 * exact.abs().max())


def test_a_shrinking_block_is_traced_once_for_each_halving():
    """As the block of a solver that drops its solved rows."""
    operator, matrix = ggn(CASES["mlp"].risk(batch_size=99)), truth("mlp").ggn
    for count in range(20, 0, -1):
        v = vectors(count, operator)
        assert torch.allclose(operator(v), v @ matrix, rtol=0, atol=1e-12 * matrix.abs().max())
    assert list(state_of(operator)._passes) == [20, 9, 4, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 99])
def test_chunks_do_not_depend_on_the_batches(batch_size: int):
    risk = CASES["mlp"].risk(batch_size=batch_size)
    cut = list(chunks.in_chunks(risk, risk.batches()))
    whole = [torch.cat(parts) for parts in zip(*risk.batches(), strict=True)]
    for tensor, parts in zip(whole, zip(*cut, strict=True), strict=True):
        assert all(map(torch.equal, tensor.split(5), parts))
    assert len(cut) == -(-risk.num_examples // 5)
