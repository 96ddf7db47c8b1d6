"""Hessian, GGN, Fisher and gradient covariance against dense matrices, on every tiny net."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from cases import CASES, Case, smoothed, truth
from oracle import relative_error
from scipy.sparse import linalg as sparse

import gentheory as gt
from gentheory.curvature import fisher, ggn, gradient_covariance, hessian
from gentheory.errors import InputError
from gentheory.linalg import LinearOperator, largest
from gentheory.seeds import generator

Build = Callable[[gt.EmpiricalRisk], LinearOperator]
OPERATORS: dict[str, Build] = {
    "hessian": hessian,
    "ggn": ggn,
    "fisher": fisher,
    "covariance": gradient_covariance,
    "centred": partial(gradient_covariance, centred=True),
}


@pytest.fixture(params=OPERATORS)
def what(request: pytest.FixtureRequest, case: Case) -> str:
    if request.param == "fisher" and case.likelihood is None:
        return "ggn"  # a callable has no Fisher: see test_fisher.py
    return request.param


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator("vectors", shape), dtype=torch.float64)


def test_matrices_traces_and_diagonals_are_the_oracle_s(case: Case, what: str):
    operator, expected = OPERATORS[what](case.risk()), getattr(truth(case.name), what)
    dense = operator.dense()
    assert relative_error(dense, expected) < 1e-10
    assert relative_error(operator.diagonal(), expected.diagonal()) < 1e-10
    assert dense.trace().item() == pytest.approx(expected.trace().item(), rel=1e-10)


def test_a_block_is_as_good_as_its_vectors(case: Case, what: str):
    operator, expected = OPERATORS[what](case.risk()), getattr(truth(case.name), what)
    v = vectors(33, operator.size)  # more than one chunk
    assert relative_error(operator(v), v @ expected) < 1e-10


@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
@pytest.mark.parametrize("what", OPERATORS)
def test_vectors_with_any_leading_axes(what: str, shape: tuple[int, ...]):
    operator = OPERATORS[what](CASES["conv"].risk())
    v = vectors(*shape, operator.size)
    assert relative_error(operator(v), v @ getattr(truth("conv"), what)) < 1e-10


@pytest.mark.parametrize("what", OPERATORS)
@pytest.mark.parametrize("name", ["conv", "attention", "tied functional"])
def test_trap_14_operators_are_symmetric(name: str, what: str):
    operator = OPERATORS[what](CASES[name].risk())
    u, v = vectors(2, operator.size)
    scale = operator(u).norm() * v.norm()
    assert abs(u @ operator(v) - v @ operator(u)) < 1e-13 * scale


@pytest.mark.parametrize("what", OPERATORS)
def test_trap_4_the_split_into_batches_changes_nothing(what: str):
    stream = torch.Generator().manual_seed(1)
    x = torch.randn(64, 5, generator=stream, dtype=torch.float64)
    x[60:] *= 5
    y, net = torch.randint(3, (64,), generator=stream), CASES["mlp"].module
    whole = OPERATORS[what](gt.EmpiricalRisk(net, "cross_entropy", (x, y), batch_size=64))
    parts = [(x[:60], y[:60]), (x[60:], y[60:])]
    split = OPERATORS[what](gt.EmpiricalRisk(net, "cross_entropy", parts))
    v = vectors(3, whole.size)
    assert relative_error(split(v), whole(v)) < 1e-13


@pytest.mark.parametrize("what", OPERATORS)
def test_scipy_s_lanczos_agrees(what: str):
    case = CASES["skip"]
    operator, expected = OPERATORS[what](case.risk()), getattr(truth("skip"), what)
    start = np.linspace(-1, 1, operator.size)
    values = sparse.eigsh(operator.to_scipy(), k=3, which="LA", v0=start, return_eigenvectors=False)
    dense = np.linalg.eigvalsh(expected.numpy())[-3:]
    assert np.sort(values) == pytest.approx(dense, rel=1e-9)
    own = largest(operator, 3, rtol=1e-9, generator=generator(0))
    assert own.values.flip(0).tolist() == pytest.approx(dense.tolist(), rel=1e-9)


@pytest.mark.parametrize("what", OPERATORS)
def test_float32_is_close_and_stays_float32(what: str):
    operator = OPERATORS[what](CASES["conv"].risk(dtype=torch.float32))
    v = vectors(operator.size)
    product = operator(v.float())
    assert product.dtype == torch.float32
    assert relative_error(product, getattr(truth("conv"), what) @ v) < 1e-4


@pytest.mark.parametrize("what", OPERATORS)
def test_vectors_of_another_dtype_are_refused(what: str):
    operator = OPERATORS[what](CASES["mlp"].risk())
    with pytest.raises(InputError, match=r"found 100 numbers of torch\.float32, expected 100 of"):
        operator(torch.zeros(100))


def test_trap_18_the_hessian_of_smooth_nets_is_the_slope_of_the_gradient():
    for name in ("gelu residual", "attention", "layer norm"):
        risk, step = CASES[name].risk(), 1e-5
        v = vectors(risk.num_params)
        v /= v.norm()
        slope = (risk.gradient(risk.theta + step * v) - risk.gradient(risk.theta - step * v)) / 2
        assert relative_error(hessian(risk)(v), slope / step) < 1e-7


# Identities between the matrices (definitions of TIC): where they hold, and where they must not.


def layer_blocks(case: Case, matrix: torch.Tensor) -> list[torch.Tensor]:
    """Diagonal blocks of one module's weight and bias each."""
    slices = case.risk().layout.slices
    owners = {name.rpartition(".")[0] for name in slices}
    inside = [[s for n, s in slices.items() if n.rpartition(".")[0] == o] for o in sorted(owners)]
    return [matrix[s[0].start : s[-1].stop, s[0].start : s[-1].stop] for s in inside]


