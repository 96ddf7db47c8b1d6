"""A stack's gradient by batched layers is that of `vmap` over autograd, whatever the module."""

import copy
from typing import Any

import pytest
import torch
from cases import CASES
from oracle import relative_error
from torch import Tensor, nn

from gentheory import losses, models
from gentheory.models.norm import running_statistics
from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training import apart
from gentheory.training.evaluate import example_losses, gathered, mean_losses, stacked_outputs
from gentheory.training.gradient import Objective, StackedGradient, stacked_gradient
from gentheory.training.layers import Chain, Mapped
from gentheory.training.tape import stacked

M, CE = 3, losses.cross_entropy
ARCHITECTURES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "mlp": ("mlp", (1, 4, 4), {"skip": True, "depth": 4, "parametrization": "ntk"}),
    "centred mlp": ("mlp", (4,), {"symmetrized": True, "activation": "tanh", "output_scale": 3.0}),
    "deep linear": ("mlp", (4,), {"activation": "linear", "bias": False}),
    "gelu": ("mlp", (4,), {"activation": "gelu"}),
    "cnn": ("cnn", (1, 8, 8), {"width": 3}),
    "strided cnn": ("cnn", (3, 7, 7), {"width": 3, "down": "stride", "bias": False}),
    "resnet": ("resnet", (3, 8, 8), {"width": 4}),
    "resnet, batch": ("resnet", (3, 8, 8), {"width": 4, "norm": "batch"}),
    "resnet, group": ("resnet", (3, 8, 8), {"width": 8, "norm": "group"}),
    "vgg": ("vgg", (3, 8, 8), {"width": 4, "depth": 11}),
    "vit": ("vit", (3, 8, 8), {"width": 8, "depth": 2, "heads": 2}),
    "vit, token": ("vit", (3, 8, 8), {"width": 8, "depth": 2, "heads": 2, "pool": "token"}),
    "mixer": ("mixer", (3, 8, 8), {"width": 8, "depth": 2}),
}


