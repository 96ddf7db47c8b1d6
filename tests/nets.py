"""The tiny networks behind `cases.py`, one for each thing that curvature code gets wrong."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def linear_net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(3, 2, (3, 2), padding=(1, 0)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)
    )


def odd_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
        nn.Tanh(),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


def batch_norm() -> nn.Module:
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


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))


def embedding() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def gelu_residual() -> nn.Module:
    block = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 5))
    return nn.Sequential(Skip(block), nn.Linear(5, 3))


def skip() -> nn.Module:
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), Skip(block), nn.Linear(6, 3))


def frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    net[0].requires_grad_(False)
    net[4].bias.requires_grad_(False)
    return net


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
