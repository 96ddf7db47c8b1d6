"""Features read by hooks are what the layers are given."""

import pytest
import torch
from cases import CASES
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory import features, models
from gentheory.features import classifier, feature_batches, feature_sizes, layer_names

ENDS_IN_A_LAYER = sorted(set(CASES) - {"scalar"})


def collected(risk: gt.EmpiricalRisk, *layers: str) -> dict[str, Tensor]:
    found = list(feature_batches(risk, layers))
    return {name: torch.cat([each.features[name] for each in found]) for name in found[0].features}


@pytest.mark.parametrize("name", ENDS_IN_A_LAYER)
def test_the_classifier_makes_outputs_of_its_features(name: str):
    risk = CASES[name].risk()
    last = classifier(risk)
    batches = list(feature_batches(risk))
    assert [len(each.outputs) for each in batches] == [len(x) for x, _ in risk.batches()]
    for each, (x, y) in zip(batches, risk.batches(), strict=True):
        assert torch.equal(each.targets, y)
        assert torch.equal(each.outputs, risk.outputs(risk.theta, x))
        made = F.linear(each.features[last.name], last.weight, last.bias)
        torch.testing.assert_close(made, each.outputs, rtol=1e-12, atol=1e-12)
    assert feature_sizes(risk) == {last.name: last.weight.shape[1]}


def test_a_classifier_at_other_parameters_is_another_one():
    risk = CASES["mlp"].risk()
    moved = risk.at(risk.theta + 1)
    assert torch.equal(classifier(moved).weight, classifier(risk).weight + 1)


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_constant_factors_behind_the_layer_are_part_of_it(parametrization: str):
    net = models.mlp(
        shape=(5,), num_classes=3, width=7, parametrization=parametrization, output_scale=4.0
    )
    risk = gt.EmpiricalRisk(net.double(), "cross_entropy", CASES["mlp"].data)
    last = classifier(risk)
    h = collected(risk)[last.name]
    outputs = risk.outputs(risk.theta, CASES["mlp"].data[0])
    torch.testing.assert_close(F.linear(h, last.weight, last.bias), outputs)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(5, 3), nn.LogSoftmax(1)),
        models.mlp(shape=(5,), num_classes=3, symmetrized=True),
        CASES["scalar"].module,
    ],
    ids=["probabilities", "difference of nets", "no layer"],
)
def test_a_net_that_ends_in_something_else_is_refused(net: nn.Module):
    start = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data, dtype=torch.float64)
    stream = torch.Generator().manual_seed(0)
    moved = start.theta + torch.randn(start.num_params, generator=stream).double()
    for risk in (start, start.at(moved)):  # at the start a net and its twin give zeros
        with pytest.raises(gt.InputError, match=r"outputs of .*: found values that no linear"):
            classifier(risk)


def test_layers_come_in_the_order_of_the_forward_pass():
    net, (x, _) = CASES["conv"].module.eval(), CASES["conv"].data
    risk = CASES["conv"].risk()
    assert layer_names(risk) == ("0", "2", "5")
    found = collected(risk, *layer_names(risk), "")
    assert torch.equal(found[""], x.flatten(1))
    assert torch.equal(found["0"], x.flatten(1))
    assert torch.equal(found["2"], net[:2](x).flatten(1))
    assert torch.equal(found["5"], net[:5](x))
    assert feature_sizes(risk, ["0", "5"]) == {"0": 72, "5": 12}


@pytest.mark.parametrize(
    ("case", "layer"),
    [
        ("twice", "shared"),  # called twice
        ("unused", "spare"),  # never
        ("time first", "inner"),  # positions on the first axis
        ("rows", "inner"),  # positions and examples on one axis
        ("mlp", "nothing"),
    ],
)
def test_modules_without_one_row_an_example_are_refused(case: str, layer: str):
    risk = CASES[case].risk()
    assert layer not in layer_names(risk)
    with pytest.raises(gt.InputError, match=rf"layers: found '{layer}', no module that is called"):
        next(feature_batches(risk, [layer]))


def test_trap_16_features_are_copied_before_something_works_in_place():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x * 1
            return self.last(self.inner(h) + h.zero_())

    risk = gt.EmpiricalRisk(Writes().double(), "cross_entropy", CASES["mlp"].data)
    assert torch.equal(collected(risk, "inner")["inner"], CASES["mlp"].data[0])


def test_trap_1_batch_norm_uses_its_running_statistics():
    module, (x, _) = CASES["batch norm"].module, CASES["batch norm"].data
    assert module.training
    found = collected(CASES["batch norm"].risk())["6"]
    torch.testing.assert_close(found, module.eval()[:6](x).detach(), rtol=1e-12, atol=1e-12)


def test_nothing_is_left_on_the_net_nor_recorded():
    risk = CASES["mlp"].risk()
    batch = next(feature_batches(risk, layer_names(risk)))
    assert not any(h.requires_grad for h in [batch.outputs, *batch.features.values()])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in risk.module.modules())
    assert features.classifier(risk) is classifier(risk)
