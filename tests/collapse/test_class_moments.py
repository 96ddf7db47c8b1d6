"""Class moments of a stream are those of all examples at once."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gentheory.collapse.moments import ClassMoments, ClassSums, add_gram, class_moments, mirrored


def drawn(count: int = 200, size: int = 7, num_classes: int = 4) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    targets = torch.randint(num_classes, (count,), generator=stream)
    means = 5 * torch.randn(num_classes, size, generator=stream, dtype=torch.float64)
    noise = torch.randn(count, size, generator=stream, dtype=torch.float64)
    return means[targets] + noise * (1 + targets[:, None]), targets


def dense(features: Tensor, targets: Tensor, num_classes: int = 4) -> ClassMoments:
    """Class by class, in numpy."""
    h, y = features.numpy(), targets.numpy()
    own = [h[y == c] for c in range(num_classes)]
    means = np.stack([each.mean(0) for each in own])
    variances = np.array([((e - m) ** 2).sum(1).mean() for e, m in zip(own, means, strict=True)])
    within = sum(np.cov(each.T, bias=True) * len(each) for each in own) / len(h)
    counts = np.array([len(each) for each in own], dtype=float)
    return ClassMoments(*map(torch.from_numpy, (counts, means, variances, within)))


def assert_same(found: ClassMoments, expected: ClassMoments, rtol: float = 1e-12) -> None:
    for name in ("counts", "means", "variances", "within"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))


@pytest.mark.parametrize("batch", [1, 3, 50, 200])
def test_a_stream_is_all_at_once(batch: int):
    h, y = drawn()
    found = class_moments(zip(h.split(batch), y.split(batch), strict=True), 4)
    assert_same(found, dense(h, y))
    expected = dense(h, y).within
    assert expected is not None
    assert float(found.within_trace) == pytest.approx(float(expected.trace()), rel=1e-12)


def test_parts_merge_as_if_they_had_been_one():
    h, y = drawn()
    order = y.argsort()  # the parts have other classes each, and some none
    h, y = h[order], y[order]
    parts = [ClassSums(4, 7) for _ in range(3)]
    for part, rows in zip(parts, (slice(0, 90), slice(90, 120), slice(120, 200)), strict=True):
        part.add(h[rows], y[rows])
    whole = ClassSums(4, 7)
    for part in parts:
        whole.merge(part)
    assert_same(whole.moments(), dense(h, y))


def test_trap_30_means_far_from_zero_cost_no_digits():
    h, y = drawn()
    far = h + 1e6
    rows = list(zip(far.split(20), y.split(20), strict=True))
    expected = dense(far - 1e6, y)  # the numbers as they were stored
    found = class_moments(rows, 4)
    assert found.within is not None
    torch.testing.assert_close(found.within, expected.within, rtol=1e-8, atol=1e-8)


def test_collapsed_features_keep_their_digits():
    """Around one mean for all classes 1e-18 of the square would be lost, and NC1 with it."""
    h, y = drawn()
    means = dense(h, y).means
    near = means[y] + 1e-9 * (h - means[y])
    expected = dense(near, y)
    found = class_moments(zip(near.split(20), y.split(20), strict=True), 4)
    torch.testing.assert_close(found.variances, expected.variances, rtol=1e-5, atol=0)


def test_float32_features_are_summed_in_float64():
    h, y = drawn(count=3000)
    single = h.float()
    found = class_moments(zip(single.split(100), y.split(100), strict=True), 4)
    assert_same(found, dense(single.double(), y))


def test_the_order_of_the_examples_does_not_matter():
    h, y = drawn()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    one = class_moments([(h, y)], 4)
    assert_same(class_moments([(h[order], y[order])], 4), one)


def test_memory_does_not_grow_with_the_data():
    h, y = drawn()
    sums = ClassSums(4, 7)

    def held() -> list[int]:
        return [t.numel() for t in vars(sums).values() if torch.is_tensor(t)]

    sums.add(h, y)
    before = held()
    for _ in range(20):
        sums.add(h, y)
    assert held() == before == [4, 4, 28, 49]
    assert ClassSums(4, 7, covariance=False).scatter is None


def test_features_handed_in_are_not_touched():
    h, y = drawn()
    kept = h.clone()
    ClassSums(4, 7).add(h, y)
    assert torch.equal(h, kept)


def test_a_class_without_examples_has_no_variance_and_no_part_in_the_covariance():
    h, y = drawn()
    found = class_moments([(h, y)], 6)
    assert found.counts.tolist()[4:] == [0, 0]
    assert found.variances[4:].isnan().all()
    assert_same(found.of_classes(torch.arange(4)), dense(h, y))


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 13, 24])
def test_a_gram_matrix_by_halves(size: int):
    rows = torch.randn(size, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).T
    total = torch.zeros(size, size, dtype=torch.float64)
    add_gram(total, rows)
    add_gram(total, rows.contiguous(), alpha=0.5)
    torch.testing.assert_close(mirrored(total), 1.5 * rows.T @ rows)
