"""MLP-Mixer (Tolstikhin et al. 2021)."""

from torch import nn

from gentheory.models.mlp import Residual
from gentheory.models.options import at_least_one
from gentheory.models.scaling import Parametrization, check, finished, parametrized
from gentheory.models.tokens import MeanToken, Patches, Transposed, cut, perceptron


def mixer(
    *,
    shape: tuple[int, ...],
    num_classes: int,
    depth: int = 4,
    width: int = 64,
    patch: int = 4,
    hidden: int | None = None,
    token_hidden: int | None = None,
    parametrization: Parametrization = "standard",
    output_scale: float = 1.0,
    symmetrized: bool = False,
) -> nn.Sequential:
    """`depth` mixer blocks on `patch`×`patch` patches, each a token of `width` features.

    A block is x + P_tokens(norm x), a perceptron across the tokens with `token_hidden` units, then
    x + P_features(norm x) with `hidden` units; unless given, half the `width`, rounded up, and
    4 `width`. GELU, LayerNorm, the mean of the tokens and a linear layer; every layer starts as
    PyTorch's own. `parametrization`, `output_scale` and `symmetrized` are those of `mlp`;
    LayerNorm stays as it is.
    """
    at_least_one("mixer.depth", depth)
    at_least_one("mixer.width", width)
    hidden = 4 * width if hidden is None else hidden
    token_hidden = (width + 1) // 2 if token_hidden is None else token_hidden
    at_least_one("mixer.hidden", hidden)
    at_least_one("mixer.token_hidden", token_hidden)
    check("mixer", parametrization, output_scale, symmetrized)
    tokens, numbers = cut("mixer", shape, patch)
    blocks: list[nn.Module] = []
    for _ in range(depth):
        across = Transposed(perceptron(tokens, token_hidden, parametrization))
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(width), across)))
        within = perceptron(width, hidden, parametrization)
        blocks.append(Residual(nn.Sequential(nn.LayerNorm(width), within)))
    net = nn.Sequential(
        Patches(patch),
        parametrized(nn.Linear(numbers, width), parametrization),
        *blocks,
        nn.LayerNorm(width),
        MeanToken(),
        parametrized(nn.Linear(width, num_classes), parametrization),
    )
    return finished(net, output_scale, symmetrized)
