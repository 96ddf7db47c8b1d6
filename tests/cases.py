"""Tiny nets in float64 (P <= 300), one for each thing that curvature code gets wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import nets
import oracle
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gentheory as gt
from gentheory import losses
from gentheory.linalg import LinearOperator
from gentheory.trajectory import Trajectory


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Label-smoothed cross-entropy: a loss that gentheory knows as a callable only."""
    return F.cross_entropy(outputs, targets, label_smoothing=0.1, reduction="none")


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
        Case("mlp", nets.mlp, (5,), count=12, piecewise=True),
        Case("linear net", nets.linear_net, (5,), targets="soft", piecewise=True),
        Case("skip", nets.skip, (5,), weight_decay=0.1, piecewise=True),
        Case("conv", nets.conv, (2, 6, 6), count=7, piecewise=True),
        Case("grouped conv", nets.grouped, (4, 4, 4), weight_decay=0.02),
        Case(
            "odd conv",
            nets.odd_conv,
            (1, 4, 4),
            unexplained=_names("0.weight", "0.bias", "2.weight", "2.bias"),
        ),
        Case("tied modules", nets.TiedModules, (4,), weight_decay=0.05),
        Case("tied functional", nets.TiedFunctional, (5,), unexplained=_names("encoder.weight")),
        Case("late tie", nets.LateTie, (4,), unexplained=_names("layer.weight")),
        Case(
            "embedding tied",
            nets.TiedEmbedding,
            (3,),
            num_classes=4,
            vocabulary=4,
            unexplained=_names("embedding.weight"),
        ),
        Case("in place", nets.InPlace, (5,), piecewise=True),
        Case(
            "batch norm",
            nets.batch_norm,
            (1, 4, 4),
            unexplained=_names("1.weight", "1.bias", "5.weight", "5.bias"),
        ),
        Case("dropout", nets.dropout, (5,), loss="mse", weight_decay=0.1),
        Case(
            "layer norm", nets.layer_norm, (5,), smoothed, unexplained=_names("1.weight", "1.bias")
        ),
        Case(
            "attention",
            nets.Attention,
            (3, 4),
            unexplained=_names(
                "attention.in_proj_weight",
                "attention.in_proj_bias",
                "attention.out_proj.weight",
                "attention.out_proj.bias",
            ),
        ),
        Case(
            "own attention",
            nets.OwnAttention,
            (5, 4),
            unexplained=_names("norm.weight", "norm.bias"),
        ),
        Case("embedding", nets.embedding, (4,), vocabulary=7, unexplained=_names("0.weight")),
        Case("gelu residual", nets.gelu_residual, (5,), "mse", "real", weight_decay=0.01),
        Case("frozen", nets.frozen, (5,), "mse", num_classes=4),
        Case(
            "unused",
            nets.Unused,
            (5,),
            weight_decay=0.2,
            unexplained=_names("spare.weight", "spare.bias"),
        ),
        Case("twice", nets.Twice, (5,), smoothed, weight_decay=0.03),
        Case(
            "time first",
            nets.TimeFirst,
            (8, 3),
            count=8,
            unexplained=_names("inner.weight", "inner.bias"),
        ),
        Case(
            "rows",
            nets.Rows,
            (4, 3),
            "mse",
            "real",
            unexplained=_names("inner.weight", "inner.bias"),
        ),
        Case("scalar", nets.Scaled, (5,), unexplained=_names("weight", "temperature")),
    )
}


def regression(seed: int = 0) -> gt.EmpiricalRisk:
    """Mean squared errors of a linear net: a quadratic in its 8 parameters, off its minimum."""
    stream = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(20, d, generator=stream, dtype=torch.float64) for d in (3, 2))
    net = nn.Linear(3, 2).double()
    theta = torch.randn(8, generator=stream, dtype=torch.float64)
    return gt.EmpiricalRisk(net, "mse", (x, y), theta=theta, batch_size=7)


def operator_of(matrix: Tensor) -> LinearOperator:
    """A symmetric matrix as a matrix-free operator."""
    return LinearOperator(lambda v: v @ matrix, len(matrix), matrix.dtype, matrix.device)


def initial_of(risk: gt.EmpiricalRisk) -> Tensor:
    """Parameters that the risk's may have come from; zeros would be a saddle of most nets."""
    stream = torch.Generator().manual_seed(1)
    noise = torch.randn(risk.num_params, generator=stream, dtype=risk.dtype)
    return risk.theta + 0.1 * noise


def trajectory_of(risk: gt.EmpiricalRisk, order: Tensor | None = None) -> Trajectory:
    """A way to the risk's parameters, of two windows; `order` is that of the risk's examples."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.cat([y for _, y in risk.batches()])
    order = torch.arange(len(targets)) if order is None else order
    shape = (2, 5, len(targets), risk.num_outputs)  # five looks a window
    p = torch.randn(shape, generator=stream, dtype=risk.dtype).softmax(-1)[:, :, order]
    noise = torch.randn(risk.num_params, generator=stream, dtype=risk.dtype)
    wanted = losses.one_hot(targets, p[0, 0])
    others = p.masked_fill(wanted.bool(), -torch.inf).amax(-1)
    classes = targets.dim() == 1 and not targets.is_floating_point() and risk.num_outputs > 1
    return Trajectory(
        torch.tensor([2.0, 10.0], dtype=risk.dtype),
        p.mean(1) - wanted,
        (1 - p.square().sum(-1)).mean(1),
        torch.stack([risk.theta + 0.05 * noise, risk.theta]),
        ((p * wanted).sum(-1) - others).mean(1) if classes else None,
    )


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
