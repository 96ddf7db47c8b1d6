"""Means, pairs and leave-one-out of the examples' gradients against gradients from a loop."""

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error
from torch import Tensor

from gentheory.factors.diagonal import gradient_moments
from gentheory.factors.dispersion import Dispersion, Sums, weighted_mean
from gentheory.factors.forward import pushed, slopes
from gentheory.factors.ghost import jacobian_norms
from gentheory.factors.neurons import neuron_trace
from gentheory.seeds import generator


def rows_of(case: Case) -> Tensor:
    """[N, P] without weight decay."""
    return truth(case.name).gradients - case.weight_decay * truth(case.name).theta


def sums_of(rows: Tensor) -> Sums:
    mean = rows.mean(0)
    return Sums(len(rows), rows.square().sum(1).mean(), mean @ mean)


@pytest.mark.parametrize("unit", [False, True])
def test_sums_with_and_without_each_example_are_those_of_a_loop(case: Case, unit: bool):
    rows = rows_of(case)
    rows = rows / rows.norm(dim=1, keepdim=True) if unit else rows
    found = (Dispersion.of_directions if unit else Dispersion.of)(case.risk())
    whole = sums_of(rows)
    assert relative_error(found.all.mean_square, whole.mean_square) < 1e-10
    assert relative_error(found.all.square_of_mean, whole.square_of_mean) < 1e-9
    index = torch.arange(len(rows))
    parts = [sums_of(rows[index != i]) for i in index]
    left_out = found.without_one
    assert left_out.count == len(rows) - 1
    for name in ("mean_square", "square_of_mean", "variance", "pairs"):
        wanted = torch.stack([getattr(part, name) for part in parts])
        assert relative_error(getattr(left_out, name), wanted) < 1e-8, name
    gram = rows @ rows.T
    apart = (gram.sum() - gram.trace()) / (len(rows) * (len(rows) - 1))
    assert found.all.pairs.item() == pytest.approx(apart.item(), rel=1e-8)
    assert found.all.variance.item() == pytest.approx(rows.var(0).sum().item(), rel=1e-9)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    rows = rows_of(CASES["mlp"])
    squares = rows.square().sum(1)
    value, error = Dispersion.of(CASES["mlp"].risk()).jackknife(lambda sums: sums.mean_square)
    assert value == pytest.approx(squares.mean().item(), rel=1e-12)
    assert error == pytest.approx(squares.std().item() / len(rows) ** 0.5, rel=1e-10)


def test_an_example_without_gradient_has_no_direction():
    squares, risk = torch.zeros(12, dtype=torch.float64), CASES["mlp"].risk()
    squares[:5] = rows_of(CASES["mlp"]).square().sum(1)[:5]
    risk.once("gradient norms", lambda: squares)
    found = Dispersion.of_directions(risk)
    rows = rows_of(CASES["mlp"])[:5]
    rows = rows / rows.norm(dim=1, keepdim=True)
    assert relative_error(found.along, rows @ rows.mean(0)) < 1e-10


def test_pushed_and_slopes_and_means_are_the_oracle_s(case: Case):
    risk, dense, rows = case.risk(), truth(case.name), rows_of(case)
    stream = generator("direction", case.name)
    vector = torch.randn(risk.num_params, generator=stream, dtype=torch.float64)
    weights = torch.randn(len(rows), generator=stream, dtype=torch.float64)
    moved = torch.cat([along for _, along, _ in pushed(risk, vector)])
    assert relative_error(moved, dense.jacobians @ vector) < 1e-10
    assert relative_error(slopes(risk, vector), rows @ vector) < 1e-9
    assert relative_error(weighted_mean(risk, weights), weights @ rows / len(rows)) < 1e-9


def test_moments_and_norms_of_jacobians_are_the_oracle_s(case: Case):
    risk, rows = case.risk(), rows_of(case)
    second, mean = gradient_moments(risk)
    assert relative_error(second, rows.square().mean(0)) < 1e-10
    assert relative_error(mean, rows.mean(0)) < 1e-10
    wanted = truth(case.name).jacobians.square().sum((1, 2))
    assert relative_error(jacobian_norms(risk), wanted) < 1e-10


def test_traces_of_rescaled_neurons_are_those_of_the_dense_ggn(case: Case):
    risk, dense = case.risk(), truth(case.name)
    ggn = dense.ggn - case.weight_decay * torch.eye(len(dense.theta), dtype=torch.float64)
    for name, shape in zip(risk.layout.names, risk.layout.shapes, strict=True):
        if len(shape) > 1:
            where = risk.layout.slices[name]
            weight = dense.theta[where].reshape(shape[0], -1)
            blocks = ggn[where, where].reshape(*weight.shape, *weight.shape)
            wanted = torch.einsum("sm,tm,sktk->", weight, weight, blocks)
            assert neuron_trace(risk, name) == pytest.approx(wanted.item(), rel=1e-9, abs=1e-14)
