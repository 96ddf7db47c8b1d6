"""Neural collapse: how far features are from their class means, and these from a frame.

The features are what the last linear layer is given, W its weight, those of other `layers` their
inputs; "all" names every linear and convolutional layer that is called once. Where several are
named, the value is the last one's and `stats` has `values` and `stderrs` of all. μ_c are the class
means, μ_G is the mean of the class means, not of the examples, K the number of classes that have
examples; a warning says how many have none. On data other than the training data the class means
are those of the data at hand.

`stderr` covers the draw of the examples, the number in each class given, by the delta method: to
first order. It leaves out that noise in the means moves them apart (by about the variance within a
class over its examples), and says too little where a distance is 0 but for that noise.
"""

import math
from dataclasses import replace
from typing import Any, Literal

from torch import Generator
from torch.nn import functional as F

from gentheory.checkpoint import Checkpoint
from gentheory.collapse import frames
from gentheory.collapse.estimates import (
    Layers,
    estimated,
    of_layers,
    penultimate,
    reported,
    seen,
    warnings_of,
)
from gentheory.collapse.geometry import (
    chosen,
    collapsed_rows,
    frame_table,
    of_classifier,
    predicted_frame,
    to_orthogonal,
    to_simplex,
)
from gentheory.collapse.mixed import by_share, mixtures, segment_residuals, shares_in_plane
from gentheory.errors import InputError
from gentheory.estimate import Estimate

__all__ = [
    "cdnv",
    "class_separation",
    "d_within",
    "equiangle",
    "equinorm",
    "etf_distance",
    "frame_distance",
    "minority_collapse",
    "mixup_alignment",
    "mixup_residual",
    "nc1",
    "nc1_trace_ratio",
    "nc3",
    "nc4",
    "orthogonal_distance",
]


def nc1(
    checkpoint: Checkpoint,
    *,
    layers: Layers = (),
    max_memory: int = 2**28,
    generator: Generator,
) -> Estimate:
    """tr(S_W S_B⁺) / K, the variability of features within classes by that between them.

    S_W = (1/N) Σ (h − μ_y)(h − μ_y)ᵀ, S_B = (1/K) Σ (μ_c − μ_G)(μ_c − μ_G)ᵀ, its pseudo-inverse of
    rank K − 1 at most. 0 at collapse; without the division by K in `stats["undivided"]`, and by
    class in `stats["by_class"]`. `stderr`: the draw of the examples. Refused where the D² numbers
    of S_W, all layers together, exceed `max_memory` bytes.

    Cost: two forward passes, shared by the measures of this family, and N D² operations.
    Source: Papyan, Han & Donoho 2020; divided by K as Zhu et al. 2021 (arXiv 2105.02375).
    """
    found = of_layers(checkpoint, "nc1", layers, max_memory=max_memory)
    estimate = estimated(checkpoint, "nc1", found)
    by_class = seen(checkpoint.risk, found)[-1].whitened
    undivided = estimate.value * len(by_class)
    return _with(estimate, undivided=undivided, by_class=by_class.tolist())


def nc1_trace_ratio(
    checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator
) -> Estimate:
    """tr S_W / tr S_B, the variability within classes by that between them; 0 at collapse.

    Needs no inverse, and no D² numbers. `stats["variances"]` has E‖h − μ_c‖² by class. `stderr`:
    the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Tirer, Huang & Niles-Weed 2023 (arXiv 2210.16658).
    """
    found = of_layers(checkpoint, "nc1_trace_ratio", layers)
    variances = found[-1].features.variances.tolist()
    return _with(estimated(checkpoint, "nc1_trace_ratio", found), variances=variances)


