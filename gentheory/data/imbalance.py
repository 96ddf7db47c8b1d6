"""Class imbalance: how often each class occurs, and which examples make it so."""

from typing import Literal, get_args

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from gentheory.data.split import check_targets
from gentheory.errors import InputError

Imbalance = Literal["none", "exponential", "step"]


def class_shares(kind: Imbalance, ratio: float, num_classes: int) -> Float64[Tensor, " C"]:
    """n_c / n_max of each class c = 0 .. C − 1; `ratio` is ρ, the most over the least frequent.

    "exponential": ρ^(−c/(C−1)) (Cui et al. 2019); "step": 1 for the first ⌈C/2⌉ classes and 1/ρ
    for the others (Buda et al. 2018). Raises `InputError` for another kind, a ratio that is below
    1 or not finite, a ratio other than 1 without imbalance, and for imbalance of one class.
    """
    if kind not in get_args(Imbalance):
        expected = f"one of {', '.join(get_args(Imbalance))}"
        raise InputError("imbalance", repr(kind), expected, "use one of them")
    if not 1 <= ratio < float("inf"):
        raise InputError("imbalance_ratio", f"{ratio}", "1 or more, finite", "change it")
    if kind == "none" and ratio != 1:
        raise InputError(
            "imbalance_ratio",
            f"{ratio:g} without imbalance",
            'imbalance = "exponential" or "step"',
            "set imbalance, or drop the ratio",
        )
    if kind != "none" and num_classes < 2:
        raise InputError("imbalance", f"{num_classes} class", "2 or more", "drop the imbalance")
    places = torch.arange(num_classes, dtype=torch.float64)
    if kind == "exponential":
        return ratio ** (-places / (num_classes - 1))
    return torch.where(2 * places < num_classes, 1.0, 1 / ratio).double()


def imbalanced(targets: Int64[Tensor, " N"], shares: Float64[Tensor, " C"]) -> Int64[Tensor, " B"]:
    """Positions of examples whose classes occur in these shares, in an order that nests.

    Shuffle the targets first: of each class the first ones are taken. The first n positions hold
    n_c examples of class c, with Σ n_c = n and n_c / n as near to the shares as whole numbers
    are: the counts of the divisor method of Webster and Sainte-Laguë, in which a larger n never
    takes from a class. The order ends where a class is used up, so that the largest class of all
    positions has n_max examples, and class c has round(n_max · shares[c]) wherever it has enough.
    Raises `InputError` for a target outside 0 .. C − 1.
    """
    check_targets(targets, len(shares), place="imbalance")
    ranks = torch.empty(len(targets), dtype=torch.float64)
    ends = torch.full((len(shares),), torch.inf, dtype=torch.float64)
    for c, share in enumerate(shares.tolist()):
        own = (targets == c).nonzero().flatten()
        ranks[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / share
        ends[c] = len(own) / share
    order = ranks.argsort(stable=True)
    return order[ranks[order] < ends.min()]
