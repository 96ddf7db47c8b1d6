"""What the factors explain, and that factors and the rest make up every example's gradient."""

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error
from torch import nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.factors.capture import Capture, capture, explain
from gentheory.factors.ghost import gradient_norms
from gentheory.factors.passes import output_captures
from gentheory.seeds import generator


def gradients(risk: gt.EmpiricalRisk, captured: Capture) -> torch.Tensor:
    """[K, B, P] in theta's order, out of the factors and the rest."""
    rest = [name for name in risk.layout.names if name not in captured.factors]
    sizes = [risk.layout.slices[n].stop - risk.layout.slices[n].start for n in rest]
    parts = dict(zip(rest, captured.rest.split(sizes, dim=2), strict=True))
    parts |= {name: factor.dense() for name, factor in captured.factors.items()}
    return torch.cat([parts[name] for name in risk.layout.names], dim=2)


def test_trap_15_odd_uses_of_a_parameter_are_not_explained(case: Case):
    risk = case.risk()
    assert set(risk.layout.names) - explain(risk, case.data[0]) == case.unexplained


def test_every_example_s_jacobian(case: Case):
    risk, found = case.risk(), []
    for (inputs, _), captured in output_captures(risk):
        assert relative_error(captured.outputs, risk.outputs(risk.theta, inputs)) < 1e-14
        found.append(gradients(risk, captured).transpose(0, 1))
    assert relative_error(torch.cat(found), truth(case.name).jacobians) < 1e-10


def test_several_cotangents_at_once(case: Case):
    risk, jacobians = case.risk(), truth(case.name).jacobians
    inputs, (count, outputs) = case.data[0], jacobians.shape[:2]
    cotangents = torch.randn(2, count, outputs, generator=generator("u"), dtype=torch.float64)
    captured = capture(risk, inputs, lambda _: cotangents, explained=explain(risk, inputs))
    expected = torch.einsum("kbc,bcp->kbp", cotangents, jacobians)
    assert relative_error(gradients(risk, captured), expected) < 1e-10
    plain = capture(risk, inputs, lambda _: cotangents, explained=frozenset())
    assert not plain.factors
    assert relative_error(plain.rest, expected) < 1e-10


@pytest.mark.parametrize("count", [1, 2, 8])
def test_trap_15_a_layer_on_another_axis_is_not_explained_for_any_batch(count: int):
    case = CASES["time first"]
    x, y = case.data
    risk = gt.EmpiricalRisk(case.module, "cross_entropy", (x[:count], y[:count]))
    assert not explain(risk, x[:count]) & case.unexplained


class Subclassed(nn.Linear):
    """A Linear by name, something else by deed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.tanh(), self.bias)


class Detached(nn.Module):
    """A layer through which no gradient goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.dead, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + self.dead(x).detach())


def norms_of(net: nn.Module) -> tuple[torch.Tensor, torch.Tensor, gt.EmpiricalRisk]:
    """Squared norms by gentheory and by a loop, for two batches."""
    x = torch.randn(6, 5, generator=generator("x"), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 1, 0, 2])
    risk = gt.EmpiricalRisk(net.double(), "cross_entropy", (x, y), batch_size=4)
    found = gradient_norms(risk)
    expected = []
    for i in range(6):
        net.zero_grad()
        F.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        parts = [p.grad for p in net.parameters() if p.grad is not None]
        expected.append(sum(part.square().sum() for part in parts))
    return found, torch.stack(expected), risk


def test_a_subclass_of_a_known_layer_is_not_trusted():
    found, expected, risk = norms_of(nn.Sequential(Subclassed(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    assert relative_error(found, expected) < 1e-12
    assert explain(risk, next(risk.batches())[0]) == {"2.weight", "2.bias"}


def test_a_detached_layer_has_no_gradient():
    found, expected, risk = norms_of(Detached())
    assert relative_error(found, expected) < 1e-12
    assert explain(risk, next(risk.batches())[0]) >= {"last.weight", "last.bias"}


def test_a_functional_hook_leaves_no_trace():
    case = CASES["conv"]
    risk = case.risk()
    list(output_captures(risk))
    assert not any(part._forward_hooks for part in risk.module.modules())
