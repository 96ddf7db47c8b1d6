"""Tiny nets in float64 (P <= 300), one for each thing that curvature code gets wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import oracle
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory import losses
from gentheory.linalg import LinearOperator


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Label-smoothed cross-entropy: a loss that gentheory knows as a callable only."""
    return F.cross_entropy(outputs, targets, label_smoothing=0.1, reduction="none")


class Skip(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class TiedModules(nn.Module):
    """Two Linear modules share one Parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).relu()).relu())


class TiedFunctional(nn.Module):
    """The encoder's weight once more, transposed and functional, as in an autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.last = nn.Linear(5, 4), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.linear(self.encoder(x).tanh(), self.encoder.weight.T))


class LateTie(nn.Module):
    """Functional use of a layer's weight that the first examples do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        again = F.linear(x, self.layer.weight) * x[:, :1].relu()
        return self.last((self.layer(x) + again).tanh())


class TiedEmbedding(nn.Module):
    """A language model's head: the embedding is the decoder's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(4, 5), nn.Linear(5, 5)
        self.decoder = nn.Linear(5, 4)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.hidden(self.embedding(x).mean(1)).tanh())


class InPlace(nn.Module):
    """In-place activations as modules, as functions and as augmented assignment.

    The skip adds what the block's first layer has left of its input: without `inplace` this would
    be another function.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True), nn.Linear(5, 5))
        self.block = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 5))
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        h = h + self.block(h)
        h += 0.5
        h.relu_()
        return self.last(h)


class Attention(nn.Module):
    """Self-attention through scaled_dot_product_attention, then the mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class OwnAttention(nn.Module):
    """One fused Linear for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.fused, self.norm, self.last = nn.Linear(4, 12), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.fused(self.norm(x)).chunk(3, dim=-1)
        return self.last((x + F.scaled_dot_product_attention(q, k, v)).mean(1))


class TimeFirst(nn.Module):
    """A Linear on [T, B, D]: the examples are not on the axis where they usually are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x.transpose(0, 1)).tanh().mean(0))


class Rows(nn.Module):
    """A Linear on [B · T, D], positions and examples in one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x.reshape(-1, x.shape[-1])).tanh()
        return self.last(hidden.reshape(*x.shape[:2], -1).sum(1))


class Scaled(nn.Module):
    """A scalar parameter: a learned temperature, and no layer that gentheory knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3))
        self.temperature = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).tanh() / self.temperature


class Unused(nn.Module):
    """A layer that is never called, and one row of parameters that never matters."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.body = nn.Linear(3, 2), nn.Linear(5, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x).relu())


class Twice(nn.Module):
    """One layer in two places, in both of which its gradient counts."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(self.shared(x).tanh()).tanh())


def _linear_net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3))


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(3, 2, (3, 2), padding=(1, 0)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def _grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)
    )


def _odd_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
        nn.Tanh(),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def _batch_norm() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.BatchNorm1d(4),
        nn.Linear(4, 3),
    )
    for norm in (net[1], net[5]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.normal_(norm.weight, 1.0, 0.3)
    return net


def _dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def _layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))


def _embedding() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def _gelu_residual() -> nn.Module:
    block = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 5))
    return nn.Sequential(Skip(block), nn.Linear(5, 3))


def _skip() -> nn.Module:
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), Skip(block), nn.Linear(6, 3))


def _frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    net[0].requires_grad_(False)
    net[4].bias.requires_grad_(False)
    return net


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


