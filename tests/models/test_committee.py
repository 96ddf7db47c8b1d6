"""The committee of bent units against what theory says of it."""

import math

import pytest
import torch
from torch import nn

import gentheory as gt
from gentheory import models
from gentheory.checkpoint import Checkpoint
from gentheory.data import direction, polynomial
from gentheory.errors import InputError
from gentheory.params import Layout, flatten
from gentheory.seeds import generator

D, N = 6, 40


def build(**options: object) -> nn.Module:
    described = {"shape": (D,), "num_classes": 1, "seed": 0}
    return models.build("committee", **described, options={"width": N, **options})


def test_the_outputs_are_means_of_bent_units():
    net = build(curvature=0.3, output_scale=4.0)
    x = torch.randn(5, D, generator=generator(0))
    h = x @ net[1].weight.T
    torch.testing.assert_close(net(x), 4 * (h + 0.15 * h**2).mean(1, keepdim=True))
    assert Layout.of(net).size == D * N
    assert float(net[1].weight.detach().std()) == pytest.approx(1, abs=0.2)


def test_a_symmetrized_one_starts_at_zero():
    net = build(symmetrized=True, output_scale=100.0)
    assert not net(torch.randn(5, D, generator=generator(0))).any()
    assert Layout.of(net).size == 2 * D * N


@pytest.mark.parametrize("alpha", [0.5, 8.0])
def test_its_test_error_on_the_polynomial_is_the_closed_form(alpha: float):
    """Mean of (f − y)², in the moments of its weights."""
    epsilon, net = 0.4, build(curvature=0.4, output_scale=alpha).double()
    data = polynomial(num_train=1, num_test=100_000, num_features=D, seed=3)[1]
    beta = direction(num_features=D, seed=3)
    weight = net[1].weight.detach()
    mean, second = weight.mean(0), weight.T @ weight / N
    matrix = alpha * epsilon * second - torch.outer(beta, beta)
    expected = (matrix.trace() ** 2 + 2 * matrix.square().sum()) / (4 * D**2)
    expected += alpha**2 / D * mean.square().sum()
    errors = (net(data.inputs.double()) - data.targets).square().detach()
    assert abs(errors.mean() - expected) < 4 * errors.std() / math.sqrt(len(errors))


def test_its_tangent_kernel_at_the_start_is_that_of_the_paper():
    net = build(curvature=0.3, output_scale=2.0).double()
    data = polynomial(num_train=12, num_test=1, num_features=D, seed=0)[0]
    risk = gt.EmpiricalRisk(net, "mse", data, dtype=torch.float64)
    x, weight = risk.joined()[0], risk.theta.view(N, D)
    mean, second = weight.mean(0), weight.T @ weight / N
    kernel = x @ x.T * (1 + 0.3 * (x @ mean + (x @ mean)[:, None]) + 0.09 * x @ second @ x.T)
    found = gt.measure(Checkpoint(risk, flatten(net)), "ntk.spectrum")["ntk.spectrum"]
    expected = torch.linalg.eigvalsh(4 / N * kernel)[-1] / 12
    assert found.value == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "classes", "message"),
    [
        ({"width": 0}, 1, r"committee\.width: found 0"),
        ({"curvature": math.inf}, 1, r"committee\.curvature: found inf"),
        ({"output_scale": 0.0}, 1, r"committee\.output_scale: found 0\.0"),
        ({}, 3, "model committee: found 3 outputs, expected 1: a real target"),
    ],
)
def test_what_no_committee_can_have_is_named(
    options: dict[str, object], classes: int, message: str
):
    with pytest.raises(InputError, match=message):
        models.build("committee", shape=(D,), num_classes=classes, options=options)
