"""Kronecker factors against plain loops, and the eigenbasis against dense matrices."""

import factor_loops
import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error
from torch import Tensor, nn

import gentheory as gt
from gentheory.factors.kronecker import Eigenbasis, Kronecker, kronecker
from gentheory.middles import Middle, middle_of
from gentheory.seeds import generator


def factors_of(risk: gt.EmpiricalRisk, curvature: str = "ggn", seed: int = 0) -> Kronecker:
    return kronecker(risk, middle_of(risk, curvature, generator(seed)))


def explained(case: Case) -> list[str]:
    return [name for name in case.risk().layout.names if name not in case.unexplained]


def dense_curvature(found: Kronecker) -> Tensor:
    """The A ⊗ S that the factors stand for, and diagonals."""
    blocks, start = [], 0
    for name, size in zip(found.layout.names, found.layout.sizes, strict=True):
        if name in found.inputs:
            groups = zip(found.curvature[name], found.inputs[name], strict=True)
            blocks += [torch.kron(s, a) for s, a in groups]
        else:
            blocks.append(torch.diag(found.rest[0, start : start + size]))
            start += size
    return torch.block_diag(*blocks)


def test_factors_are_those_of_loops(case: Case):
    """Linear layers, stride, groups, dilation, several positions, several calls of one module."""
    found, expected = factors_of(case.risk()), factor_loops.factors(case, explained(case))
    assert set(found.inputs) == set(expected) == set(explained(case))
    for name, loops in expected.items():
        for which in ("inputs", "curvature", "covariance"):
            wanted = torch.stack(getattr(loops, which))
            assert relative_error(getattr(found, which)[name], wanted) < 1e-10, (name, which)


def test_what_has_no_factor_has_exact_diagonals(case: Case):
    dense, found = truth(case.name), factors_of(case.risk())
    slices = case.risk().layout.slices
    rest = [
        i
        for name in found.layout.names
        if name in case.unexplained
        for i in range(*slices[name].indices(10**6))
    ]
    assert found.rest.shape == (2, len(rest))
    data_part = dense.gradients - case.weight_decay * dense.theta
    scale = dense.ggn.diagonal().max()
    curved = dense.ggn.diagonal() - case.weight_decay
    assert (found.rest[0] - curved[rest]).abs().sum() < 1e-10 * scale
    assert torch.allclose(found.rest[1], data_part.square().mean(0)[rest], rtol=1e-9, atol=1e-15)
    assert relative_error(found.gradient, data_part.mean(0)) < 1e-10


@pytest.mark.parametrize("name", ["mlp", "skip", "in place", "frozen"])
def test_exact_for_a_single_example_with_one_position(name: str):
    """Within each parameter's block: aaᵀ ⊗ ΣΛgg is the block itself."""
    case = CASES[name]
    x, y = case.data
    risk = gt.EmpiricalRisk(case.module, case.loss, (x[:1], y[:1]))
    h, found = gt.ggn(risk).dense(), dense_curvature(factors_of(risk))
    for where in risk.layout.slices.values():
        assert (found[where, where] - h[where, where]).abs().max() < 1e-12 * h.abs().max()


def test_exact_for_a_linear_model_with_one_input_vector():
    """Whatever the targets, and by the curvature that does not see them."""
    x = torch.randn(1, 4, generator=generator("x"), dtype=torch.float64).repeat(6, 1)
    net = nn.Linear(4, 3).double()
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, torch.arange(6) % 3), batch_size=4)
    found, h = dense_curvature(factors_of(risk)), gt.ggn(risk).dense()
    for where in risk.layout.slices.values():
        assert relative_error(found[where, where], h[where, where]) < 1e-12


@pytest.mark.parametrize("name", ["mlp", "conv", "grouped conv", "batch norm"])
def test_the_block_of_a_bias_is_exact(name: str):
    """Its input is 1 at every position: nothing is approximated."""
    case = CASES[name]
    risk, decay = case.risk(), case.weight_decay
    found, h = dense_curvature(factors_of(risk)), truth(name).ggn
    for bias in (n for n in explained(case) if n.endswith("bias")):
        where = risk.layout.slices[bias]
        wanted = h[where, where] - decay * torch.eye(where.stop - where.start).double()
        assert (found[where, where] - wanted).abs().max() < 1e-11 * h.abs().max()


