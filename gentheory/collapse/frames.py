"""Geometry of class means and classifiers: frames, angles, and scatter within and between classes.

Functions of vectors as rows [C, D], one for each class, in float64 and differentiable; what they
are at neural collapse stands with each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class GeneralFrame(NamedTuple):
    """Orthogonal vectors of unequal lengths: squared norms by class."""

    classifier: Float[Tensor, " C"]
    """‖w_k‖²."""
    features: Float[Tensor, " C"]
    """‖h_k‖², of every example of class k."""
    products: Float[Tensor, " C"]
    """t_k = w_k · h_k, the output of the own class."""


def general_orthogonal_frame(
    counts: Float[Tensor, " C"], classifier_decay: float, feature_decay: float
) -> GeneralFrame:
    """Where (1/2N) ‖W H − Y‖² + λ_W/2 ‖W‖² + λ_H/2 ‖H‖² is least; Y one-hot, no bias.

    Features are free variables. The classes decouple: ‖w_k‖² = max(0, √(n_k λ_H / λ_W) − N λ_H),
    ‖h_k‖² = ‖w_k‖² λ_W / (λ_H n_k), t_k = max(0, 1 − N √(λ_W λ_H / n_k)), w_k ∥ h_k, and all
    else orthogonal. A class with n_k ≤ N² λ_W λ_H has collapsed to zero. Both decays above 0.
    Source: Dang et al. 2023 (arXiv 2301.00437), one linear layer.
    """
    total = counts.sum()
    own = (counts * feature_decay / classifier_decay).sqrt() - total * feature_decay
    classifier = own.clamp(min=0)
    products = 1 - total * (classifier_decay * feature_decay / counts).sqrt()
    features = classifier * classifier_decay / (feature_decay * counts)
    return GeneralFrame(classifier, features, products.clamp(min=0))


def relative_norms(
    counts: Float[Tensor, " C"], decay: float
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """‖w_k‖² and ‖h_k‖² of the general orthogonal frame, each up to a factor.

    They depend on `decay` = √(λ_W λ_H) alone, which may be 0: max(0, √n_k − N decay), and that
    over n_k.
    """
    classifier = (counts.sqrt() - counts.sum() * decay).clamp(min=0)
    return classifier, classifier / counts


def centred(vectors: Float[Tensor, "C D"]) -> Float[Tensor, "C D"]:
    """Less their mean, which gives every class the same weight."""
    return vectors - vectors.mean(0)


def simplex(count: int, like: Tensor) -> Float[Tensor, "C C"]:
    """Gram matrix I − 11ᵀ/C of a simplex equiangular tight frame, up to a factor."""
    return torch.eye(count).to(like) - 1 / count


def gram_distance(vectors: Float[Tensor, "C D"], ideal: Float[Tensor, "C C"]) -> Float[Tensor, ""]:
    """‖G/‖G‖_F − I/‖I‖_F‖_F for the Gram matrix G and the ideal one I; at most √2."""
    gram = vectors @ vectors.T
    return (gram / gram.norm() - ideal / ideal.norm()).norm()


def norm_variation(vectors: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Standard deviation of the norms over their mean (unbiased); 0 for equal norms."""
    norms = vectors.norm(dim=1)
    return norms.std() / norms.mean()


def angle_deviation(vectors: Float[Tensor, "C D"]) -> Float[Tensor, ""]:
    """Mean of |cos + 1/(C − 1)| over pairs of vectors; 0 for a simplex."""
    rows, columns = pairs(len(vectors), vectors)
    return (cosines(vectors)[rows, columns] + 1 / (len(vectors) - 1)).abs().mean()


def cosines(vectors: Float[Tensor, "C D"]) -> Float[Tensor, "C C"]:
    """Of the angles between any two."""
    units = vectors / vectors.norm(dim=1, keepdim=True)
    return units @ units.T


def pairs(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (c, c') of all pairs with c < c'."""
    rows, columns = torch.triu_indices(count, count, 1, device=like.device)
    return rows, columns


def duality_distance(
    weight: Float[Tensor, "C D"], vectors: Float[Tensor, "C D"]
) -> Float[Tensor, ""]:
    """‖W/‖W‖_F − M/‖M‖_F‖_F; 0 where the classifier is the class means, up to a factor."""
    return (weight / weight.norm() - vectors / vectors.norm()).norm()


def product_distance(
    weight: Float[Tensor, "C D"], vectors: Float[Tensor, "C D"]
) -> Float[Tensor, ""]:
    """‖W Mᵀ/‖W Mᵀ‖_F − (I − 11ᵀ/C)/√(C − 1)‖_F; 0 for a dual pair of simplices."""
    product, ideal = weight @ vectors.T, simplex(len(weight), weight)
    return (product / product.norm() - ideal / ideal.norm()).norm()


def whitening(means: Float[Tensor, "C D"]) -> Float[Tensor, "D _"]:
    """F with F Fᵀ = S_B⁺ / C for the scatter S_B = (1/C) Σ (μ_c − μ_G)(μ_c − μ_G)ᵀ between classes.

    In the C − 1 contrasts of the means, so that the rank is cut there by construction: rounding in
    a direction that they do not span has no inverse (trap 34).
    """
    spread = means.T @ contrasts(len(means), means)
    rtol = max(spread.shape) * torch.finfo(means.dtype).eps
    return torch.linalg.pinv(spread, rtol=rtol).T


def contrasts(count: int, like: Tensor) -> Float[Tensor, "C _"]:
    """An orthonormal basis of what is orthogonal to the ones (Helmert's), [C, C − 1]."""
    basis = torch.ones(count, count - 1).to(like).triu()
    sizes = torch.arange(1, count).to(like)
    basis[1:].diagonal().copy_(-sizes)
    return basis / (sizes * (sizes + 1)).sqrt()


def within_over_between(
    means: Float[Tensor, "C D"], within: Float[Tensor, "D D"]
) -> Float[Tensor, ""]:
    """tr(S_W S_B⁺) / C; 0 where features are their class means."""
    factor = whitening(means)
    return (factor * (within @ factor)).sum()


def trace_ratio(means: Float[Tensor, "C D"], within_trace: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """tr S_W / tr S_B."""
    return within_trace / centred(means).square().sum(1).mean()


def distance_normalized_variances(
    means: Float[Tensor, "C D"], variances: Float[Tensor, " C"]
) -> Float[Tensor, " _"]:
    """(v_i + v_j) / (2 ‖μ_i − μ_j‖²) of every pair of classes i < j, v = E‖h − μ‖²."""
    rows, columns = pairs(len(means), means)
    distances = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    return (variances[rows] + variances[columns]) / (2 * distances[rows, columns].square())


def cosine_distances(
    counts: Float[Tensor, " C"], means: Float[Tensor, "C D"], variances: Float[Tensor, " C"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(d_within, d_total): mean of 1 − cos over pairs of examples of one class, and over all pairs.

    From the moments of features of length 1, without a pair of an example with itself; every class
    of two examples or more, and every pair of classes, has the same weight. nan without such a
    class.
    Source: Kornblith et al. 2021 (arXiv 2010.16402), who keep the pairs of an example with itself.
    """
    paired = counts > 1
    own = (1 - means.square().sum(1))[paired] + variances[paired] / (counts[paired] - 1)
    rows, columns = pairs(len(means), means)
    across = 1 - (means @ means.T)[rows, columns]
    total = (2 * across.sum() + own.sum()) / (2 * len(across) + len(own))
    return own.mean(), total
