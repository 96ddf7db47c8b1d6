"""Diagonals from layer factors against the oracle's dense matrices."""

import oracle
import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error
from torch import Tensor

import gentheory as gt
from gentheory.curvature.moments import dense_moments
from gentheory.factors.diagonal import Diagonals, diagonals, known_diagonals, own_diagonals
from gentheory.factors.kronecker import Eigenbasis, kronecker
from gentheory.factors.traces import own_traces
from gentheory.middles import middle_of
from gentheory.seeds import generator


def found_of(risk: gt.EmpiricalRisk, curvature: str = "ggn", seed: int = 0) -> Diagonals:
    return diagonals(risk, middle_of(risk, curvature, generator(seed)))


def data_part(case: Case) -> Tensor:
    """[N, P] without weight decay."""
    dense = truth(case.name)
    return dense.gradients - case.weight_decay * dense.theta


def test_they_are_the_oracle_s(case: Case):
    rows = data_part(case)
    for curvature in ["ggn"] if case.likelihood is None else ["ggn", "fisher"]:
        found = found_of(case.risk(), curvature)
        wanted = getattr(truth(case.name), curvature).diagonal() - case.weight_decay
        assert relative_error(found.curvature, wanted) < 1e-10
        assert relative_error(found.covariance, rows.square().mean(0)) < 1e-10
        assert relative_error(found.gradient, rows.mean(0)) < 1e-10


def bent(outputs: Tensor, targets: Tensor) -> Tensor:
    """Its Hessian in the outputs has both signs and no zero."""
    return (outputs.sin() + outputs[:, :1] * outputs).sum(1)


def test_trap_9_a_loss_that_bends_both_ways(case: Case):
    inputs, targets = case.data
    dense = oracle.dense(case.module, bent, inputs, targets, likelihood=None)
    assert float(torch.linalg.eigvalsh(dense.ggn)[0]) < 0
    found = found_of(gt.EmpiricalRisk(case.module, bent, case.data, batch_size=4))
    assert relative_error(found.curvature, dense.ggn.diagonal()) < 1e-10
    assert relative_error(found.covariance, dense.covariance.diagonal()) < 1e-10


@pytest.mark.parametrize("centred", [False, True])
def test_modes_have_the_weight_decay(case: Case, centred: bool):
    risk, dense = case.risk(), truth(case.name)
    modes = found_of(risk).modes(risk, risk.theta, centred=centred)
    c = dense.centred if centred else dense.covariance
    assert relative_error(modes.curvature, dense.ggn.diagonal()) < 1e-10
    scale = float(dense.covariance.diagonal().max())
    assert float((modes.covariance - c.diagonal()).abs().max()) < 1e-10 * scale
    assert relative_error(modes.gradient, dense.mean_gradient) < 1e-10


def test_a_rotation_gives_the_diagonals_in_its_basis(case: Case):
    risk, dense = case.risk(), truth(case.name)
    basis = Eigenbasis.of(kronecker(risk, middle_of(risk, "ggn", generator(0))))
    q = basis.vectors(torch.eye(risk.num_params, dtype=torch.float64)).T
    found = diagonals(risk, middle_of(risk, "ggn", generator(0)), rotation=basis.rotation)
    rows = data_part(case) @ q
    wanted = (q.T @ dense.ggn @ q).diagonal() - case.weight_decay
    assert relative_error(found.curvature, wanted) < 1e-10
    assert relative_error(found.covariance, rows.square().mean(0)) < 1e-10
    assert relative_error(found.gradient, rows.mean(0)) < 1e-10


@pytest.mark.parametrize("name", ["grouped conv", "attention", "twice"])
def test_one_seed_draws_one_set_of_targets(name: str):
    case = CASES[name]
    if case.likelihood is None:
        with pytest.raises(gt.InputError, match="found a callable without a likelihood"):
            found_of(case.risk(), "sampled_fisher")
        return
    one, same, other = (found_of(case.risk(), "sampled_fisher", s).curvature for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert relative_error(other, one) > 1e-3
    (dense,) = dense_moments(case.risk(), "sampled_fisher", generator(3))
    assert relative_error(one, dense.curvature.diagonal()) < 1e-10


def test_trap_7_sampled_fisher_averages_to_the_fisher():
    risk, draws = CASES["mlp"].risk(batch_size=12), 100
    traces = torch.tensor(
        [found_of(risk, "sampled_fisher", s).curvature.sum() for s in range(draws)]
    )
    expected = truth("mlp").fisher.trace()
    assert abs(traces.mean() - expected) < 3 * traces.std() / draws**0.5


def test_trap_4_batches_do_not_matter():
    one, many = (found_of(CASES["conv"].risk(batch_size=b)) for b in (1, 100))
    assert relative_error(one.curvature, many.curvature) < 1e-12
    assert relative_error(one.covariance, many.covariance) < 1e-12


def test_trap_17_unused_parameters_have_zeros():
    risk = CASES["unused"].risk()
    where = slice(0, risk.layout.slices["spare.bias"].stop)
    found = found_of(risk)
    for row in (found.curvature, found.covariance, found.gradient):
        assert not row[where].any()
        assert row[where.stop :].any()


def test_trap_30_float32_sums_are_in_float64():
    found, dense = found_of(CASES["conv"].risk(dtype=torch.float32)), truth("conv")
    assert found.curvature.dtype == torch.float64
    assert relative_error(found.curvature, dense.ggn.diagonal()) < 1e-5
    assert relative_error(found.covariance, dense.covariance.diagonal()) < 1e-5


def test_traces_are_sums_of_diagonals_that_are_known(case: Case):
    passes, risk = case.risk(), case.risk()
    known = own_diagonals(risk, "ggn", generator(0))
    found, wanted = (own_traces(each, "ggn", generator(0)) for each in (risk, passes))
    assert known_diagonals(passes, "ggn") is None
    for name, where in risk.layout.slices.items():
        assert found[name][0] == known.curvature[where].sum()
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-12)
