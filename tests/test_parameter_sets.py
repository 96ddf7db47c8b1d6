"""A risk at many parameter vectors is the risk at each of them."""

import pytest
import torch
from cases import CASES, Case
from torch import Tensor, nn

import gentheory as gt
from gentheory import parameter_sets


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def vectors(risk: gt.EmpiricalRisk, count: int) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(count, risk.num_params, generator=stream, dtype=risk.dtype)
    return risk.theta + 0.1 * noise


def test_losses_and_outputs_are_those_of_each_vector(case: Case):
    risk = case.risk()
    thetas = vectors(risk, 3)
    losses = parameter_sets.losses_at(risk, thetas)
    single = torch.stack([risk.example_losses(theta) for theta in thetas])
    torch.testing.assert_close(losses, single.double(), rtol=1e-10, atol=1e-12)
    chunks = [outputs for _, outputs, _ in parameter_sets.outputs_at(risk, thetas)]
    expected = [
        torch.stack([risk.outputs(theta, x) for theta in thetas]) for x, _ in risk.batches()
    ]
    torch.testing.assert_close(
        torch.cat(chunks, dim=1), torch.cat(expected, dim=1).detach(), rtol=1e-10, atol=1e-12
    )


def test_gradients_are_those_of_each_vector(case: Case):
    risk = case.risk()
    thetas = vectors(risk, 3)
    values, gradients = parameter_sets.gradients_at(risk, thetas)
    decayed = torch.stack([risk.gradient(theta) for theta in thetas])
    torch.testing.assert_close(values, parameter_sets.losses_at(risk, thetas).mean(1))
    wanted = decayed - case.weight_decay * thetas
    torch.testing.assert_close(gradients, wanted, rtol=1e-9, atol=1e-12)


def test_trap_30_means_of_float32_losses_are_in_float64():
    risk = CASES["conv"].risk(dtype=torch.float32)
    values, gradients = parameter_sets.gradients_at(risk, risk.theta[None])
    assert values.dtype == gradients.dtype == torch.float64
    torch.testing.assert_close(values[0], risk.value(), rtol=1e-6, atol=0)


def test_pairs_lie_on_both_sides():
    risk = CASES["mlp"].risk()
    stream = torch.Generator().manual_seed(3)
    drawn = torch.cat(list(parameter_sets.pairs(risk, 0.1, 50, stream)))
    assert drawn.shape == (50, 2, risk.num_params)
    torch.testing.assert_close(drawn.mean(1), risk.theta.expand(50, -1))
    spread = (drawn[:, 0] - risk.theta) / 0.1
    assert abs(spread.mean()) < 3 / spread.numel() ** 0.5
    assert abs(spread.std() - 1) < 3 / (2 * spread.numel()) ** 0.5


def test_chunks_of_vectors_and_of_examples_change_nothing(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["conv"].risk()
    thetas = vectors(risk, 5)
    whole = parameter_sets.losses_at(risk, thetas)
    monkeypatch.setattr(parameter_sets, "_NUMBERS", 2 * risk.num_params)
    chunks = {
        (chosen.start, chosen.stop) for chosen, _, _ in parameter_sets.outputs_at(risk, thetas)
    }
    assert chunks == {(0, 2), (2, 4), (4, 5)}
    torch.testing.assert_close(parameter_sets.losses_at(risk, thetas), whole)
    chunked = parameter_sets.gradients_at(risk, thetas)[1]
    monkeypatch.undo()
    torch.testing.assert_close(parameter_sets.gradients_at(risk, thetas)[1], chunked)


class Branching(nn.Module):
    """Looks at a value, which no stack can do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.layer(x)
        return outputs if bool(outputs.sum() < 1e9) else -outputs


def test_a_model_that_cannot_be_stacked_is_run_a_vector_at_a_time():
    stream = torch.Generator().manual_seed(0)
    data = torch.randn(6, 3, generator=stream), torch.randint(2, (6,), generator=stream)
    risk = gt.EmpiricalRisk(Branching(), "cross_entropy", data)
    thetas = vectors(risk, 2)
    losses = parameter_sets.losses_at(risk, thetas)
    single = torch.stack([risk.example_losses(theta) for theta in thetas])
    torch.testing.assert_close(losses, single.double())
    slopes = torch.stack([risk.gradient(theta) for theta in thetas]).double()
    torch.testing.assert_close(
        parameter_sets.gradients_at(risk, thetas)[1], slopes, rtol=1e-5, atol=1e-7
    )


class Viewing(nn.Module):
    """Images whose channels lie side by side have no such view."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(2, 3, 3), nn.Linear(3 * 10 * 10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.convolution(x).relu().view(len(x), -1))


@pytest.mark.parametrize("flattened", [True, False])
def test_convolutions_that_take_turns_are_those_of_each_vector(flattened: bool):
    net = Viewing()
    if flattened:
        net = nn.Sequential(net.convolution, nn.ReLU(), nn.Flatten(), net.last)
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, 12, 12, generator=stream)
    y = torch.randint(2, (40,), generator=stream)
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, y))
    assert x.numel() > parameter_sets._GROUPED
    thetas = vectors(risk, 3)
    losses = parameter_sets.losses_at(risk, thetas)
    single = torch.stack([risk.example_losses(theta) for theta in thetas])
    torch.testing.assert_close(losses, single.double(), rtol=1e-5, atol=1e-6)
    assert risk.known("takes channels last") is flattened
    slopes = torch.stack([risk.gradient(theta) for theta in thetas]).double()
    torch.testing.assert_close(
        parameter_sets.gradients_at(risk, thetas)[1], slopes, rtol=1e-4, atol=1e-6
    )
