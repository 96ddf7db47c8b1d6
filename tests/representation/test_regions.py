"""ReLUs that are on, and kinks near an example: counted by hand on nets made for it."""

import math

import pytest
import torch
from cases import CASES
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.errors import InputError
from gentheory.representation import regions
from gentheory.seeds import generator


def risk_of(net: nn.Module, inputs: Tensor, batch_size: int = 512) -> gt.EmpiricalRisk:
    targets = torch.zeros(len(inputs), dtype=torch.int64)
    return gt.EmpiricalRisk(net.double(), "cross_entropy", (inputs, targets), batch_size=batch_size)


def two_units(second: float = 1.0) -> nn.Sequential:
    """ReLU(x₀), ReLU(x₁ − 1), then ReLU of their difference: kinks are known lines."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.copy_(torch.tensor([0.0, -1.0]))
        net[2].weight.copy_(torch.tensor([[1.0, -second]]))
        net[2].bias.zero_()
    return net


AXES = torch.eye(2).double()[None]


@pytest.mark.parametrize(
    ("x", "radius", "expected"),
    [
        ((0.3, 0.2), 0.1, (0, 0)),
        ((0.05, 0.2), 0.1, (1, 0)),  # x₀ = 0 passes; the second unit is 0 or above
        ((0.05, 1.02), 0.1, (2, 1)),
        ((2.0, 2.95), 0.1, (0, 1)),  # x₀ = x₁ − 1 alone passes
        ((2.0, 2.0), 0.99, (0, 0)),  # the line through (1, 2) and (2, 3) lies outside
        ((2.0, 2.0), 1.01, (1, 1)),  # x₁ = 1 passes, and so does the line
        ((0.0, 1.0), 0.1, (2, 1)),  # on both kinks
    ],
)
def test_kinks_near_a_point_are_those_of_the_lines(
    x: tuple[float, float], radius: float, expected: tuple[int, int]
):
    risk = risk_of(two_units(), torch.tensor([x], dtype=torch.float64))
    found = regions.crossings(risk, AXES, radius)
    assert found[:, 0, 0].tolist() == list(expected)


def test_zero_lies_on_both_sides_of_a_kink():
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0]]))
    at = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.25, 0.0]]).double()
    # The first two touch the kink with one vertex; the third has vertices on either side.
    assert regions.crossings(risk_of(net, at), AXES, 0.5)[0, 0].tolist() == [0, 0, 1]


def test_a_dead_unit_has_no_kink_anywhere():
    net = two_units()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.zero_()
    found = regions.crossings(risk_of(net, torch.randn(5, 2).double()), AXES, 10.0)
    assert int(found.sum()) == 0


def by_loop(net: nn.Sequential, x: Tensor, frame: Tensor, radius: float) -> list[int]:
    vertices = torch.cat([x + radius * frame.T, x - radius * frame.T])
    counts: list[int] = []
    for layer in net:
        if isinstance(layer, nn.ReLU):
            counts.append(int(((vertices > 0).any(0) & (vertices < 0).any(0)).sum()))
        vertices = layer(vertices)
    return counts


def test_crossings_are_those_of_a_loop_over_vertices(monkeypatch: pytest.MonkeyPatch):
    net = CASES["mlp"].module.eval()
    x = torch.randn(11, 5, generator=generator(0), dtype=torch.float64)
    frames = regions.frames(2, 5, 3, generator(1))
    torch.testing.assert_close(frames.mT @ frames, torch.eye(3).double().expand(2, 3, 3))
    expected = [[by_loop(net, each, frame, 0.4) for each in x] for frame in frames]
    found = regions.crossings(risk_of(net, x, batch_size=4), frames, 0.4)
    assert found.permute(1, 2, 0).tolist() == expected
    monkeypatch.setattr(regions, "_NUMBERS", 60)  # two examples at once
    assert torch.equal(regions.crossings(risk_of(net, x), frames, 0.4), found)


def test_pixels_of_a_convolution_are_units_of_their_own():
    case = CASES["conv"]
    risk = case.risk()
    frames = regions.frames(1, 72, 4, generator(0))
    found = regions.crossings(risk, frames, 1e3)
    sizes = [3 * 4 * 4, 2 * 4 * 3]
    assert found.shape == (2, 1, 7)
    assert all(0 < int(layer.max()) <= size for layer, size in zip(found, sizes, strict=True))


class Forms(nn.Module):
    """The same activation as a module, as functions, as methods and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        outs = [nn.ReLU()(h), nn.ReLU(inplace=True)(h.clone()), F.relu(h), torch.relu(h), h.relu()]
        own = h.clone()
        own.relu_()
        return self.last(sum([*outs, own]))


def test_every_way_to_write_a_relu_is_seen():
    x = torch.randn(6, 3, generator=generator(0), dtype=torch.float64)
    risk = risk_of(Forms(), x, batch_size=4)
    shares = regions.shares_on(risk)
    module = risk.module
    expected = (F.linear(x, module.first.weight, module.first.bias) > 0).double().mean(1)
    assert shares.shape == (6, 6)
    assert all(torch.equal(row, expected) for row in shares)
    assert regions.curved(risk) == ((), 6)


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("mlp", ()),
        ("linear net", ()),
        ("twice", ("tanh",)),
        ("gelu residual", ("gelu",)),
        ("layer norm", ("gelu", "native_layer_norm")),
    ],
)
def test_what_is_not_piecewise_linear_is_named(case: str, names: tuple[str, ...]):
    assert regions.curved(CASES[case].risk())[0] == names


@pytest.mark.parametrize("case", ["attention", "own attention"])
def test_attention_is_not_piecewise_linear(case: str):
    found = regions.curved(CASES[case].risk())[0]
    assert any("attention" in name or "softmax" in name for name in found)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x.transpose(0, 1)).relu().mean(0))


@pytest.mark.parametrize("count", [6, 5])
def test_activations_with_the_examples_elsewhere_are_refused(count: int):
    risk = risk_of(TimeFirst(), torch.randn(count, 6, 3, generator=generator(0)).double())
    with pytest.raises(InputError, match="the examples on the first axis of every activation"):
        regions.shares_on(risk)


def test_the_error_of_a_table_covers_its_rows_and_its_columns():
    rows, columns, squares, means = 4, 12, [], []
    for seed in range(400):
        draw = torch.randn(rows + columns + rows * columns, generator=generator("table", seed))
        a, b, rest = draw.double().split([rows, columns, rows * columns])
        table = a[:, None] + 2 * b + 3 * rest.view(rows, columns)
        squares.append(regions.crossed_stderr(table) ** 2)
        means.append(float(table.mean()))
    truth = 1 / rows + 4 / columns + 9 / (rows * columns)
    found = torch.tensor(squares)
    assert torch.tensor(means).var() == pytest.approx(truth, rel=0.2)
    assert found.mean() == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1)])
def test_the_error_of_a_single_row_or_column_is_not_known(shape: tuple[int, int]):
    assert math.isnan(regions.crossed_stderr(torch.randn(shape, generator=generator(0))))