def test_the_eigenbasis_is_orthogonal_and_diagonalizes_the_factors(case: Case):
    risk = case.risk()
    found = factors_of(risk)
    basis, h = Eigenbasis.of(found), dense_curvature(found)
    eye = torch.eye(risk.num_params, dtype=torch.float64)
    q = basis.vectors(eye).T  # columns
    assert relative_error(q.T @ q, eye) < 1e-12
    assert relative_error(basis.coordinates(eye), q) < 1e-13  # rows Qᵀe_p make up Q
    v = torch.randn(3, risk.num_params, generator=generator("v"), dtype=torch.float64)
    assert relative_error(basis.vectors(basis.coordinates(v)), v) < 1e-12
    assert relative_error(basis.coordinates(v)[1], basis.coordinates(v[1])) < 1e-12
    assert relative_error(q @ torch.diag(basis.curvature) @ q.T, h) < 1e-12


def test_the_inverse_is_the_dense_one(case: Case):
    risk = case.risk()
    found = factors_of(risk)
    h = dense_curvature(found)
    v = torch.randn(3, risk.num_params, generator=generator("v"), dtype=torch.float64)
    for shift in (1e-3, 1.0):
        wanted = torch.linalg.solve(h + shift * torch.eye(len(h), dtype=torch.float64), v.T).T
        assert relative_error(Eigenbasis.of(found).inverse(v, shift), wanted) < 1e-9


def bent(outputs: Tensor, targets: Tensor) -> Tensor:
    """Its Hessian in the outputs has both signs."""
    return (outputs.sin() + outputs[:, :1] * outputs).sum(1)


def test_trap_9_the_inverse_is_positive_where_the_factors_are_not():
    case = CASES["mlp"]
    risk = gt.EmpiricalRisk(case.module, bent, case.data)
    basis = Eigenbasis.of(factors_of(risk))
    assert basis.curvature.min() < -0.1 * basis.curvature.max()
    eye = torch.eye(risk.num_params, dtype=torch.float64)
    inverse = torch.linalg.eigvalsh(basis.inverse(eye, 0.1))
    assert inverse[0] > 0
    assert inverse[-1] < 10 * (1 + 1e-12)


def test_trap_4_neither_batches_nor_duplicates_matter():
    case = CASES["grouped conv"]
    x, y = case.data
    one = factors_of(case.risk(batch_size=2))
    two = factors_of(gt.EmpiricalRisk(case.module, case.loss, (x.repeat(2, 1, 1, 1), y.repeat(2))))
    for name in one.inputs:
        for which in ("inputs", "curvature", "covariance"):
            assert relative_error(getattr(one, which)[name], getattr(two, which)[name]) < 1e-12


def test_trap_30_float32_factors_are_summed_in_float64():
    found, expected = (
        factors_of(CASES["conv"].risk(dtype=torch.float32)),
        factors_of(CASES["conv"].risk()),
    )
    for name, wanted in expected.curvature.items():
        assert found.curvature[name].dtype == torch.float64
        assert relative_error(found.curvature[name], wanted) < 1e-5


def test_one_seed_draws_one_sampled_factor():
    risk = CASES["mlp"].risk()
    one, same, other = (
        factors_of(risk, "sampled_fisher", s).curvature["4.bias"] for s in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert relative_error(other, one) > 1e-3


def test_trap_9_the_hessian_has_no_factors():
    message = "curvature: found 'hessian', expected 'ggn', 'fisher' or 'sampled_fisher'"
    with pytest.raises(gt.InputError, match=message):
        factors_of(CASES["mlp"].risk(), "hessian")


def test_measures_share_the_factors_unless_they_are_sampled(monkeypatch: pytest.MonkeyPatch):
    calls: list[gt.EmpiricalRisk] = []

    def counted(risk: gt.EmpiricalRisk, middle: Middle) -> Kronecker:
        calls.append(risk)
        return kronecker(risk, middle)

    monkeypatch.setattr("gentheory.factors.kronecker.kronecker", counted)
    risk = CASES["conv"].risk()
    gt.measure(risk, ["tic.kfac", "tic.ekfac", "baselines.laplace"])
    assert len(calls) == 1
    sampled = {"tic.kfac": {"curvature": "sampled_fisher"}}
    for seed in range(2):
        gt.measure(risk, "tic.kfac", seed=seed, options=sampled)
    assert len(calls) == 3
