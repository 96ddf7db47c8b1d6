"""Less data and worse labels: subsets and label noise, drawn from a given generator."""

import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from gentheory.data.split import check_targets
from gentheory.errors import InputError


def subset(num_examples: int, n: int, *, generator: Generator) -> Int64[Tensor, " B"]:
    """`n` of the indices 0 .. num_examples - 1, uniform without replacement, in random order.

    At one seed a smaller subset begins a larger one. Raises `InputError` unless
    1 <= n <= num_examples.
    """
    if not 1 <= n <= num_examples:
        raise InputError(
            "subset", f"n = {n} of {num_examples} examples", f"1 to {num_examples}", "change n"
        )
    return torch.randperm(num_examples, generator=generator, device=generator.device)[:n]


def label_noise(
    targets: Int64[Tensor, " N"], fraction: float, *, num_classes: int, generator: Generator
) -> Int64[Tensor, " N"]:
    """A copy of `targets` in which exactly round(fraction N) labels are wrong.

    The examples are chosen uniformly without replacement, and each gets a label drawn uniformly
    from the C - 1 other classes: `fraction` is the share of wrong labels, not that of redrawn
    ones. Raises `InputError` for a fraction outside [0, 1], a target outside 0 .. C - 1, or
    noise where C = 1 leaves no other class.
    """
    if not 0 <= fraction <= 1:
        raise InputError("label_noise", f"fraction {fraction}", "0 to 1", "give a share")
    if num_classes < 2 and fraction > 0:
        raise InputError(
            "label_noise", f"{num_classes} classes", "2 or more", "set the fraction to 0"
        )
    check_targets(targets, num_classes, place="label_noise")
    count, device = round(fraction * len(targets)), generator.device
    noisy = targets.clone()
    if count == 0:
        return noisy
    chosen = torch.randperm(len(targets), generator=generator, device=device)[:count]
    shifts = torch.randint(1, num_classes, (count,), generator=generator, device=device)
    chosen, shifts = chosen.to(targets.device), shifts.to(targets.device)
    noisy[chosen] = (targets[chosen] + shifts) % num_classes
    return noisy