@dataclass(frozen=True)
class Case:
    """A net, a loss and data; everything else follows from the seed."""

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    loss: str | losses.PerExample = "cross_entropy"
    targets: str = "classes"  # or "soft", "real"
    count: int = 9
    num_classes: int = 3
    vocabulary: int = 0
    weight_decay: float = 0.0
    unexplained: frozenset[str] = frozenset()  # parameters that factors must leave to torch.func
    piecewise: bool = False  # linear in each layer given the others, on the piece at hand

    @property
    def module(self) -> nn.Module:
        """A new copy at each call, in training mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(self.name))
            return self.build().double().train()

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        stream = torch.Generator().manual_seed(_seed(self.name) + 1)
        shape = (self.count, *self.shape)
        inputs = torch.randn(shape, generator=stream, dtype=torch.float64)
        if self.vocabulary:
            inputs = torch.randint(self.vocabulary, shape, generator=stream)
        if self.name == "late tie":
            inputs[0, 0] = -1.0  # the functional path is closed for the first example
        targets = torch.randint(self.num_classes, (self.count,), generator=stream)
        if self.targets != "classes":
            targets = torch.randn(self.count, self.num_classes, generator=stream).double()
            targets = targets.softmax(1) if self.targets == "soft" else targets
        return inputs, targets

    def risk(self, **options: Any) -> gt.EmpiricalRisk:
        options = {"weight_decay": self.weight_decay, "batch_size": 4, **options}
        return gt.EmpiricalRisk(self.module, self.loss, self.data, **options)

    @property
    def likelihood(self) -> str | None:
        return self.loss if isinstance(self.loss, str) else None

    @property
    def values(self) -> losses.PerExample:
        """The loss by torch's own functions."""
        if self.loss == "cross_entropy":
            return lambda f, y: F.cross_entropy(f, y, reduction="none")
        if self.loss == "mse" and self.targets == "classes":
            return lambda f, y: F.mse_loss(
                f, F.one_hot(y, f.shape[1]).double(), reduction="none"
            ).mean(1)
        if self.loss == "mse":
            return lambda f, y: F.mse_loss(f, y, reduction="none").mean(1)
        return smoothed


def _seed(name: str) -> int:
    return int.from_bytes(name.encode()[:6], "big")


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


CASES = {
    case.name: case
    for case in (
        Case("mlp", _mlp, (5,), count=12, piecewise=True),
        Case("linear net", _linear_net, (5,), targets="soft", piecewise=True),
        Case("skip", _skip, (5,), weight_decay=0.1, piecewise=True),
        Case("conv", _conv, (2, 6, 6), count=7, piecewise=True),
        Case("grouped conv", _grouped, (4, 4, 4), weight_decay=0.02),
        Case(
            "odd conv",
            _odd_conv,
            (1, 4, 4),
            unexplained=_names("0.weight", "0.bias", "2.weight", "2.bias"),
        ),
        Case("tied modules", TiedModules, (4,), weight_decay=0.05),
        Case("tied functional", TiedFunctional, (5,), unexplained=_names("encoder.weight")),
        Case("late tie", LateTie, (4,), unexplained=_names("layer.weight")),
        Case(
            "embedding tied",
            TiedEmbedding,
            (3,),
            num_classes=4,
            vocabulary=4,
            unexplained=_names("embedding.weight"),
        ),
        Case("in place", InPlace, (5,), piecewise=True),
        Case(
            "batch norm",
            _batch_norm,
            (1, 4, 4),
            unexplained=_names("1.weight", "1.bias", "5.weight", "5.bias"),
        ),
        Case("dropout", _dropout, (5,), loss="mse", weight_decay=0.1),
        Case("layer norm", _layer_norm, (5,), smoothed, unexplained=_names("1.weight", "1.bias")),
        Case(
            "attention",
            Attention,
            (3, 4),
            unexplained=_names(
                "attention.in_proj_weight",
                "attention.in_proj_bias",
                "attention.out_proj.weight",
                "attention.out_proj.bias",
            ),
        ),
        Case("own attention", OwnAttention, (5, 4), unexplained=_names("norm.weight", "norm.bias")),
        Case("embedding", _embedding, (4,), vocabulary=7, unexplained=_names("0.weight")),
        Case("gelu residual", _gelu_residual, (5,), "mse", "real", weight_decay=0.01),
        Case("frozen", _frozen, (5,), "mse", num_classes=4),
        Case(
            "unused",
            Unused,
            (5,),
            weight_decay=0.2,
            unexplained=_names("spare.weight", "spare.bias"),
        ),
        Case("twice", Twice, (5,), smoothed, weight_decay=0.03),
        Case(
            "time first",
            TimeFirst,
            (8, 3),
            count=8,
            unexplained=_names("inner.weight", "inner.bias"),
        ),
        Case("rows", Rows, (4, 3), "mse", "real", unexplained=_names("inner.weight", "inner.bias")),
        Case("scalar", Scaled, (5,), unexplained=_names("weight", "temperature")),
    )
}


def operator_of(matrix: Tensor) -> LinearOperator:
    """A symmetric matrix as a matrix-free operator."""
    return LinearOperator(lambda v: v @ matrix, len(matrix), matrix.dtype, matrix.device)


@cache
def truth(name: str) -> oracle.Dense:
    """The dense matrices of a case, computed once for the whole suite."""
    case = CASES[name]
    inputs, targets = case.data
    return oracle.dense(
        case.module,
        case.values,
        inputs,
        targets,
        weight_decay=case.weight_decay,
        likelihood=case.likelihood,
    )
