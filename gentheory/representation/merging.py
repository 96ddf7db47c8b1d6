"""How many features of a layer are left when those that are nearly the same are merged.

Iterative feature merging (arXiv 2310.06756): the two channels that lie closest are merged, again
and again. A group of channels stands where the mean of its members does.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist
from torch import Tensor

from gentheory.params import load_flat
from gentheory.risk import EmpiricalRisk


def features_left(channels: Float[Tensor, "C D"], beta: float) -> int:
    """How many groups are left when the closest two are farther apart than β times the diameter.

    The distance of two groups is that of their means, the diameter the largest distance of two
    channels. C² numbers.
    """
    if len(channels) < 2:
        return len(channels)
    points = channels.double().cpu().numpy()
    limit = beta * float(pdist(points).max())
    # Centroid linkage is this very process; its later distances may be shorter than earlier ones.
    heights = linkage(points, method="centroid")[:, 2]
    beyond = np.flatnonzero(heights > limit)
    return len(points) - (int(beyond[0]) if len(beyond) else len(heights))


def channels(risk: EmpiricalRisk, names: Sequence[str]) -> dict[str, Float[Tensor, "C D"]]:
    """Of each named layer but the last: each channel's incoming weights and bias, and its outgoing.

    The layers are linear or convolutional, in the order in which they are called. Outgoing weights
    are those of the next one, where it has the same number of inputs for each channel; where they
    do not fit, as behind a grouped convolution, the incoming ones stand alone.
    """
    net = copy.deepcopy(risk.module)
    load_flat(net, risk.theta)
    layers: list[Any] = [net.get_submodule(name) for name in names]
    found: dict[str, Tensor] = {}
    for name, layer, following in zip(names, layers, layers[1:], strict=False):
        weight, onward = layer.weight.detach(), following.weight.detach()
        parts = [weight.flatten(1)]
        if layer.bias is not None:
            parts.append(layer.bias.detach()[:, None])
        if onward.shape[1] % len(weight) == 0:
            # A linear layer behind a convolution has an input for each channel and place.
            grouped = onward.flatten(2) if onward.dim() > 2 else onward
            parts.append(grouped.unflatten(1, (len(weight), -1)).movedim(1, 0).flatten(1))
        found[name] = torch.cat(parts, dim=1).double()
    return found
