"""Features that are merged: counts by a loop, and which weights belong to a channel."""

import pytest
import torch
from torch import Tensor, nn

import gentheory as gt
from gentheory.representation import merging
from gentheory.seeds import generator


def by_loop(channels: Tensor, beta: float) -> int:
    groups = [(point, 1) for point in channels]
    limit = beta * float(torch.cdist(channels, channels).max())
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        apart = [float((groups[i][0] - groups[j][0]).norm()) for i, j in pairs]
        if min(apart) > limit:
            break
        i, j = pairs[apart.index(min(apart))]
        (a, m), (b, n) = groups[i], groups[j]
        groups = [g for k, g in enumerate(groups) if k not in (i, j)]
        groups.append(((m * a + n * b) / (m + n), m + n))
    return len(groups)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_features_left_are_those_of_a_loop(beta: float, seed: int):
    points = torch.randn(14, 3, generator=generator(seed), dtype=torch.float64)
    points[3] = points[5]
    assert merging.features_left(points, beta) == by_loop(points, beta)


def test_copies_are_merged_whatever_beta_and_what_is_apart_is_not():
    points = torch.eye(4).repeat(3, 1)
    assert merging.features_left(points, 0.0) == 4
    assert merging.features_left(points, 0.99) == 4
    assert merging.features_left(points[:1], 0.5) == 1
    assert merging.features_left(torch.ones(5, 2), 0.1) == 1


def risk_of(net: nn.Module, *shape: int) -> gt.EmpiricalRisk:
    x = torch.randn(3, *shape, generator=generator(0), dtype=torch.float64)
    return gt.EmpiricalRisk(net.double(), "cross_entropy", (x, torch.tensor([0, 1, 0])))


def test_a_channel_has_its_row_its_bias_and_what_goes_out_of_it():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    risk = risk_of(net, 2)
    moved = risk.at(risk.theta + 1)  # the risk's parameters count, not the module's
    found = merging.channels(moved, ("0", "2", "3"))
    first, second = net[0], net[2]
    expected = torch.cat([first.weight, first.bias[:, None], second.weight.T], dim=1) + 1
    torch.testing.assert_close(found["0"], expected)
    assert list(found) == ["0", "2"]
    assert found["2"].shape == (4, 3 + 2)


def test_a_channel_of_a_convolution_has_its_kernels_and_its_places_in_a_linear_layer():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 2, bias=False), nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3 * 4, 5)
    )
    found = merging.channels(risk_of(net, 1, 4, 4), ("0", "1", "3"))
    kernel, last = net[1].weight, net[3].weight
    assert torch.equal(found["0"][:, 4:], kernel.transpose(0, 1).flatten(1))
    places = last.view(5, 3, 4).transpose(0, 1).flatten(1)
    expected = torch.cat([kernel.flatten(1), net[1].bias[:, None], places], dim=1)
    assert torch.equal(found["1"], expected)


def test_weights_that_do_not_fit_leave_the_incoming_alone():
    net = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (3, 2)), nn.Flatten(), nn.Linear(6, 2))
    grouped = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten())
    found = merging.channels(risk_of(grouped, 1, 1, 1), ("0", "1"))
    assert found["0"].shape == (4, 2)
    assert merging.channels(risk_of(net, 4), ("0", "3"))["0"].shape == (6, 4 + 1 + 2)
    assert torch.equal(found["0"][:, 0], grouped[0].weight.flatten())
