"""What networks on patches of an image share: patches, token axes, perceptrons."""

from jaxtyping import Float
from torch import Tensor, nn

from gentheory.errors import InputError
from gentheory.models.options import at_least_one, images
from gentheory.models.scaling import Parametrization, parametrized


class Patches(nn.Module):
    """An image's square patches as tokens, row by row.

    A linear layer on them is a convolution of the patches' stride; in a stack of models it is one
    batched matrix product, which a convolution is not.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "B _ height width"]) -> Float[Tensor, "B T D"]:
        """Each token holds the patch's channels, rows and columns."""
        rows = x.unflatten(3, (-1, self.size)).unflatten(2, (-1, self.size))
        return rows.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class Transposed(nn.Module):
    """The net across tokens in place of features."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Through the net as [B, D, T]."""
        return self.net(x.transpose(1, 2)).transpose(1, 2)


class MeanToken(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        """[B, T, D] -> [B, D]."""
        return x.mean(1)


def perceptron(features: int, hidden: int, parametrization: Parametrization) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    return nn.Sequential(
        parametrized(nn.Linear(features, hidden), parametrization),
        nn.GELU(),
        parametrized(nn.Linear(hidden, features), parametrization),
    )


def cut(place: str, shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """How many patches an image has, and how many numbers each.

    Raises `InputError` unless the patches, squares of this side, make up the image.
    """
    at_least_one(f"{place}.patch", patch)
    channels, height, width = images(place, shape)
    if height % patch or width % patch:
        sides = [n for n in range(1, min(height, width) + 1) if height % n == width % n == 0]
        raise InputError(
            f"{place}.patch",
            f"{patch} for images {height}×{width}",
            f"one of {', '.join(map(str, sides))}",
            "choose one",
        )
    return (height // patch) * (width // patch), channels * patch * patch
