"""The nets and data that every contestant gets: 2,000 images of MNIST, briefly trained nets."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory.data import load
from gentheory.data.files import VARIABLE

_EXAMPLES = {
    **dict.fromkeys(("mlp", "small", "middle", "tiny", "cnn"), 2000),
    **{"resnet": 64, "transformer": 500},
}
NETS = tuple(_EXAMPLES)
SIDES = {"middle": 8, "tiny": 7}
"""Pixels of a side of the images, where they are not 28."""


@dataclass(frozen=True)
class Problem:
    """A trained net in eval mode, and data of one batch, on one device in float32."""

    net: str
    model: nn.Module
    x: Tensor  # [N, 1, side, side]
    y: Tensor  # [N]

    @property
    def device(self) -> torch.device:
        """Of the net and of the data."""
        return self.x.device

    @property
    def params(self) -> list[nn.Parameter]:
        """The net's own, in its order."""
        return list(self.model.parameters())

    @property
    def num_params(self) -> int:
        """P."""
        return sum(p.numel() for p in self.params)

    def risk(self) -> gt.EmpiricalRisk:
        """The same for gentheory."""
        return gt.EmpiricalRisk(self.model, "cross_entropy", (self.x, self.y))

    def own(self) -> "Problem":
        """With a copy of the net: some peers leave hooks and gradients on it."""
        return replace(self, model=copy.deepcopy(self.model))

    def vectors(self, count: int) -> Tensor:
        """Standard normal vectors [count, P], the same for every contestant."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(count, self.num_params, generator=generator).to(self.device)


def problem(net: str, *, examples: int | None, device: str, cache: Path) -> Problem:
    """The net, trained once, with its first examples; net and examples are kept in `cache`."""
    model = build(net)
    path = cache / f"{net}.pt"
    if not path.exists():
        x, y = images(_EXAMPLES[net])
        x = F.adaptive_avg_pool2d(x, SIDES.get(net, 28))
        train(model, x, y)
        torch.save((model.state_dict(), x, y), path)
    state, x, y = torch.load(path, weights_only=True)
    model.load_state_dict(state)
    count = examples or len(x)
    return Problem(net, model.eval().to(device), x[:count].to(device), y[:count].to(device))


def images(count: int) -> tuple[Tensor, Tensor]:
    """Images of MNIST [N, 1, 28, 28] and classes; scikit-learn's digits, enlarged, without it."""
    if os.environ.get(VARIABLE):
        train, _ = load("mnist")
        return train.inputs[:count].contiguous(), train.targets[:count].contiguous()
    parts = load("digits")
    inputs = torch.cat([part.inputs for part in parts])[:count]
    targets = torch.cat([part.targets for part in parts])[:count]
    return F.interpolate(inputs, size=(28, 28), mode="bilinear"), targets


def data_name() -> str:
    """What `images` gives."""
    return "MNIST" if os.environ.get(VARIABLE) else "scikit-learn's digits at 28x28"


def build(net: str) -> nn.Module:
    """Untrained, from a fixed seed."""
    builders: dict[str, Callable[[], nn.Module]] = {
        "mlp": mlp,
        "small": small,
        "middle": middle,
        "tiny": tiny,
        "cnn": cnn,
        "resnet": ResNet,
        "transformer": Transformer,
    }
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return builders[net]()


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Two epochs of SGD in batches of 50: enough for a spectrum with a bulk and outliers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    model.train()
    for _ in range(2):
        for inputs, targets in zip(x.split(50), y.split(50), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()


def mlp() -> nn.Sequential:
    """784-256-256-10."""
    hidden = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(256, 10))


def small() -> nn.Sequential:
    """784-60-40-10, P = 49,950."""
    hidden = [nn.Linear(784, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(40, 10))


def middle() -> nn.Sequential:
    """64-128-128-10, for images 8x8."""
    hidden = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


def tiny() -> nn.Sequential:
    """49-10-10-10, for images 7x7: P = 720."""
    hidden = [nn.Linear(49, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(10, 10))


def cnn() -> nn.Sequential:
    """Two convolutions 3x3 of 8 and 16 channels with mean pooling, 60 hidden units: P = 48,958."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(784, 60), nn.ReLU(), nn.Linear(60, 10)),
    )


class ResNet(nn.Module):
    """ResNet-20 (He et al. 2016) for one channel: three stages of three blocks, P = 272,000."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        widths = [16] * 4 + [32] * 3 + [64] * 3
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(widths)))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 28, 28] -> [B, 10]."""
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, incoming: int, outgoing: int) -> None:
        super().__init__()
        stride = 1 if incoming == outgoing else 2
        self.first = nn.Conv2d(incoming, outgoing, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outgoing)
        self.second = nn.Conv2d(outgoing, outgoing, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outgoing)
        self.skip = (
            nn.Identity() if stride == 1 else nn.Conv2d(incoming, outgoing, 1, stride=2, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(inner + self.skip(x))


class Transformer(nn.Module):
    """A small vision transformer: 16 patches of 7x7, two blocks of width 64 with 4 heads.

    Attention in plain matrix products, which every contestant can differentiate twice.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 7, stride=7)
        self.place = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(_Layer(width) for _ in range(2)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 28, 28] -> [B, 10]."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.blocks(tokens).mean(1))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.inward(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each [B, H, T, D]
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.outward((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
