"""Stacks, factors, curvature and training of every architecture; BatchNorm in a stack."""

import math
from typing import Any

import pytest
import torch
from architectures import IMAGES, LABELS, NETS, NTK, build, moved, relative_error
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory import losses, models
from gentheory.data.recipe import Recipe
from gentheory.factors.capture import explain
from gentheory.factors.ghost import gradient_norms
from gentheory.models.norm import BatchNorm
from gentheory.models.vit import Positions
from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training.loop import Plan, train


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("more", [{}, NTK], ids=["standard", "ntk"])
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_is_its_models(name: str, more: dict[str, Any], training: bool):
    model, options = NETS[name]
    nets = [moved(build(model, options | more, m)).train(training) for m in range(2)]
    theta, layout = torch.stack([flatten(net) for net in nets]), Layout.of(nets[0])
    inputs = torch.stack([IMAGES, IMAGES.flip(0)])

    def loss(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = torch.func.functional_call(nets[0], layout.unflatten(theta), (x,))
        return F.cross_entropy(outputs, LABELS), outputs

    gradients, outputs = torch.func.vmap(torch.func.grad(loss, has_aux=True))(theta, inputs)
    for m, net in enumerate(nets):
        expected = net(inputs[m])
        assert relative_error(outputs[m], expected.detach()) < 1e-12
        wanted = torch.autograd.grad(F.cross_entropy(expected, LABELS), list(net.parameters()))
        assert relative_error(gradients[m], torch.cat([g.flatten() for g in wanted])) < 1e-9


@pytest.mark.parametrize("name", NETS)
def test_factors_give_every_example_s_gradient(name: str):
    model, options = NETS[name]
    net = moved(build(model, options))
    risk = gt.EmpiricalRisk(net, "cross_entropy", (IMAGES, LABELS))
    unexplained = set(risk.layout.names) - explain(risk, IMAGES)
    owners = {type(net.get_submodule(each.rpartition(".")[0])) for each in unexplained}
    kinds = (nn.GroupNorm, nn.LayerNorm, Positions)
    assert owners == {type(part) for part in net.modules() if isinstance(part, kinds)}

    def one(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return risk.loss_sum(theta, (x[None], y[None]))

    each = torch.func.vmap(torch.func.grad(one), (None, 0, 0))(risk.theta, IMAGES, LABELS)
    assert relative_error(gradient_norms(risk), each.square().sum(1)) < 1e-10


@pytest.mark.parametrize("name", NETS)
def test_curvature_is_that_of_autograd(name: str):
    model, options = NETS[name]
    net = moved(build(model, options))
    risk = gt.EmpiricalRisk(net, "cross_entropy", (IMAGES, LABELS))
    v = torch.randn(risk.num_params, generator=generator("v"), dtype=torch.float64)
    loss = F.cross_entropy(net(IMAGES), LABELS)
    gradient = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    slope = torch.cat([g.flatten() for g in gradient]) @ v
    rows = torch.autograd.grad(slope, list(net.parameters()), materialize_grads=True)
    expected = torch.cat([row.flatten() for row in rows])
    assert relative_error(gt.hessian(risk)(v), expected) < 1e-9


TRAINED = {
    "resnet": ("resnet", {"width": 4}, 0.05, 8),
    "resnet deep": ("resnet", {"width": 2, "depth": 20}, 0.05, 8),
    "vgg": ("vgg", {"width": 8}, 0.03, 12),
    "vit": ("vit", {"width": 8, "depth": 1, "heads": 2}, 0.1, 12),
    "mixer": ("mixer", {"width": 8, "depth": 1}, 0.1, 12),
}


@pytest.mark.parametrize("name", TRAINED)
def test_without_normalization_they_train_as_a_stack_and_alone(name: str):
    model, options, rate, epochs = TRAINED[name]
    described = {"shape": (1, 8, 8), "num_classes": 10, "options": options}
    nets = [models.build(model, seed=m, **described) for m in range(2)]
    theta, data = torch.stack([flatten(net) for net in nets]), Recipe("digits", n_train=100).train()

    def trained(chosen: slice, epochs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        start = theta[chosen].to(dtype)
        own = torch.full((len(start),), rate, dtype=dtype)
        plan = Plan(epochs, 20, own, torch.full_like(own, 0.9), torch.zeros_like(own))
        orders = [generator("order", m) for m in range(2)[chosen]]
        found = train(nets[0].to(dtype), losses.cross_entropy, start, data, plan, orders)
        return found.theta, found.curve

    _, curve = trained(slice(2), epochs, torch.float32)
    assert bool((curve[-1] < 0.9 * math.log(10)).all())
    both, _ = trained(slice(2), 1, torch.float64)
    alone, _ = trained(slice(1, 2), 1, torch.float64)
    assert relative_error(both[1], alone[0]) < 1e-9


def trained_by_torch(net: nn.Module, images: list[Tensor]) -> nn.Module:
    optimizer = torch.optim.SGD(net.train().parameters(), lr=0.1)
    for x in images:
        optimizer.zero_grad()
        F.cross_entropy(net(x), LABELS).backward()
        optimizer.step()
    return net.eval()


BATCHED = {
    "mlp": {"depth": 3, "norm": "batch"},
    "cnn": {"width": 2, "norm": "batch"},
    "resnet": {"width": 2, "norm": "batch"},
    "vgg": {"width": 2, "depth": 11, "norm": "batch"},
}


@pytest.mark.parametrize("name", BATCHED)
def test_batch_normalization_is_torch_s_own(name: str):
    net, peer = (build(name, BATCHED[name]) for _ in range(2))
    for path, part in list(peer.named_modules()):
        if isinstance(part, BatchNorm):
            kind = nn.BatchNorm1d if name == "mlp" else nn.BatchNorm2d
            own = kind(part.num_features).double()
            peer.set_submodule(path, own)
    images = [IMAGES, IMAGES.flip(3), 2 * IMAGES]
    found = trained_by_torch(net, images).state_dict()
    for key, expected in trained_by_torch(peer, images).state_dict().items():
        assert relative_error(found[key], expected) < 1e-10
    risk = gt.EmpiricalRisk(net, "cross_entropy", (IMAGES, LABELS))
    assert relative_error(risk.outputs(risk.theta, IMAGES), peer(IMAGES)) < 1e-10
    each = torch.stack(
        [risk.on(x[None], y[None]).gradient() for x, y in zip(IMAGES, LABELS, strict=True)]
    )
    assert relative_error(gradient_norms(risk), each.square().sum(1)) < 1e-10


@pytest.mark.parametrize("name", BATCHED)
def test_trap_1_a_stack_can_carry_each_model_s_running_statistics(name: str):
    nets = [moved(build(name, BATCHED[name], m)) for m in range(2)]
    theta, layout = torch.stack([flatten(net) for net in nets]), Layout.of(nets[0])
    buffers = {key: torch.stack([b, b]) for key, b in nets[0].named_buffers()}
    before = {key: b.clone() for key, b in nets[0].named_buffers()}
    inputs = torch.stack([IMAGES, 2 * IMAGES.flip(3)])

    def step(theta: Tensor, old: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Any]:
        tensors = {**layout.unflatten(theta), **old}
        outputs = torch.func.functional_call(nets[0], tensors, (x,))
        return F.cross_entropy(outputs, LABELS), {key: tensors[key] for key in old}

    gradients, after = torch.func.vmap(torch.func.grad(step, has_aux=True))(theta, buffers, inputs)
    for key, buffer in nets[0].named_buffers():
        assert torch.equal(buffer, before[key])
    for m, net in enumerate(nets):
        loss = F.cross_entropy(net.train()(inputs[m]), LABELS)
        wanted = torch.autograd.grad(loss, list(net.parameters()))
        assert relative_error(gradients[m], torch.cat([g.flatten() for g in wanted])) < 1e-9
        for key, buffer in net.named_buffers():
            assert relative_error(after[key][m], buffer) < 1e-12
