"""Small vision transformers (Dosovitskiy et al. 2021)."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentheory.errors import InputError
from gentheory.models.mlp import Residual
from gentheory.models.options import at_least_one, one_of
from gentheory.models.scaling import Parametrization, check, finished, parametrized
from gentheory.models.tokens import MeanToken, Patches, cut, perceptron

_EMBEDDING_STD = 0.02


class Positions(nn.Module):
    """Adds a learned vector to each token, after putting a learned token before them if asked."""

    def __init__(self, tokens: int, features: int, class_token: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(1, 1, features)) if class_token else None
        self.position = nn.Parameter(torch.empty(tokens + class_token, features))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=_EMBEDDING_STD)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B _ D"]:
        """[B, T, D] -> [B, T, D], or T + 1 tokens."""
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return x + self.position


class Attention(nn.Module):
    """softmax(Q Kᵀ / √d) V in so many heads, by plain matrix products.

    Those can be differentiated twice, forwards, and for a stack of models, which fused kernels
    cannot.
    """

    def __init__(self, features: int, heads: int, parametrization: Parametrization) -> None:
        super().__init__()
        self.heads = heads
        self.inward = parametrized(nn.Linear(features, 3 * features), parametrization)
        self.outward = parametrized(nn.Linear(features, features), parametrization)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Every token attends to every other."""
        split = self.inward(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)  # each [B, heads, T, d]
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        return self.outward((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class FirstToken(nn.Module):
    """The first token."""

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """[B, T, D] -> [B, D]."""
        return x[:, 0]


def vit(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    depth: int = 4,
    width: int = 64,
    heads: int = 4,
    patch: int = 4,
    hidden: int | None = None,
    pool: Literal["mean", "token"] = "mean",
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """`depth` transformer blocks on `patch`×`patch` patches, each a token of `width` features.

    A block is x + attention(norm x) in `heads` heads, then x + perceptron(norm x) with `hidden`
    units, 4 `width` unless given, GELU and LayerNorm. The head is a linear layer on the mean of
    the tokens or, `pool="token"`, on a learned class token. Positions are learned. No dropout.
    Linear layers start as PyTorch's own, positions and class token from N(0, 0.02²).
    `parametrization`, `output_scale` and `symmetrized` are those of `mlp`; embeddings and
    LayerNorm stay as they are.
    """
    at_least_one("vit.depth", depth)
    at_least_one("vit.width", width)
    at_least_one("vit.heads", heads)
    hidden = 4 * width if hidden is None else hidden
    at_least_one("vit.hidden", hidden)
    one_of("vit.pool", pool, ("mean", "token"))
    check("vit", parametrization, output_scale, symmetrized)
    if width % heads:
        raise InputError(
            "vit.heads", f"{heads} for width {width}", "a divisor of the width", "choose one"
        )
    tokens, numbers = cut("vit", shape, patch)
    blocks: list[nn.Module] = []
    for _ in range(depth):
        attention = Attention(width, heads, parametrization)
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(width), attention)))
        inner = perceptron(width, hidden, parametrization)
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(width), inner)))
    net = nn.Sequential(
        Patches(patch),
        parametrized(nn.Linear(numbers, width), parametrization),
        Positions(tokens, width, pool == "token"),
        *blocks,
        nn.LayerNorm(width),
        FirstToken() if pool == "token" else MeanToken(),
        parametrized(nn.Linear(width, num_classes), parametrization),
    )
    return finished(net, output_scale, symmetrized)