def equinorm(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """std_c ‖μ_c − μ_G‖ / mean_c ‖μ_c − μ_G‖, unbiased; 0 for class means of equal norms.

    `stats["norms"]` has the norms; `stats["classifier"]` is the same for the rows of W. `stderr`:
    the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Papyan, Han & Donoho 2020 (NC2).
    """
    found = of_layers(checkpoint, "equinorm", layers)
    estimate = estimated(checkpoint, "equinorm", found)
    norms = frames.centred(found[-1].means).norm(dim=1)
    own = of_classifier(checkpoint.risk, found[-1], frames.norm_variation)
    return _with(estimate, norms=norms.tolist(), **own)


def equiangle(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """Mean over c ≠ c' of |cos(μ_c − μ_G, μ_c' − μ_G) + 1/(K − 1)|; 0 for a simplex.

    `stats["cosine_std"]` is the standard deviation of the cosines, which Papyan et al. report
    beside it; `stats["classifier"]` is the value for the rows of W. `stderr`: the draw of the
    examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Papyan, Han & Donoho 2020 (NC2).
    """
    found = of_layers(checkpoint, "equiangle", layers)
    estimate = estimated(checkpoint, "equiangle", found)
    centred = frames.centred(found[-1].means)
    pairs = frames.pairs(len(centred), centred)
    spread = frames.cosines(centred)[pairs].std(correction=0)
    own = of_classifier(checkpoint.risk, found[-1], frames.angle_deviation)
    return _with(estimate, cosine_std=float(spread), **own)


def etf_distance(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """‖G/‖G‖_F − (I − 11ᵀ/K)/√(K − 1)‖_F, G the Gram matrix of the centred class means.

    0 where they are a simplex equiangular tight frame, √2 at most. `stats["classifier"]` is the
    same for W Wᵀ. `stderr`: the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Zhu et al. 2021 (arXiv 2105.02375).
    """
    found = of_layers(checkpoint, "etf_distance", layers)
    estimate = estimated(checkpoint, "etf_distance", found)
    return _with(estimate, **of_classifier(checkpoint.risk, found[-1], to_simplex))


def orthogonal_distance(
    checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator
) -> Estimate:
    """‖G/‖G‖_F − I/√K‖_F, G the Gram matrix of the class means, not centred.

    0 where they are orthogonal and of one length, to which features that are not negative, behind
    a ReLU, collapse under the supervised contrastive loss, however unequal the classes.
    `stats["classifier"]` is the same for W Wᵀ. `stderr`: the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Kini et al. 2024 (arXiv 2306.07960).
    """
    found = of_layers(checkpoint, "orthogonal_distance", layers)
    estimate = estimated(checkpoint, "orthogonal_distance", found)
    return _with(estimate, **of_classifier(checkpoint.risk, found[-1], to_orthogonal))


def nc3(
    checkpoint: Checkpoint,
    *,
    variant: Literal["distance", "squared", "product"] = "distance",
    generator: Generator,
) -> Estimate:
    """‖W/‖W‖_F − M/‖M‖_F‖_F, M the centred class means: self-duality; 0 at collapse.

    `variant="squared"` is its square, as in Papyan's notebook; "product" is
    ‖W Mᵀ/‖W Mᵀ‖_F − (I − 11ᵀ/K)/√(K − 1)‖_F. `stats["centred"]` is the distance with W less its
    mean row, `stats["bias"]` = ‖b + W μ_G‖. `stderr`: the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Papyan, Han & Donoho 2020 (NC3); product: Zhu et al. 2021.
    """
    if variant not in ("distance", "squared", "product"):
        expected = "'distance', 'squared' or 'product'"
        raise InputError("collapse.nc3.variant", repr(variant), expected, "choose one")
    geometry, last = penultimate(checkpoint, "nc3")
    name = "nc3_product" if variant == "product" else "nc3_distance"
    plain = estimated(checkpoint, name, [geometry])
    weight, means = frames.centred(last.weight), frames.centred(geometry.means)
    outputs = F.linear(geometry.means.mean(0), last.weight, last.bias)
    stats = {
        "centred": float(frames.duality_distance(weight, means)),
        "bias": float(outputs.norm()),
    }
    if variant == "squared":
        error = 2 * plain.value * plain.stderr
        plain = replace(plain, value=plain.value**2, stderr=error)
    return _with(plain, **stats)


def nc4(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """Share of the examples whose nearest class mean is not that of the class the net gives.

    argmin_c ‖h − μ_c‖ ≠ argmax_c z_c; 0 at collapse. `stats["by_class"]` has it by true class;
    `stats["misplaced"]` is the share that lies nearest to another class's mean than its own.
    `stderr`: the draw of the examples, the means given, as half of Wilson's interval, so that no
    mismatch among few examples is no certainty.

    Cost: two forward passes, shared by the measures of this family.
    Source: Papyan, Han & Donoho 2020 (NC4).
    """
    found = of_layers(checkpoint, "nc4", layers)
    spreads, counts = seen(checkpoint.risk, found), found[-1].features.counts
    total = float(counts.sum())
    values = [float(counts @ each.mismatches) / total for each in spreads]
    errors = [_wilson(value, total) for value in values]
    misplaced = float(counts @ spreads[-1].misplaced) / total
    estimate = reported(checkpoint, found, values, errors)
    return _with(estimate, by_class=spreads[-1].mismatches.tolist(), misplaced=misplaced)


def cdnv(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """Class-distance normalized variance: mean over i < j of (v_i + v_j) / (2 ‖μ_i − μ_j‖²).

    v_c = E‖h − μ_c‖² over the class, divided by n_c. 0 at collapse; `stats["largest"]` is the worst
    pair's. `stderr`: the draw of the examples.

    Cost: two forward passes, shared by the measures of this family.
    Source: Galanti, György & Hutter 2022 (arXiv 2112.15121).
    """
    found = of_layers(checkpoint, "cdnv", layers)
    last = found[-1].features
    worst = frames.distance_normalized_variances(last.means, last.variances).max()
    return _with(estimated(checkpoint, "cdnv", found), largest=float(worst))


def d_within(checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator) -> Estimate:
    """Mean cosine distance 1 − cos(h, h') between two examples of one class, mean over classes.

    Without an example's distance to itself. `stderr`: the draw of the examples. Refused where a
    class has one example.

    Cost: two forward passes, shared by the measures of this family.
    Source: Kornblith et al. 2021 (arXiv 2010.16402); Zhou et al. 2025, MaxSup (arXiv 2502.15798).
    """
    return _by_cosines(checkpoint, "d_within", layers)


def class_separation(
    checkpoint: Checkpoint, *, layers: Layers = (), generator: Generator
) -> Estimate:
    """R² = 1 − d_within / d_total, cosine distances within classes and over all pairs.

    Every class and every pair of classes has the same weight, and no example is paired with itself.
    1 at collapse. `stderr`: the draw of the examples. Refused where a class has one example.

    Cost: two forward passes, shared by the measures of this family.
    Source: Kornblith et al. 2021 (arXiv 2010.16402).
    """
    return _by_cosines(checkpoint, "class_separation", layers)


def frame_distance(
    checkpoint: Checkpoint,
    *,
    classifier_decay: float | None = None,
    feature_decay: float | None = None,
    generator: Generator,
) -> Estimate:
    """‖W Wᵀ/‖W Wᵀ‖_F − P/‖P‖_F‖_F, P = diag(max(0, √n_k − N √(λ_W λ_H))): unequal classes.

    The general orthogonal frame, to which a classifier without bias and free features collapse
    under squared loss. λ_W is `classifier_decay`, unless given the risk's weight decay; λ_H is
    `feature_decay`, unless given λ_W ‖W‖²/Σ‖h_i‖², which holds where such a model is stationary.
    `mse` is a mean over C outputs, which makes both C/2 times as much. `stats["means"]` is the
    distance of the class means (not centred) from theirs. `stderr` is 0: exact for W, and for the
    data handed in.

    Cost: two forward passes, shared by the measures of this family.
    Source: Dang et al. 2023 (arXiv 2301.00437), one linear layer.
    """
    geometry, last = penultimate(checkpoint, "frame_distance")
    given = (classifier_decay, feature_decay)
    frame = predicted_frame(checkpoint.risk, geometry, last, *given)
    if not bool(frame.classifier.any()):
        raise InputError(
            "collapse.frame_distance",
            f"√(λ_W λ_H) = {frame.decay:.3g}, with which every class collapses to zero",
            "less for some class",
            "give smaller decays",
        )
    value = float(frames.gram_distance(last.weight, frame.classifier.diag()))
    estimate = reported(checkpoint, [geometry], [value], [0.0], frame.warnings)
    return _with(estimate, **frame_table(geometry, last, frame))


def minority_collapse(
    checkpoint: Checkpoint, *, tolerance: float = 0.05, generator: Generator
) -> Estimate:
    """Share of the classes whose row of W is near zero, or points where another class's does.

    ‖w_k‖ ≤ tolerance · max ‖w‖, or cos(w_k, w_j) ≥ 1 − tolerance for some j. Under squared loss
    without bias the smallest classes vanish, under cross-entropy they merge. `stats` has which
    (`collapsed`), the norms, the largest cosine of each, and by `frame_distance` with its defaults
    which classes are predicted to vanish. `stderr` is 0: exact, for W does not depend on a draw.

    Cost: two forward passes, shared by the measures of this family.
    Source: Fang et al. 2021 (arXiv 2101.12699); Dang et al. 2023 (arXiv 2301.00437).
    """
    if not 0 <= tolerance < 1:
        place = "collapse.minority_collapse.tolerance"
        raise InputError(place, str(tolerance), "0 or more, below 1", "give such a number")
    geometry, last = penultimate(checkpoint, "minority_collapse")
    gone, norms, cosines = collapsed_rows(last, tolerance)
    frame = predicted_frame(checkpoint.risk, geometry, last, None, None)
    value = float(gone.double().mean())
    estimate = reported(checkpoint, [geometry], [value], [0.0], frame.warnings)
    return _with(
        estimate,
        collapsed=chosen(geometry, gone),
        predicted_collapsed=chosen(geometry, frame.classifier == 0),
        norms=norms.tolist(),
        largest_cosines=cosines.tolist(),
    )


def mixup_alignment(
    checkpoint: Checkpoint, *, num_pairs: int = 500, generator: Generator
) -> Estimate:
    """Mean cos(h(λx + (1 − λ)x') − μ_G, w_y) over pairs of one class, λ from U(0, 1).

    1 where mixtures within a class point along its classifier row, whatever λ; `stats["by_share"]`
    has the mean in ten bins of λ. `stderr`: the draw of the pairs and of λ.

    Cost: a forward pass, and one on `num_pairs` mixtures.
    Source: Fisher, Meng & Papyan 2024 (arXiv 2402.06171).
    """
    geometry, last = penultimate(checkpoint, "mixup_alignment")
    place = "collapse.mixup_alignment"
    found = mixtures(checkpoint.risk, place, geometry, num_pairs, generator, same_class=True)
    centred = found.features - geometry.means.mean(0)
    cosines = F.cosine_similarity(centred, last.weight[found.first], eps=0)
    return Estimate.from_samples(
        cosines,
        warnings=warnings_of(checkpoint, geometry),
        by_share=by_share(cosines, found.shares),
    )


def mixup_residual(
    checkpoint: Checkpoint, *, num_pairs: int = 500, generator: Generator
) -> Estimate:
    """Mean ‖h(λx + (1 − λ)x') − (λμ_y + (1 − λ)μ_y')‖ / ‖μ_y − μ_y'‖, pairs of two classes.

    0 where mixtures lie on the segments between class means, as squared loss on mixtures makes
    them; under cross-entropy they leave it by channels along the decision boundary.
    `stats["by_share"]` has the mean in ten bins of λ, `stats["in_plane"]` the mean share of
    |h − μ_G|² in the plane of the two classifier rows. `stderr`: the draw of the pairs and of λ.

    Cost: a forward pass, and one on `num_pairs` mixtures.
    Source: Fisher, Meng & Papyan 2024 (arXiv 2402.06171).
    """
    geometry, last = penultimate(checkpoint, "mixup_residual")
    place = "collapse.mixup_residual"
    found = mixtures(checkpoint.risk, place, geometry, num_pairs, generator, same_class=False)
    residuals = segment_residuals(found, geometry)
    return Estimate.from_samples(
        residuals,
        warnings=warnings_of(checkpoint, geometry),
        by_share=by_share(residuals, found.shares),
        in_plane=float(shares_in_plane(found, geometry, last.weight).mean()),
    )


def _by_cosines(checkpoint: Checkpoint, name: str, layers: Layers) -> Estimate:
    found = of_layers(checkpoint, name, layers)
    if not bool((found[-1].features.counts > 1).any()):
        place, cure = f"collapse.{name}", "measure on more of the data"
        raise InputError(place, "one example of each class", "two of some class", cure)
    return estimated(checkpoint, name, found)


def _with(estimate: Estimate, **stats: Any) -> Estimate:
    return replace(estimate, stats={**estimate.stats, **stats})


def _wilson(share: float, count: float) -> float:
    """Half of Wilson's interval of one standard error."""
    return math.sqrt(share * (1 - share) / count + 1 / (4 * count**2)) / (1 + 1 / count)
