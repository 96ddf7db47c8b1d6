"""Dense matrices out of layer factors are those of the other engine and of the oracle."""

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error

from gentheory.curvature.moments import dense_moments
from gentheory.factors import layered
from gentheory.factors.layered import layered_moments, layers_of, outputs_along
from gentheory.middles import Curvature
from gentheory.seeds import generator

LAYERED = {"mlp", "linear net", "skip", "in place", "dropout", "gelu residual", "frozen"}
"""Nets of linear layers, each called once on one row an example."""


def test_layers_are_found_where_they_are(case: Case):
    assert (layers_of(case.risk()) is not None) == (case.name in LAYERED)


@pytest.mark.parametrize("name", sorted(LAYERED))
@pytest.mark.parametrize("curvature", ["ggn", "hessian", "sampled_fisher"])
def test_they_are_those_of_the_jacobians(name: str, curvature: Curvature):
    """Two engines, one matrix; the same seed draws the same targets for both."""
    risk = CASES[name].risk()
    layers = layers_of(risk)
    assert layers is not None
    for blocks in (None, list(risk.layout.layers.values())):
        wanted = dense_moments(risk, curvature, generator(3), blocks=blocks)
        found = layered_moments(risk, layers, curvature, generator(3), blocks=blocks)
        scale = max(part.curvature.abs().max() for part in wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.where == other.where
            assert (one.curvature - other.curvature).abs().max() < 1e-12 * scale
            assert torch.equal(one.curvature, one.curvature.T)
            assert relative_error(one.covariance, other.covariance) < 1e-12
            assert torch.allclose(one.gradient, other.gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", sorted(LAYERED))
def test_they_are_the_oracle_s(name: str):
    risk, expected = CASES[name].risk(), truth(name)
    layers = layers_of(risk)
    assert layers is not None
    ridge = risk.weight_decay * torch.eye(risk.num_params, dtype=torch.float64)
    for curvature in ("ggn", "hessian"):
        (found,) = layered_moments(risk, layers, curvature, generator(0))
        assert relative_error(found.curvature, getattr(expected, curvature) - ridge) < 1e-10


@pytest.mark.parametrize("numbers", [1, 500])
@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_trap_39_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, numbers: int, curvature: Curvature
):
    """One example at once, or some, whatever the batches."""
    risk = CASES["skip"].risk(batch_size=9)
    layers = layers_of(risk)
    assert layers is not None
    (whole,) = layered_moments(risk, layers, curvature, generator(0))
    along = outputs_along(risk, layers, whole.curvature)
    monkeypatch.setattr(layered, "_NUMBERS", numbers)
    (parts,) = layered_moments(risk, layers, curvature, generator(0))
    assert relative_error(parts.curvature, whole.curvature) < 1e-13
    assert relative_error(parts.covariance, whole.covariance) < 1e-13
    assert torch.allclose(outputs_along(risk, layers, whole.curvature), along, rtol=1e-13)


@pytest.mark.parametrize("few", [0, 10**9])
def test_products_of_inputs_or_of_outputs_are_the_same(monkeypatch: pytest.MonkeyPatch, few: int):
    monkeypatch.setattr(layered, "_few", lambda *_: few)
    risk = CASES["mlp"].risk()
    layers = layers_of(risk)
    assert layers is not None
    (found,) = layered_moments(risk, layers, "ggn", generator(0))
    assert relative_error(found.curvature, truth("mlp").ggn) < 1e-12


def test_outputs_along_vectors_are_the_jacobians_products():
    expected = truth("skip")
    risk = CASES["skip"].risk()
    layers = layers_of(risk)
    assert layers is not None
    vectors = torch.randn(
        risk.num_params, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = outputs_along(risk, layers, vectors)
    assert relative_error(found, expected.jacobians @ vectors) < 1e-12


def test_trap_30_float32_models_are_summed_in_float64():
    risk = CASES["mlp"].risk(dtype=torch.float32)
    layers = layers_of(risk)
    assert layers is not None
    (found,) = layered_moments(risk, layers, "ggn", generator(0))
    assert found.curvature.dtype == torch.float64
    assert relative_error(found.curvature, truth("mlp").ggn) < 1e-5
    values = torch.linalg.eigvalsh(found.curvature)
    assert values[0] > -1e-14 * values[-1]
