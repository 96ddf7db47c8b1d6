"""Dense and diagonal moments are the oracle's matrices and the operators' diagonals."""

from typing import Literal

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error

from gentheory.curvature import moments
from gentheory.curvature.moments import dense_moments, jacobians
from gentheory.errors import InputError
from gentheory.middles import CURVATURES
from gentheory.seeds import generator

Curvature = Literal["ggn", "fisher", "hessian"]


def known(case: Case) -> list[Curvature]:
    return ["ggn", "hessian"] if case.likelihood is None else ["ggn", "fisher", "hessian"]


@pytest.mark.parametrize("centred", [False, True])
def test_both_are_the_oracle_s(case: Case, centred: bool):
    expected = truth(case.name)
    c = expected.centred if centred else expected.covariance
    for curvature in known(case):
        h = getattr(expected, curvature)
        options = {"centred": centred, "generator": generator(0)}
        dense = dense_moments(case.risk(), curvature, **options)
        assert relative_error(dense.curvature, h) < 1e-10
        assert relative_error(dense.covariance, c) < 1e-10
        assert relative_error(dense.mean_gradient, expected.mean_gradient) < 1e-10
        diagonal = diagonal_moments(case.risk(), curvature, **options)
        assert relative_error(diagonal.curvature, h.diagonal()) < 1e-10
        assert relative_error(diagonal.covariance, c.diagonal()) < 1e-10
        assert relative_error(diagonal.mean_gradient, expected.mean_gradient) < 1e-10


def test_dense_matrices_are_exactly_symmetric():
    risk = CASES["conv"].risk()
    for curvature in CURVATURES:
        found = dense_moments(risk, curvature, centred=True, generator=generator(0))
        assert torch.equal(found.curvature, found.curvature.T)
        assert torch.equal(found.covariance, found.covariance.T)


def test_sampled_diagonal_and_matrix_come_from_the_same_draw():
    risk = CASES["grouped conv"].risk()
    dense = dense_moments(risk, "sampled_fisher", centred=False, generator=generator(3))
    diagonal = diagonal_moments(risk, "sampled_fisher", centred=False, generator=generator(3))
    assert relative_error(diagonal.curvature, dense.curvature.diagonal()) < 1e-12
    other = diagonal_moments(risk, "sampled_fisher", centred=False, generator=generator(4))
    assert relative_error(other.curvature, diagonal.curvature) > 1e-3


def test_sampled_fisher_averages_to_the_fisher():
    case, draws = CASES["mlp"], 300
    risk = case.risk(batch_size=12)
    samples = torch.stack(
        [
            diagonal_moments(
                risk, "sampled_fisher", centred=False, generator=generator("average", s)
            ).curvature
            for s in range(draws)
        ]
    )
    traces, expected = samples.sum(1), truth("mlp").fisher.trace()
    assert abs(traces.mean() - expected) < 3 * traces.std() / draws**0.5


def test_jacobians_are_autograd_s(case: Case):
    parts = list(jacobians(case.risk()))
    found = torch.cat([jacobian for jacobian, _, _ in parts])
    assert relative_error(found, truth(case.name).jacobians) < 1e-11
    assert [len(x) for _, _, (x, _) in parts] == [4] * (case.count // 4) + (
        [case.count % 4] if case.count % 4 else []
    )


def test_trap_39_chunks_of_jacobians_change_nothing(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["mlp"].risk(batch_size=12)
    options = {"centred": False, "generator": generator(0)}
    whole = dense_moments(risk, "ggn", **options)
    assert [len(f) for _, f, _ in jacobians(risk)] == [12]
    monkeypatch.setattr(moments, "_JACOBIAN_BYTES", 5 * 8 * 100 * 3)
    assert [len(f) for _, f, _ in jacobians(risk)] == [5, 5, 2]
    parts = dense_moments(risk, "ggn", **options)
    assert relative_error(parts.curvature, whole.curvature) < 1e-13
    assert relative_error(parts.covariance, whole.covariance) < 1e-13


def test_trap_30_float32_models_are_summed_in_float64():
    found = dense_moments(
        CASES["mlp"].risk(dtype=torch.float32), "ggn", centred=False, generator=generator(0)
    )
    assert found.curvature.dtype == torch.float64
    assert relative_error(found.curvature, truth("mlp").ggn) < 1e-5
    # Sums or softmax in float32 would leave noise of 1e-8 in the null space.
    values = torch.linalg.eigvalsh(found.curvature)
    assert values[0] > -1e-14 * values[-1]


def test_an_unknown_curvature_is_refused():
    message = "curvature: found 'kfac', expected one of ggn, fisher, sampled_fisher, hessian"
    with pytest.raises(InputError, match=message):
        dense_moments(CASES["mlp"].risk(), "kfac", centred=False, generator=generator(0))  # type: ignore[arg-type]
