"""The features of a layer on all examples at once, for what compares examples with each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.examples import some_of, targets_of
from gentheory.features import classifier, feature_batches, feature_sizes
from gentheory.representation import similarity
from gentheory.risk import EmpiricalRisk

MAX_MEMORY = 2**31
"""Bytes that the features of a layer may take."""


def features_of(risk: EmpiricalRisk, layer: str, place: str) -> Float[Tensor, "N D"]:
    """What the layer is given, the classifier where none is named; in float64.

    Raises `InputError` as `feature_sizes` does, and where they would not fit into memory.
    """
    layer = layer or classifier(risk).name
    size = 8 * risk.num_examples * feature_sizes(risk, (layer,))[layer]
    if size > MAX_MEMORY:
        raise InputError(
            place,
            f"features of {layer} that take {size / 2**30:.2f} GiB",
            f"at most {MAX_MEMORY / 2**30:.2f} GiB",
            "lower max_examples, or choose a later layer",
        )
    return torch.cat([b.features[layer].double() for b in feature_batches(risk, (layer,))])


@dataclass(frozen=True)
class Directions:
    """Features of unit norm, of the examples that have any."""

    units: Float[Tensor, "N D"]
    targets: Tensor
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, risk: EmpiricalRisk, layer: str, place: str) -> "Directions":
        """Raises `InputError` where fewer than two examples have features that are not all zero."""
        units, there = similarity.on_sphere(features_of(risk, layer, place))
        if len(units) < 2:
            raise InputError(
                place,
                f"{len(units)} examples whose features are not all zero",
                "2 or more",
                "take more examples, or a layer that is alive",
            )
        targets = targets_of(risk)[there]
        gone = len(there) - len(units)
        warning = f"{gone} examples have features of zeros, which have no direction: left out"
        return cls(units, targets, (warning,) if gone else ())


@dataclass(frozen=True)
class Kernels:
    """⟨h_i, h_j⟩ of two layers on the same examples."""

    one: Float[Tensor, "N N"]
    other: Float[Tensor, "N N"]
    risk: EmpiricalRisk
    """On these examples."""

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        place: str,
        layers: tuple[str, str],
        max_examples: int,
        generator: Generator,
    ) -> "Kernels":
        """Of the first layer, and of the second one; where that is "", of the first one untrained.

        Raises `InputError` naming `place` without the initial parameters that this takes, for
        fewer than four examples, and where a layer gives all examples the same.
        """
        layer, other = layers
        initial = None if other else checkpoint.initial_for(place)
        risk = some_of(checkpoint.risk, max_examples, generator, place=place)
        if risk.num_examples < 4:
            raise InputError(
                place, f"{risk.num_examples} examples", "4 or more", "take more examples"
            )
        layer = layer or classifier(risk).name
        before = (risk, other) if initial is None else (risk.at(initial), layer)
        one, two = (_kernel(*which, place) for which in ((risk, layer), before))
        return cls(one, two, risk)

    def inputs(self, place: str) -> Float[Tensor, "N N"]:
        """⟨x_i, x_j⟩ of the net's inputs. Raises `InputError` where these are indices."""
        x = torch.cat([x.flatten(1) for x, _ in self.risk.batches()])
        check_real(x, place)
        x = x.double()
        return x @ x.T


def check_real(inputs: Tensor, place: str) -> None:
    """Raise `InputError` naming `place` for inputs that are indices."""
    if not inputs.is_floating_point():
        raise InputError(
            place,
            f"inputs of {inputs.dtype}, which are indices",
            "real numbers",
            "hand in a net that takes the embedded inputs",
        )


def _kernel(risk: EmpiricalRisk, layer: str, place: str) -> Float[Tensor, "N N"]:
    features = features_of(risk, layer, place)
    rounding = torch.finfo(risk.dtype).eps * features.abs().max()
    if bool((features.std(0) <= rounding).all()):
        raise InputError(
            place,
            f"features of {layer} that are the same for all examples",
            "some that vary",
            "choose another layer, or a net that is alive",
        )
    return features @ features.T
