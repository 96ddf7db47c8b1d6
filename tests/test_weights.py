"""Weights as they act: BatchNorm folded without a trace in the outputs, spectral norms exact."""

import numpy as np
import pytest
import torch
from cases import CASES
from torch import Tensor, nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.params import flatten
from gentheory.weights import Weights, folded


def checkpoint_of(module: nn.Module, shape: tuple[int, ...], **options: object) -> Checkpoint:
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, *shape, generator=stream, dtype=torch.float64)
    targets = torch.randint(3, (6,), generator=stream)
    risk = gt.EmpiricalRisk(module.double(), "cross_entropy", (inputs, targets), batch_size=4)
    return Checkpoint(risk, **options)  # pyright: ignore[reportArgumentType]


def seeded(build: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build().double()  # pyright: ignore[reportCallIssue]


def statistics(module: nn.Module) -> nn.Module:
    """Running statistics, scales and shifts that are not those of a fresh BatchNorm."""
    stream = torch.Generator().manual_seed(2)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(generator=stream)
            part.running_var.uniform_(0.5, 2, generator=stream)
            if part.affine:
                nn.init.normal_(part.weight, generator=stream)
                nn.init.normal_(part.bias, generator=stream)
    return module


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a layer without its bias, column by column."""
    zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).detach()
    eye = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    return (layer(eye) - zero).detach().flatten(1).T


CONVOLUTIONS = {
    "plain": (lambda: nn.Conv2d(2, 3, 3), (2, 6, 5)),
    "padded and strided": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 6, 5)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 6, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "same": (lambda: nn.Conv2d(2, 3, (3, 1), padding="same"), (2, 4, 4)),
    "reflected": (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),
    "one axis": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 7)),
    "three axes": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1), (3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_spectral_norm_of_a_convolution_is_that_of_its_matrix(name: str):
    build, shape = CONVOLUTIONS[name]
    layer = seeded(build)
    matrix = dense(layer, shape)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(len(matrix), 3))
    squares, errors = Weights.of(checkpoint_of(net, shape), "here").spectral()
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert squares[0].item() == pytest.approx(values[0] ** 2, rel=1e-9)
    assert 0 <= errors[0].item() <= 1e-5 * squares[0].item()
    assert errors[1] == 0


def test_circular_convolution_has_the_singular_values_of_its_fourier_blocks():
    # Sedghi, Gupta & Long 2019: for each frequency the matrix of the kernel's transforms.
    build = lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")  # noqa: E731
    layer = seeded(build)
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(4 * 8 * 8, 3))
    squares, _ = Weights.of(checkpoint_of(net, (3, 8, 8)), "here").spectral()
    transforms = np.fft.fft2(layer.weight.detach().numpy(), (8, 8))  # [out, in, 8, 8]
    blocks = np.linalg.svd(transforms.transpose(2, 3, 0, 1), compute_uv=False)
    assert squares[0].item() == pytest.approx(blocks.max() ** 2, rel=1e-9)


class TwoSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        once = nn.functional.avg_pool2d(self.conv(x), 2)
        return self.last(nn.functional.avg_pool2d(self.conv(once), 2).flatten(1))


def test_a_convolution_on_two_sizes_counts_with_the_larger_norm():
    net = seeded(TwoSizes)
    weights = Weights.of(checkpoint_of(net, (1, 8, 8)), "here")
    sizes = [np.linalg.norm(dense(net.conv, (1, s, s)).numpy(), 2) ** 2 for s in (8, 4)]
    assert weights.spectral()[0, 0].item() == pytest.approx(max(sizes), rel=1e-9)
    assert len(weights.entries) == 2


def test_folding_leaves_the_outputs_as_they_were():
    case = CASES["batch norm"]
    held = Checkpoint(case.risk(), torch.ones_like(case.risk().theta))
    found = folded(held)
    risk, inputs = found.checkpoint.risk, case.data[0]
    assert not found.warnings
    assert not any(
        isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d) for part in risk.module.modules()
    )
    for theta, own in ((held.risk.theta, risk.theta), (held.initial, found.checkpoint.initial)):
        torch.testing.assert_close(risk.outputs(own, inputs), held.risk.outputs(theta, inputs))


def test_folded_weights_are_scaled_row_by_row():
    module = statistics(
        seeded(
            lambda: nn.Sequential(
                nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)
            )
        )
    )
    norm = module[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weights = Weights.of(checkpoint_of(module, (5,)), "here")
    assert [entry.name for entry in weights.entries] == ["0.weight", "3.weight"]
    torch.testing.assert_close(
        weights.entries[0].values, (scale[:, None] * module[0].weight).detach()
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "batch norm"])
def test_without_batch_norm_there_is_nothing_to_fold(name: str):
    held = Checkpoint(CASES[name].risk())
    assert folded(held).checkpoint is held


class Bypassed(nn.Module):
    """The layer's output goes into the BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.second, self.after = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.after(self.second((h + self.norm(h)).relu())))


def test_a_batch_norm_that_does_not_own_its_layer_stays_and_is_named():
    net = statistics(seeded(Bypassed))
    found = folded(checkpoint_of(net, (5,)))
    assert isinstance(found.checkpoint.risk.module.get_submodule("norm"), nn.BatchNorm1d)
    assert isinstance(found.checkpoint.risk.module.get_submodule("after"), nn.Identity)
    assert found.warnings == ("BatchNorm not folded, not right behind a layer of its own: norm",)


@pytest.mark.parametrize(
    "between", [nn.ReLU(), nn.ReLU(inplace=True)], ids=["after a ReLU", "after one in place"]
)
def test_a_batch_norm_behind_an_activation_stays(between: nn.Module):
    net = seeded(
        lambda: nn.Sequential(nn.Linear(5, 4), between, nn.BatchNorm1d(4), nn.Linear(4, 3))
    )
    held = checkpoint_of(statistics(net), (5,))
    found = folded(held)
    assert found.checkpoint is held
    assert found.warnings == ("BatchNorm not folded, not right behind a layer of its own: 2",)


def test_batch_norm_without_scales_folds_too():
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, affine=False), nn.Flatten(), nn.Linear(9, 3)
        )
    )
    held = checkpoint_of(statistics(net), (2, 4))
    found = folded(held)
    inputs = next(held.risk.batches())[0]
    assert found.checkpoint is not held
    torch.testing.assert_close(
        found.checkpoint.risk.outputs(found.checkpoint.risk.theta, inputs),
        held.risk.outputs(held.risk.theta, inputs),
    )


