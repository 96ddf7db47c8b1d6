"""Parametrization, output scale and symmetrization: closed forms, stacks, factors."""

import math
from typing import Any

import oracle
import pytest
import torch
from torch import Tensor, nn

import gentheory as gt
from gentheory import losses, models
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.factors.capture import explain
from gentheory.factors.gram import gram
from gentheory.models.scaling import BIAS_FACTOR
from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training.loop import Plan, Trained, train

IMAGES = torch.randn(5, 2, 6, 6, generator=generator("images"), dtype=torch.float64)
NTK = {"parametrization": "ntk"}


def build(name: str, seed: int = 0, **options: Any) -> nn.Sequential:
    net = models.build(name, shape=(2, 6, 6), num_classes=3, seed=seed, options=options)
    assert isinstance(net, nn.Sequential)
    return net.double()


def kernel(net: nn.Module) -> Tensor:
    return gram(gt.EmpiricalRisk(net, "cross_entropy", (IMAGES, torch.zeros(5).long())))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return oracle.relative_error(actual.detach(), expected.detach())


def test_an_ntk_layer_by_hand():
    net = build("mlp", depth=2, width=7, **NTK)
    (w1, b1), (w2, b2) = ((part.weight, part.bias) for part in linears(net))
    hidden = (IMAGES.flatten(1) @ w1.T / math.sqrt(72) + BIAS_FACTOR * b1).relu()
    expected = hidden @ w2.T / math.sqrt(7) + BIAS_FACTOR * b2
    assert relative_error(net(IMAGES), expected) < 1e-14
    bare = build("mlp", depth=1, bias=False, **NTK)
    (last,) = linears(bare)
    assert relative_error(bare(IMAGES), IMAGES.flatten(1) @ last.weight.T / math.sqrt(72)) < 1e-14


def test_an_ntk_convolution_by_hand():
    net = build("cnn", depth=1, width=4, down="stride", **NTK)
    layer = next(part for part in net.modules() if isinstance(part, nn.Conv2d))
    found = net[1](net[0](IMAGES))
    assert layer.bias is not None
    bias = BIAS_FACTOR * layer.bias
    weight = layer.weight / math.sqrt(18)
    wanted = nn.functional.conv2d(IMAGES, weight, bias, stride=2, padding=1).relu()
    assert relative_error(found, wanted) < 1e-13


def linears(net: nn.Module) -> list[nn.Linear]:
    return [part for part in net.modules() if isinstance(part, nn.Linear)]


def test_ntk_weights_are_standard_normal():
    net = build("mlp", depth=3, width=100, **NTK)
    theta = flatten(net)
    error = 1 / math.sqrt(len(theta))
    assert abs(float(theta.mean())) < 3 * error
    assert abs(float(theta.square().mean()) - 1) < 3 * math.sqrt(2) * error
    assert Layout.of(net).sizes == Layout.of(build("mlp", depth=3, width=100)).sizes


def test_trap_33_the_tangent_kernel_keeps_its_size_only_with_the_ntk_parametrization():
    def size(width: int, **options: Any) -> float:
        seeds = range(4)
        nets = [build("mlp", seed, depth=2, width=width, **options) for seed in seeds]
        return sum(float(kernel(net).diagonal().mean()) for net in nets) / len(nets)

    assert size(2000, **NTK) / size(500, **NTK) == pytest.approx(1, abs=0.1)
    # PyTorch's weights of the last layer are of variance 1 / (3 width), but move unscaled.
    assert size(2000) / size(500) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("options", [{}, NTK], ids=["standard", "ntk"])
def test_output_scale_and_symmetrization(name: str, options: dict[str, Any]):
    plain = build(name, **options)
    scaled = build(name, output_scale=3.0, **options)
    assert relative_error(scaled(IMAGES), 3 * plain(IMAGES)) < 1e-14
    assert relative_error(kernel(scaled), 9 * kernel(plain)) < 1e-12
    centred = build(name, output_scale=3, symmetrized=True, **options)
    assert not centred(IMAGES).any()
    assert Layout.of(centred).size == 2 * Layout.of(plain).size
    assert relative_error(kernel(centred), kernel(scaled)) < 1e-12
    with torch.no_grad():
        for parameter in centred[0].plus.parameters():
            parameter.add_(0.1)
    for parameter in plain.parameters():
        parameter.data.add_(0.1)
    expected = 3 * (plain(IMAGES) - build(name, **options)(IMAGES)) / math.sqrt(2)
    assert relative_error(centred(IMAGES), expected) < 1e-11


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_factors_explain_every_layer(name: str):
    net = build(name, depth=2, width=3, output_scale=2.0, symmetrized=True, **NTK)
    with torch.no_grad():  # elsewhere than at its start, where both halves agree
        for number, parameter in enumerate(net.parameters()):
            parameter.add_(0.1 * math.sin(number + 1))
    risk = gt.EmpiricalRisk(net, "cross_entropy", (IMAGES, torch.zeros(5).long()))
    assert explain(risk, IMAGES) == set(risk.layout.names)
    rows = []
    for f in net(IMAGES).flatten():
        grads = torch.autograd.grad(f, list(net.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    jacobian = torch.stack(rows)
    expected = (jacobian @ jacobian.T).view(5, 3, 5, 3)
    assert relative_error(gram(risk), expected) < 1e-12


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_stack_trains_as_its_models_alone(name: str):
    options = {"output_scale": 2.0, "symmetrized": True, "width": 4, **NTK}
    described = {"shape": (1, 8, 8), "num_classes": 10, "options": options}
    nets = [models.build(name, seed=m, **described).double() for m in range(3)]
    data, starts = Recipe("digits", n_train=30).train(), [flatten(net) for net in nets]

    def trained(chosen: list[int]) -> Trained:
        rates = torch.tensor([0.01, 0.02, 0.03])[chosen]
        plan = Plan(2, 10, rates, torch.zeros(len(chosen)), torch.zeros(len(chosen)))
        start = torch.stack([starts[m] for m in chosen])
        orders = [generator("order", m) for m in chosen]
        return train(nets[0], losses.cross_entropy, start, data, plan, orders)

    stack = trained([0, 1, 2])
    assert stack.curve[0].tolist() == pytest.approx([math.log(10)] * 3, rel=1e-12)
    assert bool((stack.curve[-1] < math.log(10)).all())
    for m in range(3):
        alone = trained([m]).theta[0]
        assert relative_error(stack.theta[m], alone) < 1e-12
        assert not torch.equal(alone, starts[m])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mlp",
            {"parametrization": "mup"},
            "mlp.parametrization: found 'mup', expected",
        ),
        ("cnn", {"output_scale": 0}, "cnn.output_scale: found 0, expected a number above 0"),
        ("mlp", {"output_scale": math.inf}, "mlp.output_scale: found inf"),
        ("mlp", {"output_scale": math.nan}, "mlp.output_scale: found nan"),
        ("mlp", {"output_scale": True}, "mlp.output_scale: found True"),
        ("mlp", {"output_scale": "2"}, "mlp.output_scale: found '2'"),
        ("cnn", {"symmetrized": 1}, "cnn.symmetrized: found 1, expected true or false"),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        build(name, **options)
