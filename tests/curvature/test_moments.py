"""Dense moments and their eigenbases are the oracle's matrices, whole and by blocks."""

from typing import Literal

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error

from gentheory.bases import eigenbases
from gentheory.curvature import moments
from gentheory.curvature.moments import dense_moments, jacobians
from gentheory.errors import InputError
from gentheory.middles import CURVATURES
from gentheory.seeds import generator

Curvature = Literal["ggn", "fisher", "hessian"]


def known(case: Case) -> list[Curvature]:
    return ["ggn", "hessian"] if case.likelihood is None else ["ggn", "fisher", "hessian"]


def test_they_are_the_oracle_s(case: Case):
    """Of the data's part: weight decay is taken off the oracle's."""
    expected = truth(case.name)
    decay = case.weight_decay * expected.theta
    ridge = case.weight_decay * torch.eye(len(decay), dtype=torch.float64)
    rows = expected.gradients - decay
    for curvature in known(case):
        (dense,) = dense_moments(case.risk(), curvature, generator(0))
        assert relative_error(dense.curvature, getattr(expected, curvature) - ridge) < 1e-10
        assert relative_error(dense.covariance, rows.T @ rows / len(rows)) < 1e-10
        assert relative_error(dense.gradient, rows.mean(0)) < 1e-10


def test_blocks_are_cut_out_of_the_whole(case: Case):
    layers = list(case.risk().layout.layers.values())
    assert [layer.start for layer in layers[1:]] == [layer.stop for layer in layers[:-1]]
    assert (layers[0].start, layers[-1].stop) == (0, len(truth(case.name).theta))
    for curvature in known(case):
        (whole,) = dense_moments(case.risk(), curvature, generator(0))
        scale = whole.curvature.abs().max()
        parts = dense_moments(case.risk(), curvature, generator(0), blocks=layers)
        for layer, part in zip(layers, parts, strict=True):
            difference = part.curvature - whole.curvature[layer, layer]
            assert difference.abs().max() < 1e-12 * scale
            assert torch.allclose(part.covariance, whole.covariance[layer, layer], rtol=1e-12)
            assert torch.allclose(part.gradient, whole.gradient[layer], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("centred", [False, True])
def test_modes_are_the_oracle_s_in_their_basis(case: Case, centred: bool):
    """Values, diag(VᵀCV) and Vᵀḡ with weight decay in both."""
    expected = truth(case.name)
    c = expected.centred if centred else expected.covariance
    (basis,) = eigenbases(case.risk(), "ggn", generator(0))
    modes = basis.modes(case.risk(), centred=centred)
    v = basis.vectors
    assert relative_error(v.T @ v, torch.eye(len(v), dtype=torch.float64)) < 1e-12
    assert relative_error(torch.diag(modes.curvature), v.T @ expected.ggn @ v) < 1e-10
    scale = expected.covariance.abs().max()
    assert (modes.covariance - (v.T @ c @ v).diagonal()).abs().max() < 1e-10 * scale
    assert relative_error(modes.gradient, v.T @ expected.mean_gradient) < 1e-10


def test_eigenbases_are_computed_once_unless_targets_are_drawn():
    risk = CASES["mlp"].risk()
    layers = list(risk.layout.layers.values())
    assert eigenbases(risk, "ggn", generator(0)) is eigenbases(risk, "ggn", generator(1))
    assert len(eigenbases(risk, "ggn", generator(0), blocks=layers)) == 3
    assert len(eigenbases(risk, "ggn", generator(0))) == 1
    assert eigenbases(risk, "fisher", generator(0)) is not eigenbases(risk, "ggn", generator(0))
    one, other = (eigenbases(risk, "sampled_fisher", generator(s))[0] for s in (0, 1))
    assert not torch.equal(one.values, other.values)


def test_dense_matrices_are_exactly_symmetric():
    risk = CASES["conv"].risk()
    for curvature in CURVATURES:
        (found,) = dense_moments(risk, curvature, generator(0))
        assert torch.equal(found.curvature, found.curvature.T)
        assert torch.equal(found.covariance, found.covariance.T)


def test_jacobians_are_autograd_s(case: Case):
    parts = list(jacobians(case.risk()))
    found = torch.cat([jacobian for jacobian, _, _ in parts])
    assert relative_error(found, truth(case.name).jacobians) < 1e-11
    assert [len(x) for _, _, (x, _) in parts] == [4] * (case.count // 4) + (
        [case.count % 4] if case.count % 4 else []
    )


def test_trap_39_chunks_of_jacobians_change_nothing(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["mlp"].risk(batch_size=12)
    (whole,) = dense_moments(risk, "ggn", generator(0))
    assert [len(f) for _, f, _ in jacobians(risk)] == [12]
    monkeypatch.setattr(moments, "_JACOBIAN_BYTES", 5 * 8 * 100 * 3)
    assert [len(f) for _, f, _ in jacobians(risk)] == [5, 5, 2]
    (parts,) = dense_moments(risk, "ggn", generator(0))
    assert relative_error(parts.curvature, whole.curvature) < 1e-13
    assert relative_error(parts.covariance, whole.covariance) < 1e-13


def test_trap_30_float32_models_are_summed_in_float64():
    (found,) = dense_moments(CASES["mlp"].risk(dtype=torch.float32), "ggn", generator(0))
    assert found.curvature.dtype == torch.float64
    assert relative_error(found.curvature, truth("mlp").ggn) < 1e-5
    # Sums or softmax in float32 would leave noise of 1e-8 in the null space.
    values = torch.linalg.eigvalsh(found.curvature)
    assert values[0] > -1e-14 * values[-1]


def test_an_unknown_curvature_is_refused():
    message = "curvature: found 'kfac', expected 'ggn', 'fisher' or 'sampled_fisher'"
    with pytest.raises(InputError, match=message):
        dense_moments(CASES["mlp"].risk(), "kfac", generator(0))  # type: ignore[arg-type]
