"""What neural collapse is measured by: functionals of class moments, and frames predicted.

Each number is that of `gentheory.collapse.frames`, for the features of a layer or for its
classifier.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gentheory.collapse import frames
from gentheory.collapse.classes import Functional, Geometry, Statistics
from gentheory.collapse.frames import centred
from gentheory.errors import InputError
from gentheory.features import Classifier, classifier
from gentheory.risk import EmpiricalRisk

OfVectors = Callable[[Float[Tensor, "C D"]], Float[Tensor, ""]]


def to_simplex(vectors: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Distance of the Gram matrix from a simplex equiangular tight frame's."""
    return frames.gram_distance(vectors, frames.simplex(len(vectors), vectors))


def to_orthogonal(vectors: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Distance of the Gram matrix from that of orthogonal vectors of one length."""
    return frames.gram_distance(vectors, torch.eye(len(vectors)).to(vectors))


def functionals(risk: EmpiricalRisk) -> Callable[[Geometry], Mapping[str, Functional]]:
    """All that apply to a layer, by the name of the measure."""
    return lambda geometry: {**_of_features(geometry), **_duals(risk, geometry)}


def classifier_rows(risk: EmpiricalRisk, geometry: Geometry) -> Classifier | None:
    """W and b of the classes that have examples, in float64; None if the layer is another one."""
    try:
        last = classifier(risk)
    except InputError:  # a layer may be looked at in a net that ends in something else
        return None
    if last.name != geometry.layer:
        return None
    classes = list(geometry.classes)
    bias = None if last.bias is None else last.bias[classes].double()
    return Classifier(last.name, last.weight[classes].double(), bias)


def of_classifier(risk: EmpiricalRisk, geometry: Geometry, number: OfVectors) -> dict[str, float]:
    """The number of the rows of W under the name "classifier"; nothing for another layer."""
    last = classifier_rows(risk, geometry)
    return {} if last is None else {"classifier": float(number(last.weight))}


SIMPLEX: Mapping[str, OfVectors] = {
    "equinorm": frames.norm_variation,
    "equiangle": frames.angle_deviation,
    "etf_distance": to_simplex,
}
"""Of the centred class means, and 0 for a simplex, as two of them always are."""


def _of_features(geometry: Geometry) -> dict[str, Functional]:
    found = {
        "nc1_trace_ratio": Functional(
            lambda s: frames.trace_ratio(s.features.means, s.features.within_trace)
        ),
        **{name: _of_simplex(geometry, number) for name, number in SIMPLEX.items()},
        "orthogonal_distance": Functional(lambda s: to_orthogonal(s.features.means)),
        "cdnv": Functional(lambda s: _cdnv(s).mean()),
    }
    if bool((geometry.features.counts > 1).any()):
        found["d_within"] = Functional(lambda s: _cosine_distances(s)[0])
        found["class_separation"] = Functional(_separation)
    if (within := geometry.features.within) is not None:
        found["nc1"] = Functional(
            lambda s: frames.within_over_between(s.features.means, within),
            factor=lambda s: frames.whitening(s.features.means),
        )
    return found


def _of_simplex(geometry: Geometry, number: OfVectors) -> Functional:
    if len(geometry.classes) == 2:  # no error, and no derivative
        return Functional(lambda s: 0 * s.features.means.sum())
    return Functional(lambda s: number(centred(s.features.means)))


def _cdnv(statistics: Statistics) -> Float[Tensor, " _"]:
    features = statistics.features
    return frames.distance_normalized_variances(features.means, features.variances)


def _cosine_distances(statistics: Statistics) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    units = statistics.units
    return frames.cosine_distances(units.counts, units.means, units.variances)


def _separation(statistics: Statistics) -> Float[Tensor, ""]:
    within, total = _cosine_distances(statistics)
    return 1 - within / total


def _duals(risk: EmpiricalRisk, geometry: Geometry) -> dict[str, Functional]:
    last = classifier_rows(risk, geometry)
    if last is None:
        return {}

    def dual(distance: Callable[[Tensor, Tensor], Tensor]) -> Functional:
        return Functional(lambda s: distance(last.weight, centred(s.features.means)))

    return {
        "nc3_distance": dual(frames.duality_distance),
        "nc3_product": dual(frames.product_distance),
    }


class Frame(NamedTuple):
    """The general orthogonal frame that squared loss predicts for a classifier and its features."""

    decay: float
    """√(λ_W λ_H), in the units of (1/2N) ‖W H − Y‖²."""
    classifier: Float[Tensor, " C"]
    """‖w_k‖², up to a factor; zeros for classes that collapse."""
    features: Float[Tensor, " C"]
    """‖μ_k‖², up to a factor."""
    warnings: tuple[str, ...]


def predicted_frame(
    risk: EmpiricalRisk,
    geometry: Geometry,
    last: Classifier,
    classifier_decay: float | None,
    feature_decay: float | None,
) -> Frame:
    """With λ_W the risk's weight decay, and λ_H = λ_W ‖W‖² / Σ ‖h_i‖², unless they are given.

    The latter holds wherever such a model is stationary: λ_W Wᵀ W = λ_H H Hᵀ.
    """
    own = risk.weight_decay if classifier_decay is None else classifier_decay
    features = geometry.features
    squares = features.counts @ (features.variances + features.means.square().sum(1))
    balanced = own * float(last.weight.square().sum() / squares)
    other = balanced if feature_decay is None else feature_decay
    # A mean over C outputs is 2/C times the half square that the frame is stated for.
    scale = risk.num_outputs / 2 if risk.loss.name == "mse" else 1.0
    decay = scale * (own * other) ** 0.5
    said = (
        (risk.loss.name != "mse", f"the frame is that of squared loss, not of {risk.loss.name}"),
        (last.bias is not None, "the frame is that of a classifier without bias"),
    )
    warnings = tuple(text for holds, text in said if holds)
    return Frame(decay, *frames.relative_norms(features.counts, decay), warnings)


def frame_table(geometry: Geometry, last: Classifier, frame: Frame) -> dict[str, Any]:
    """Squared norms by class, observed and predicted, as shares of their sum."""
    norms = last.weight.square().sum(1)
    return {
        "decay": frame.decay,
        "predicted": (frame.classifier / frame.classifier.sum()).tolist(),
        "observed": (norms / norms.sum()).tolist(),
        "means": float(frames.gram_distance(geometry.means, frame.features.diag())),
        "predicted_collapsed": chosen(geometry, frame.classifier == 0),
    }


def collapsed_rows(
    last: Classifier, tolerance: float
) -> tuple[Tensor, Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Which rows of W are near zero or near another one's direction; norms, largest cosines."""
    norms = last.weight.norm(dim=1)
    cosines = frames.cosines(last.weight).nan_to_num().fill_diagonal_(-1).amax(1)
    gone = (norms <= tolerance * norms.max()) | (cosines >= 1 - tolerance)
    return gone, norms, cosines


def chosen(geometry: Geometry, which: Tensor) -> list[int]:
    """The classes of these rows."""
    return [number for number, there in zip(geometry.classes, which.tolist(), strict=True) if there]