def by_vmap(module: nn.Module, objective: Objective) -> StackedGradient:
    """The oracle: autograd of the whole module under `vmap`."""
    layout = Layout.of(module)

    def value(theta: Tensor, statistics: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Any:
        tensors = layout.unflatten(theta) | statistics
        outputs = torch.func.functional_call(module, tensors, (inputs,))
        return objective(outputs, targets), (outputs, {name: tensors[name] for name in statistics})

    return torch.func.vmap(torch.func.grad(value, has_aux=True))


def batch(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Any, ...]:
    """Parameters, statistics, inputs and targets of a stack, each model's own."""
    stream = generator("a stack's gradient")
    theta = flatten(module)
    theta = theta + 0.1 * torch.randn(M, len(theta), generator=stream, dtype=theta.dtype)
    found = running_statistics(module).items()
    statistics = {name: torch.stack([buffer] * M) for name, buffer in found}
    repeated = torch.stack([inputs] * M)
    if inputs.is_floating_point():
        repeated = repeated + torch.randn(repeated.shape, generator=stream, dtype=inputs.dtype)
    return theta, statistics, repeated, torch.stack([targets.roll(m, 0) for m in range(M)])


def architecture(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    kind, shape, options = ARCHITECTURES[name]
    module = models.build(kind, shape=shape, num_classes=5, options=options, seed=0).double()
    inputs = torch.randn(6, *shape, generator=generator(name), dtype=torch.float64)
    return module, inputs, torch.arange(6) % 5


def check(module: nn.Module, objective: Objective, *given: Any) -> None:
    before = [copy.deepcopy(argument) for argument in given]
    gradient, (outputs, statistics) = stacked_gradient(module, objective)(*given)
    torch.testing.assert_close(list(given), before, rtol=0, atol=0)
    expected, (other, carried) = by_vmap(module, objective)(*before)
    assert relative_error(gradient, expected) < 1e-12
    assert relative_error(outputs, other) < 1e-12
    assert statistics.keys() == carried.keys()
    for name, found in statistics.items():
        torch.testing.assert_close(found, carried[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_every_architecture(name: str, one_by_one: bool, monkeypatch: pytest.MonkeyPatch):
    if one_by_one:
        monkeypatch.setattr(apart, "_LARGE", 0)
    module, *data = architecture(name)
    check(module, CE.mean, *batch(module, *data))


@pytest.mark.parametrize("large", [0, 2**60])
@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(3, 2, 1, 1), nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True, count_include_pad=False)],
)
def test_strides_paddings_and_dilations(
    pool: nn.Module, large: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(apart, "_LARGE", large)
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(0, 2), dilation=(1, 2), bias=False)
    filters = nn.Sequential(first, nn.ReLU(), pool, nn.Conv2d(4, 5, 1))
    module = nn.Sequential(filters, nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    inputs = torch.randn(6, 3, 9, 8)
    module(inputs)
    check(module.double(), CE.mean, *batch(module, inputs.double(), torch.arange(6) % 5))


@pytest.mark.parametrize("name", ["cnn", "vgg", "resnet"])
def test_one_by_one_in_float32_up_to_rounding(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(apart, "_LARGE", 0)
    module, inputs, targets = architecture(name)
    given = batch(module, inputs, targets)
    exact, (exact_outputs, _) = stacked_gradient(module, CE.mean)(*given)
    theta, statistics, x, y = given
    found = stacked_gradient(module.float(), CE.mean)(theta.float(), statistics, x.float(), y)
    assert relative_error(found[0].double(), exact) < 1e-5
    assert relative_error(found[1][0].double(), exact_outputs) < 1e-5


_NO_STACK = {"batch norm", "dropout"}
"""Neither by this way nor by that: see `running_statistics`, and `vmap` refuses to draw."""


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # fused attention under vmap
@pytest.mark.parametrize("name", [name for name in CASES if name not in _NO_STACK])
def test_trap_15_every_case(name: str):
    """Ties, hidden uses, layers that work in place, frozen and unused parameters."""
    case = CASES[name]
    loss = losses.resolve(case.loss)
    check(case.module, loss.mean, *batch(case.module, *case.data))


@pytest.mark.parametrize("name", ["mse", "squentropy"])
def test_other_losses(name: str):
    module, *data = architecture("mlp")
    check(module, losses.resolve(name).mean, *batch(module, *data))


def test_targets_that_are_probabilities():
    module, inputs, targets = architecture("mlp")
    check(module, CE.mean, *batch(module, inputs, torch.eye(5, dtype=torch.float64)[targets]))


class Doubled(nn.Linear):
    """A subclass does something else than its class."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Negative(nn.Module):
    """Works in place on what it is given, and knows no batches."""

    def forward(self, x: Tensor) -> Tensor:
        return x.neg_()


def _hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda layer, inputs, outputs: outputs.tanh())
    return layer


def _frozen() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    return layer


@pytest.mark.parametrize(
    "build", [lambda: Doubled(4, 4), Negative, _hooked, _frozen, lambda: nn.ReLU(inplace=True)]
)
def test_what_is_no_plain_layer(build: Any):
    torch.manual_seed(0)
    module = nn.Sequential(build(), nn.Linear(4, 4), build(), nn.Linear(4, 5)).double()
    inputs = torch.randn(6, 4, dtype=torch.float64)
    check(module, CE.mean, *batch(module, inputs, torch.arange(6) % 5))


def test_a_plain_net_is_taken_apart_and_a_tied_one_is_not():
    assert isinstance(stacked(architecture("vgg")[0]), Chain)
    assert isinstance(stacked(CASES["tied modules"].module), Mapped)


def test_gradients_of_fitted_examples_keep_their_digits():
    """Where p is 1 − 1e-9, p − 1 in float32 would be 0, and the weights would stand still."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False))
    theta = torch.tensor([[10.4, 0.0, -10.4, 0.0]])
    given = ({}, torch.tensor([[[1.0, 0.5]]]), torch.tensor([[0]]))
    single, _ = stacked_gradient(net, CE.mean)(theta, *given)
    exact = torch.tensor([[1.0, 0.5, -1.0, -0.5]], dtype=torch.float64)
    exact = -exact * torch.tensor(-20.8, dtype=torch.float64).sigmoid()
    assert relative_error(single.double(), exact) < 1e-5


def test_a_stack_in_float32_is_as_good_as_its_models():
    module, inputs, targets = architecture("cnn")
    theta, statistics, x, y = batch(module.float(), inputs.float(), targets)
    together, _ = stacked_gradient(module, CE.mean)(theta, statistics, x, y)
    for m in range(M):
        own = slice(m, m + 1)
        alone, _ = stacked_gradient(module, CE.mean)(theta[own], statistics, x[own], y[own])
        assert relative_error(together[own], alone) < 1e-5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_of_a_stack_are_those_of_its_models_in_eval_mode(name: str):
    module, inputs, targets = architecture(name)
    theta, statistics, _, _ = batch(module, inputs, targets)
    found = stacked_outputs(module, theta, inputs, targets, statistics=statistics)
    outputs = torch.cat([part for part, _ in found], dim=1)
    for m in range(M):
        tensors = Layout.of(module).unflatten(theta[m])
        alone = torch.func.functional_call(copy.deepcopy(module).eval(), tensors, (inputs,))
        assert relative_error(outputs[m], alone) < 1e-12


@pytest.mark.parametrize("loss", [CE, losses.mse])
def test_mean_losses_are_the_means_of_the_examples_losses(loss: losses.Loss):
    module, inputs, targets = architecture("mlp")
    theta = batch(module, inputs, targets)[0].float()
    each, _ = example_losses(module, loss, theta, inputs, targets)
    means = mean_losses(module, loss, theta, inputs, targets)
    assert means.dtype == torch.float64
    assert means.tolist() == pytest.approx(each.mean(1).tolist(), rel=1e-14)
    outputs = torch.cat([f for f, _ in stacked_outputs(module, theta, inputs, targets)], dim=1)
    direct = torch.stack([loss.values(f, targets).double() for f in outputs])
    assert relative_error(each, direct) < 1e-12


def test_gathered_inputs_are_those_at_the_rows():
    inputs, rows = torch.randn(7, 2, 3), torch.tensor([[6, 0, 1], [2, 2, 5]])
    assert torch.equal(gathered(inputs, rows), inputs[rows])
