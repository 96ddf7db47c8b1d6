"""Frames against their closed forms, and against unconstrained features models."""

import math

import pytest
import torch
import unconstrained
from torch import Tensor

from gentheory.collapse import frames
from gentheory.collapse.moments import class_moments


def etf(count: int, size: int) -> Tensor:
    """A simplex in general position: C unit vectors in D dimensions, D ≥ C − 1."""
    flat = frames.contrasts(count, torch.ones(1).double())
    stream = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(size, size, generator=stream, dtype=torch.float64)).Q
    vectors = flat @ turn[: count - 1]
    return vectors / vectors.norm(dim=1, keepdim=True)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_contrasts_are_an_orthonormal_basis_beside_the_ones(count: int):
    basis = frames.contrasts(count, random(1))
    torch.testing.assert_close(basis.T @ basis, torch.eye(count - 1).double())
    torch.testing.assert_close(basis.sum(0), torch.zeros(count - 1).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("count", "size"), [(2, 1), (4, 3), (4, 6), (10, 20)])
def test_a_simplex_is_at_no_distance_from_itself(count: int, size: int):
    vectors = 3 * etf(count, size)
    zero = pytest.approx(0, abs=1e-13)
    assert float(frames.gram_distance(vectors, frames.simplex(count, vectors))) == zero
    assert float(frames.angle_deviation(vectors)) == zero
    assert float(frames.norm_variation(vectors)) == zero
    assert float(frames.duality_distance(2 * vectors, vectors)) == zero
    assert float(frames.product_distance(2 * vectors, vectors)) == zero


def test_distances_of_known_gram_matrices():
    eye = torch.eye(4).double()
    # Cosine of the two Gram matrices: √(3/4).
    apart = math.sqrt(2 - 2 * math.sqrt(3 / 4))
    assert float(frames.gram_distance(eye, frames.simplex(4, eye))) == pytest.approx(apart)
    assert float(frames.gram_distance(5 * eye, eye)) == pytest.approx(0, abs=1e-14)
    line = eye[:1].expand(4, 4)
    assert float(frames.gram_distance(line, eye)) == pytest.approx(1)
    assert float(frames.angle_deviation(eye)) == pytest.approx(1 / 3)
    lengths = torch.diag(torch.tensor([1.0, 2.0, 3.0]).double())
    assert float(frames.norm_variation(lengths)) == pytest.approx(0.5)


def test_no_distance_between_gram_matrices_is_above_root_two():
    for count in (3, 8):
        vectors = random(count, 5)
        found = frames.gram_distance(vectors, frames.simplex(count, vectors))
        assert 0 < float(found) <= math.sqrt(2)


@pytest.mark.parametrize(("count", "size"), [(4, 9), (4, 3), (6, 2)])
def test_trap_34_whitening_is_the_pseudo_inverse_cut_at_its_rank(count: int, size: int):
    means = random(count, size)
    centred = frames.centred(means)
    between = centred.T @ centred / count
    values, vectors = torch.linalg.eigh(between)
    kept = slice(-min(count - 1, size), None)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    factor = frames.whitening(means)
    torch.testing.assert_close(factor @ factor.T, inverse / count)


def test_trap_34_rounding_in_the_means_has_no_inverse():
    means = random(5, 8)
    noisy = (means.float() * (1 + 1e-7 * random(5, 8).float())).double()
    one, other = (float(frames.whitening(m).square().sum()) for m in (means, noisy))
    assert one == pytest.approx(other, rel=1e-5)


def test_cosine_distances_are_means_over_pairs():
    h, y = random(12, 3), torch.tensor([0] * 5 + [1] * 6 + [2])
    units = h / h.norm(dim=1, keepdim=True)
    moments = class_moments([(units, y)], 3)
    found = frames.cosine_distances(moments.counts, moments.means, moments.variances)
    apart = 1 - units @ units.T
    blocks = [
        [
            apart[y == a][:, y == b] if a != b else apart[y == a][:, y == a].fill_diagonal_(0)
            for b in range(3)
        ]
        for a in range(3)
    ]
    own = [float(blocks[c][c].sum()) / (n * (n - 1)) for c, n in ((0, 5), (1, 6))]
    across = [float(blocks[a][b].mean()) for a in range(3) for b in range(3) if a != b]
    assert float(found[0]) == pytest.approx(sum(own) / 2)
    assert float(found[1]) == pytest.approx((sum(own) + sum(across)) / 8)


def test_distance_normalized_variances_by_hand():
    means = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]).double()
    variances = torch.tensor([1.0, 4.0, 2.0]).double()
    found = frames.distance_normalized_variances(means, variances)
    assert found.tolist() == pytest.approx([5 / 50, 3 / 8, 6 / 26])


@pytest.mark.parametrize("size", [4, 7])
def test_equal_classes_under_squared_loss_are_orthogonal(size: int):
    """λ_W/(2K), λ_H/(2Kn): ‖h‖² = (1 − c) √(λ_W/λ_H), c = √(λ_W λ_H), w = √(λ_H/λ_W) h."""
    classes, each, classifier, feature = 4, 6, 0.05, 0.2
    found = unconstrained.least_squares(
        [each] * classes, classifier / classes, feature / (classes * each), size
    )
    c = math.sqrt(classifier * feature)
    squares = found.features.square().sum(1)
    expected = torch.full_like(squares, (1 - c) * math.sqrt(classifier / feature))
    torch.testing.assert_close(squares, expected, rtol=1e-8, atol=0)
    means = found.features[::each]
    torch.testing.assert_close(found.weight, math.sqrt(feature / classifier) * means)
    assert float(frames.gram_distance(means, torch.eye(classes))) < 1e-8


def test_unequal_classes_under_squared_loss_are_a_general_orthogonal_frame():
    counts, classifier, feature = [40, 20, 10, 2], 0.04, 0.02
    found = unconstrained.least_squares(counts, classifier, feature, 6)
    sizes = torch.tensor(counts).double()
    frame = frames.general_orthogonal_frame(sizes, classifier, feature)
    total = sizes.sum()
    assert float(sizes[3]) <= float(total**2) * classifier * feature  # the last class collapses
    firsts = torch.tensor([0, 40, 60, 70])
    means = found.features[firsts]
    close = {"rtol": 1e-6, "atol": 1e-9}
    torch.testing.assert_close(found.weight.square().sum(1), frame.classifier, **close)
    torch.testing.assert_close(means.square().sum(1), frame.features, **close)
    torch.testing.assert_close((found.weight * means).sum(1), frame.products, **close)
    torch.testing.assert_close(
        found.weight @ found.weight.T, frame.classifier.diag(), rtol=0, atol=1e-8
    )
    relative = frames.relative_norms(sizes, math.sqrt(classifier * feature))
    for own, other in zip(relative, (frame.classifier, frame.features), strict=True):
        torch.testing.assert_close(own / own.sum(), other / other.sum())


def test_cross_entropy_with_a_bias_gives_a_dual_simplex():
    found = unconstrained.cross_entropy(4, 3, 6, 5e-3)
    means = class_moments([(found.features, found.targets)], 4).means
    centred = frames.centred(means)
    assert float(frames.gram_distance(centred, frames.simplex(4, centred))) < 1e-4
    assert float(frames.duality_distance(found.weight, centred)) < 1e-4
    torch.testing.assert_close(found.features, means[found.targets], rtol=0, atol=1e-4)
