"""What the hidden layers make of the examples: spread, likeness, sparsity, regions, redundancy.

A `layer` is named by the module that is given its features, the classifier unless another is
named. Of more than `max_examples` a random subset is taken; of that the features stay in memory.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gentheory import mislabelled
from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError, check_at_least, check_positive
from gentheory.estimate import Estimate
from gentheory.examples import some_of
from gentheory.features import classifier, layer_names
from gentheory.predictions import check_classes
from gentheory.representation import decodability, merging, regions, similarity
from gentheory.representation.vectors import Directions, Kernels, check_real, features_of

__all__ = [
    "alignment",
    "area_under_margin",
    "cka",
    "deconfounded_cka",
    "local_complexity",
    "mergeable_features",
    "sparsity",
    "uniformity",
    "v_information_complexity",
    "wasserstein_uniformity",
]

_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def alignment(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    power: float = 2.0,
    max_examples: int = 2000,
    generator: Generator,
) -> Estimate:
    """Mean of |x − y|^α over pairs of examples of one class, features of unit norm; 0 if collapsed.

    `stderr` covers the draw of the examples (delete-a-group jackknife). Examples whose features
    are all zero have no direction and are left out, with a warning. Refused without classes, and
    without two examples of one class.

    Cost: one forward pass, N² numbers.
    Source: Wang & Isola 2020 (arXiv 2005.10242), with classes in place of augmentations.
    """
    place = "representation.alignment"
    check_positive(f"{place}.power", power)
    check_classes(place, checkpoint.risk)
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    found = Directions.of(part, layer, place)
    squares = similarity.squared_distances(found.units)
    positive = found.targets[:, None] == found.targets
    if int(positive.sum()) == len(squares):
        cure = "take more examples"
        raise InputError(place, "no two examples of one class", "a pair at least", cure)

    def statistic(index: Tensor) -> float:
        own = positive[index][:, index]
        return similarity.alignment(squares[index][:, index], own, power)

    return _jackknifed(statistic, len(squares), generator, found.warnings)


def uniformity(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    t: float = 2.0,
    max_examples: int = 2000,
    generator: Generator,
) -> Estimate:
    """log of the mean of exp(−t |x − y|²) over all pairs, features of unit norm; 0 if collapsed.

    −2 t for features spread evenly in many dimensions. `stderr` and features of zeros as in
    `alignment`.

    Cost: one forward pass, N² numbers.
    Source: Wang & Isola 2020 (arXiv 2005.10242).
    """
    place = "representation.uniformity"
    check_positive(f"{place}.t", t)
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    found = Directions.of(part, layer, place)
    squares = similarity.squared_distances(found.units)

    def statistic(index: Tensor) -> float:
        return similarity.uniformity(squares[index][:, index], t)

    return _jackknifed(statistic, len(squares), generator, found.warnings)


def wasserstein_uniformity(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    max_examples: int = 10_000,
    generator: Generator,
) -> Estimate:
    """√(|μ|² + 1 + tr Σ − 2 tr Σ^½/√m), features of unit norm in m dimensions; 0 if spread evenly.

    √2 if collapsed, √(2 − 2√r) if even on a share r of the dimensions. `stats["floor"]` is what so
    many examples of evenly spread features would show, √((m + 3)/4n); a warning where n is below
    10 m. `stderr` and features of zeros as in `alignment`.

    Cost: one forward pass, and twenty times the eigenvalues of a matrix of size min(n, m).
    Source: Fang et al. 2024 (arXiv 2403.00642).
    """
    place = "representation.wasserstein_uniformity"
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    found = Directions.of(part, layer, place)
    n, m = found.units.shape
    few = f"{n} examples in {m} dimensions look less evenly spread than they are: take 10 m"
    warnings = (*found.warnings, few) if n < 10 * m else found.warnings

    def statistic(index: Tensor) -> float:
        return similarity.wasserstein(found.units[index])

    stats = {"dimensions": m, "floor": math.sqrt((m + 3) / (4 * n))}
    return _jackknifed(statistic, n, generator, warnings, **stats)


def cka(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    other: str = "",
    debiased: bool = False,
    max_examples: int = 1000,
    generator: Generator,
) -> Estimate:
    """HSIC(K, L)/√(HSIC(K, K) HSIC(L, L)), linear kernels of a layer now and at initialization.

    With `other` of two layers of the trained net. `debiased` takes the U-statistic of HSIC, which
    does not grow with the number of features; on all examples at once, not on batches. `stderr`
    as in `alignment`. Refused without initial parameters, unless `other` is given.

    Cost: two forward passes, N² numbers.
    Source: Kornblith et al. 2019 (arXiv 1905.00414); Song et al. 2012 (JMLR 13) for `debiased`.
    """
    place = "representation.cka"
    found = Kernels.of(checkpoint, place, (layer, other), max_examples, generator)

    def statistic(index: Tensor) -> float:
        one, two = (kernel[index][:, index] for kernel in (found.one, found.other))
        return similarity.cka(one, two, debiased=debiased)

    return _jackknifed(statistic, len(found.one), generator)


def deconfounded_cka(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    other: str = "",
    debiased: bool = False,
    max_examples: int = 1000,
    generator: Generator,
) -> Estimate:
    """`cka` of what is left of both kernels after least squares on [1, the kernel of the inputs].

    Two nets whose features are alike only because their inputs are have none of it. Options,
    `stderr` and refusals as in `cka`; refused also where the inputs are indices.

    Cost: as `cka`.
    Source: Cui et al. 2022 (arXiv 2202.00095), without their batches, of which the reference
    implementation divides the sum by the number of layers.
    """
    place = "representation.deconfounded_cka"
    found = Kernels.of(checkpoint, place, (layer, other), max_examples, generator)
    inputs = found.inputs(place)

    def statistic(index: Tensor) -> float:
        own = inputs[index][:, index]
        one, two = (
            similarity.deconfounded(kernel[index][:, index], own, off_diagonal=debiased)
            for kernel in (found.one, found.other)
        )
        return similarity.cka(one, two, debiased=debiased)

    return _jackknifed(statistic, len(found.one), generator)


def sparsity(checkpoint: Checkpoint, *, generator: Generator) -> Estimate:
    """Share of the ReLUs' outputs that are not zero, mean over layers and examples.

    By layer in `stats`, in the order of the calls. `stderr` covers the draw of the examples.
    Refused for a net without a ReLU.

    Cost: one forward pass.
    Source: Li et al. 2023 (arXiv 2210.06313).
    """
    shares = regions.shares_on(checkpoint.risk)
    if not len(shares):
        raise InputError(
            "representation.sparsity", "no ReLU in the net", "one or more", "use a net of ReLUs"
        )
    return Estimate.from_samples(shares.mean(0), layers=shares.mean(1).tolist())


def local_complexity(
    checkpoint: Checkpoint,
    *,
    radius: float = 0.05,
    num_directions: int = 20,
    num_frames: int = 4,
    max_examples: int = 1000,
    generator: Generator,
) -> Estimate:
    """Units whose kink passes between the points x ± r v around an example: mean over examples.

    v runs over random orthonormal directions of the inputs, at most as many as there are; r is in
    units of the inputs. By layer in `stats`; the hull is one of the inputs, which the layers
    deform. `stderr` covers the draw of the examples and that of the frames of directions, which
    all examples share. Refused for inputs that are indices, and where activations are curved.

    Cost: 2 · 20 · 4 forward passes over the examples.
    Source: Humayun et al. 2024 (arXiv 2402.15555).
    """
    place = "representation.local_complexity"
    check_positive(f"{place}.radius", radius)
    check_at_least(f"{place}.num_directions", num_directions, 1)
    check_at_least(f"{place}.num_frames", num_frames, 2)
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    example = next(part.batches())[0][0]
    check_real(example, place)
    curved, kinks = regions.curved(part)
    if curved and not kinks:
        found = f"activations that are not piecewise linear ({', '.join(curved)})"
        raise InputError(place, found, "ReLUs", "use a net of ReLUs")
    size = example.numel()
    frames = regions.frames(num_frames, size, min(num_directions, size), generator)
    counts = regions.crossings(part, frames.to(part.device), radius)
    table = counts.sum(0)
    warning = f"not piecewise linear, and not counted: {', '.join(curved)}"
    return Estimate(
        float(table.mean()),
        regions.crossed_stderr(table),
        warnings=(warning,) if curved else (),
        stats={
            "layers": counts.mean((1, 2)).tolist(),
            "frames": table.mean(1).tolist(),
            "num_directions": min(num_directions, size),
            "num_examples": part.num_examples,
        },
    )


def v_information_complexity(
    checkpoint: Checkpoint,
    *,
    layer: str = "",
    ridge: float = 1e-2,
    max_examples: int = 1000,
    generator: Generator,
) -> Estimate:
    """1 − (1/L) Σ_l R² of a linear decoder from layer l, mean over the features of a layer.

    l runs over the linear and convolutional layers up to that one, each by its inputs, the net's
    own first: 0 for features that are linear in the inputs and stay so, larger for what appears
    late. R² is held out, each example decoded by a ridge regression on all others (λ is `ridge`
    times the mean diagonal of the kernel), and not below 0. Features that never vary are left
    out. `stderr` covers the draw of the examples that the decoders are judged on.

    Cost: for each layer a forward pass, an inverse of size N and N² products with the features.
    Source: Fel et al. 2024 (arXiv 2407.06076), with the features' coordinates for concepts.
    """
    place = "representation.v_information_complexity"
    check_positive(f"{place}.ridge", ridge)
    part = some_of(checkpoint.risk, max_examples, generator, place=place)
    layer = layer or classifier(part).name
    names = layer_names(part)
    if layer not in names or names.index(layer) == 0:
        raise InputError(
            f"{place}.layer",
            f"{layer!r}, before which no layer stands",
            f"one of {', '.join(names[1:]) or 'several layers'}",
            "choose one, or a net with more layers",
        )
    read = names[: names.index(layer) + 1]
    features = features_of(part, layer, place)
    varied = features.std(0, correction=0) > torch.finfo(part.dtype).eps * features.abs().amax(0)
    if part.num_examples < 3 or not bool(varied.any()):
        found = f"{part.num_examples} examples, on which {int(varied.sum())} features vary"
        cure = "use other data or another layer"
        raise InputError(place, found, "3 or more, and 1 or more", cure)
    grams = (similarity.gram(features_of(part, name, place)) for name in read)
    found = decodability.complexity(grams, features[:, varied], ridge)
    quantiles = found.features.quantile(found.features.new_tensor(_SHARES)).tolist()
    stats = {
        "names": list(read),
        "layers": found.layers.tolist(),
        "shares": list(_SHARES),
        "quantiles": quantiles,
        "num_features": int(varied.sum()),
    }
    return Estimate(found.value, found.stderr, stats=stats)


def mergeable_features(
    checkpoint: Checkpoint, *, beta: float = 0.1, generator: Generator
) -> Estimate:
    """Share of the hidden layers' features left when those closer than β times the farthest merge.

    The distance of two channels is that of their incoming weights, bias and outgoing weights; the
    two closest are merged, again and again, a group standing at the mean of its channels. By layer
    in `stats`. Exact. Refused for a net without two layers in a row.

    Cost: no pass over the data, and the distances of all channels of a layer.
    Source: iterative feature merging (arXiv 2310.06756), as reviews describe it.
    """
    place = "representation.mergeable_features"
    if not 0 <= beta <= 1:
        raise InputError(f"{place}.beta", str(beta), "0 to 1", "give such a number")
    found = merging.channels(checkpoint.risk, layer_names(checkpoint.risk))
    if not found:
        raise InputError(
            place,
            "no layer that is followed by another",
            "two linear or convolutional layers",
            "use a net with hidden layers",
        )
    left = [merging.features_left(channels, beta) for channels in found.values()]
    widths = [len(channels) for channels in found.values()]
    shares = [few / width for few, width in zip(left, widths, strict=True)]
    stats = {"names": list(found), "layers": shares, "left": left, "widths": widths}
    return Estimate(sum(left) / sum(widths), stats=stats)


def area_under_margin(
    checkpoint: Checkpoint, *, windows: int | None = None, generator: Generator
) -> Estimate:
    """Mean over training of z_y − max over k ≠ y of z_k, as its steps saw it: mean over examples.

    Training keeps the margins in its trajectory, weighted by learning-rate time; `windows` counts
    the first of them only, as the memorization of labels comes late. `gentheory.mislabelled` has
    each example's area and the threshold of a fake class. `stderr` covers the draw of the examples.

    Cost: none.
    Source: Pleiss et al. 2020 (arXiv 2001.10528).
    """
    place, count = "representation.area_under_margin", checkpoint.risk.num_examples
    found = mislabelled.areas(checkpoint.trajectory, windows=windows)
    if len(found) != count or not bool(found.isfinite().all()):
        raise InputError(
            place,
            f"margins of {len(found)} examples of {count}, not all of them finite",
            "those of the examples of the risk, of two classes or more",
            "hand in the trajectory of this very training",
        )
    quantiles = found.quantile(found.new_tensor(_SHARES)).tolist()
    negative = float((found <= 0).double().mean())
    return Estimate.from_samples(
        found, shares=list(_SHARES), quantiles=quantiles, share_not_positive=negative
    )


def _jackknifed(
    statistic: Callable[[Tensor], float],
    count: int,
    generator: Generator,
    warnings: tuple[str, ...] = (),
    **stats: float | int,
) -> Estimate:
    """A statistic of the chosen examples' indices, with its jackknife."""
    error = similarity.jackknife(statistic, count, generator)
    value = statistic(torch.arange(count))
    return Estimate(value, error, warnings=warnings, stats={"num_examples": count, **stats})