def test_trap_15_tied_weights_count_once_and_frozen_ones_count():
    assert len(Weights.of(Checkpoint(CASES["tied modules"].risk()), "here").entries) == 2
    frozen = Weights.of(Checkpoint(CASES["frozen"].risk()), "here")
    assert [entry.name for entry in frozen.entries] == ["0.weight", "2.weight", "4.weight"]


def test_frozen_weights_have_not_moved():
    risk = CASES["frozen"].risk()
    weights = Weights.of(Checkpoint(risk, torch.zeros_like(risk.theta)), "here")
    apart = weights.frobenius_apart
    assert apart[0] == 0
    torch.testing.assert_close(apart[1:], weights.frobenius[1:])
    assert weights.spectral_apart()[0, 0] == 0


def test_no_weight_and_no_start_are_refused():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    with pytest.raises(gt.InputError, match="no parameter with two axes or more"):
        Weights.of(checkpoint_of(Scale(), (3,)), "here")
    weights = Weights.of(Checkpoint(CASES["mlp"].risk()), "here")
    with pytest.raises(gt.InputError, match="no initial parameters"):
        _ = weights.frobenius_apart
    with pytest.raises(gt.InputError, match="no initial parameters"):
        weights.spectral_apart()


def test_the_users_module_stays_as_it_was():
    net = statistics(seeded(Bypassed))
    before, theta = {k: v.clone() for k, v in net.state_dict().items()}, flatten(net)
    held = checkpoint_of(net, (5,), initial=torch.zeros_like(theta))
    folded(held)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(held.risk.theta, theta)
