"""What holds on the CPU holds on a CUDA device, to rounding."""

import pytest
import torch
from cases import CASES

import gentheory as gt
from gentheory import losses, measures, models
from gentheory.checkpoint import Checkpoint
from gentheory.data import Split, gaussian_classes
from gentheory.params import flatten
from gentheory.training.loop import Plan, train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


PRECISE = {"tic.solve": {"rtol": 1e-11}}
"""Options with which what is solved to a tolerance is comparable to rounding."""


@pytest.mark.parametrize("rung", ["blocks", "diagonal", "ekfac", "kfac", "solve", "trace_ratio"])
def test_the_same_targets_are_drawn(rung: str):
    """The sampled Fisher's draw belongs to the generator, wherever the model is."""
    case, name, values = CASES["grouped conv"], f"tic.{rung}", []
    options = {name: {"curvature": "sampled_fisher", **PRECISE.get(name, {})}}
    for device in ("cpu", "cuda"):
        risk = gt.EmpiricalRisk(case.module.to(device), case.loss, case.data, weight_decay=0.02)
        values.append(gt.measure(Checkpoint(risk), name, options=options)[name].value)
    assert values[1] == pytest.approx(values[0], rel=1e-8)


@pytest.mark.parametrize("name", measures.names())
@pytest.mark.parametrize("net", ["mlp", "conv", "attention"])
def test_every_measure(net: str, name: str):
    case, values = CASES[net], []
    for device in ("cpu", "cuda"):
        risk = gt.EmpiricalRisk(case.module.to(device), case.loss, case.data)
        start = torch.zeros_like(risk.theta)
        options = {name: PRECISE[name]} if name in PRECISE else {}
        values.append(gt.measure(Checkpoint(risk, start), name, options=options)[name].value)
    case.module.to("cpu")
    assert values[1] == pytest.approx(values[0], rel=1e-8)


def test_training_a_stack():
    options = {"num_features": 5, "num_classes": 3, "separation": 2.0, "seed": 0}
    data, _ = gaussian_classes(num_train=23, num_test=5, **options)
    plan = Plan(5, 4, torch.tensor([0.02, 0.1]), torch.tensor([0.0, 0.9]), torch.zeros(2))
    found = []
    for device in ("cpu", "cuda"):
        nets = [models.build("mlp", shape=(5,), num_classes=3, seed=s).to(device) for s in (0, 1)]
        theta = torch.stack([*map(flatten, nets)]).double()
        there = Split(data.inputs.to(device), data.targets.to(device), 3, data.name)
        orders = [torch.Generator().manual_seed(s) for s in (0, 1)]
        found.append(train(nets[0], losses.cross_entropy, theta, there, plan, orders).theta.cpu())
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)


def test_hundreds_of_small_models_train_at_once():
    """512 nets in one stack on the device end where the first of them end on the CPU."""
    options = {"num_features": 49, "num_classes": 10, "separation": 2.0, "seed": 0}
    data, _ = gaussian_classes(num_train=64, num_test=5, **options)
    net, count = models.build("mlp", shape=(49,), num_classes=10, seed=0), 512
    stream = torch.Generator().manual_seed(0)
    start = flatten(net) + 0.1 * torch.randn(count, len(flatten(net)), generator=stream)
    found = []
    for device, models_there in (("cpu", 4), ("cuda", count)):
        rates, zeros = torch.full((models_there,), 0.05), torch.zeros(models_there)
        plan = Plan(4, 16, rates, zeros, zeros)
        there = Split(data.inputs.to(device), data.targets.to(device), 10, data.name)
        theta = start[:models_there].double().to(device)
        orders = [torch.Generator().manual_seed(m) for m in range(models_there)]
        trained = train(net.to(device), losses.cross_entropy, theta, there, plan, orders)
        assert trained.outcomes == ("finished",) * models_there
        found.append(trained.theta[:4].cpu())
    net.to("cpu")
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)