PIECEWISE = [name for name, case in CASES.items() if case.piecewise]


@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_linear_nets_share_trace_and_layer_blocks_of_hessian_and_fisher(name: str):
    case = CASES[name]
    h, f = hessian(case.risk()).dense(), fisher(case.risk()).dense()
    assert h.trace().item() == pytest.approx(f.trace().item(), rel=1e-12)
    assert relative_error(h.diagonal(), f.diagonal()) < 1e-12
    for block, other in zip(layer_blocks(case, h), layer_blocks(case, f), strict=True):
        assert relative_error(block, other) < 1e-12
    # The whole matrices differ: the residual couples the layers.
    assert relative_error(h, f) > 0.01


def test_a_curved_activation_breaks_the_identity():
    case = CASES["layer norm"]
    h, g = hessian(case.risk()).dense(), ggn(case.risk()).dense()
    assert abs(h.trace() / g.trace() - 1) > 0.01


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.likelihood is not None])
def test_exact_fisher_is_the_ggn(name: str):
    risk = CASES[name].risk()
    assert relative_error(fisher(risk).dense(), ggn(risk).dense()) < 1e-12


def test_trap_7_the_fisher_is_not_the_empirical_fisher():
    risk = CASES["mlp"].risk()
    assert relative_error(gradient_covariance(risk).dense(), fisher(risk).dense()) > 0.1


def test_one_linear_layer_has_no_residual():
    """Outputs linear in the parameters: Hessian and GGN are one matrix, in closed form."""
    stream = torch.Generator().manual_seed(2)
    x = torch.randn(20, 3, generator=stream, dtype=torch.float64)
    net = torch.nn.Linear(3, 2, bias=False).double()
    risk = gt.EmpiricalRisk(net, "mse", (x, torch.zeros(20, 2).double()), weight_decay=0.5)
    # mean over the outputs of (f - y)²: every output brings 2 / C xᵀx / N
    block = x.T @ x / 20
    expected = torch.block_diag(block, block) + 0.5 * torch.eye(6)
    assert relative_error(hessian(risk).dense(), expected) < 1e-13
    assert relative_error(ggn(risk).dense(), expected) < 1e-13


# Weight decay and centring.


@pytest.mark.parametrize("build", [hessian, ggn, fisher])
def test_trap_3_weight_decay_is_a_ridge_of_the_curvature(build: Build):
    plain, decayed = (build(CASES["mlp"].risk(weight_decay=w)).dense() for w in (0.0, 0.3))
    ridge = 0.3 * torch.eye(len(plain), dtype=plain.dtype)
    assert relative_error(decayed, plain + ridge) < 1e-14


@pytest.mark.parametrize("centred", [True, False])
def test_trap_3_weight_decay_is_part_of_every_example_s_gradient(centred: bool):
    risk, dense = CASES["mlp"].risk(weight_decay=0.3), truth("mlp")
    g = dense.gradients + 0.3 * dense.theta
    g = g - g.mean(0) if centred else g
    found = gradient_covariance(risk, centred=centred).dense()
    assert relative_error(found, g.T @ g / len(g)) < 1e-12


def test_trap_6_centring_takes_away_one_rank(case: Case):
    risk = case.risk()
    difference = gradient_covariance(risk).dense() - OPERATORS["centred"](risk).dense()
    mean = risk.gradient()
    assert relative_error(difference, torch.outer(mean, mean)) < 1e-9
    singular = torch.linalg.svdvals(difference)
    assert singular[1] < 1e-12 * torch.linalg.svdvals(gradient_covariance(risk).dense())[0]


def test_trap_6_at_a_stationary_point_centring_changes_nothing():
    x = torch.randn(15, 3, generator=generator("stationary"), dtype=torch.float64)
    y = torch.randn(15, 1, generator=generator("stationary", "y"), dtype=torch.float64)
    net = torch.nn.Linear(3, 1, bias=False).double()
    theta = torch.linalg.lstsq(x, y).solution[:, 0]
    risk = gt.EmpiricalRisk(net, "mse", (x, y), theta=theta)
    plain, centred = (gradient_covariance(risk, centred=c).dense() for c in (False, True))
    assert relative_error(centred, plain) < 1e-12


@pytest.mark.parametrize("what", ["ggn", "fisher", "covariance", "centred"])
def test_trap_9_what_must_be_semidefinite_is(what: str):
    for name in ("mlp", "own attention", "batch norm"):
        values = torch.linalg.eigvalsh(OPERATORS[what](CASES[name].risk()).dense())
        assert values[0] > -1e-13 * values[-1]


def test_trap_17_unused_parameters_have_zero_rows():
    risk = CASES["unused"].risk(weight_decay=0.0)
    spare = risk.layout.slices["spare.weight"]
    for build in OPERATORS.values():
        dense = build(risk).dense()
        assert dense[spare].abs().max() == 0
        assert dense[:, spare].abs().max() == 0
        assert dense.abs().max() > 0


def test_a_callable_loss_has_a_ggn_of_its_own():
    assert CASES["twice"].loss is smoothed
    assert relative_error(ggn(CASES["twice"].risk()).dense(), truth("twice").ggn) < 1e-10
