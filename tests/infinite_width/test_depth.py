"""Deep recursions without underflow, and the three limits of wide and deep nets."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

import gentheory as gt
from gentheory.data.recipe import Recipe
from gentheory.infinite_width import (
    Activation,
    deep_kernel,
    deep_limit,
    erf,
    hermite,
    relu,
    vote,
)
from gentheory.seeds import generator


def singular(d: int) -> Activation:
    """Consistent in d dimensions (Radhakrishnan et al. 2022)."""
    a = 2 ** (-d / 4)
    return hermite([0.0, a, math.sqrt(1 - 2 ** (1 - d / 2)), a])


SQUARE = hermite([0.0, 0.0, 1.0])


def test_the_taxonomy():
    found = deep_limit(relu)
    assert (found.kind, math.isnan(found.exponent)) == ("majority vote", True)
    assert found.mean_squared == pytest.approx(1 / math.pi)  # (E relu)² / E relu²
    assert deep_limit(SQUARE).kind == "nearest neighbour"
    assert deep_limit(hermite([0.5, 1.0])).kind == "majority vote"
    for d in (2, 3, 10):
        found = deep_limit(singular(d))
        assert found.kind == "singular kernel"
        assert found.exponent == pytest.approx(d)
        assert found.gain == pytest.approx(2)
    # erf: E erf'² = 4 / (π √5), (E erf')² = 4 / (3 π), E erf² = 2/π asin(2/3)
    size = 2 / math.pi * math.asin(2 / 3)
    gain, slope = 4 / math.pi / math.sqrt(5) / size, 4 / math.pi / 3 / size
    found = deep_limit(erf)
    assert (found.gain, found.slope_squared) == pytest.approx((gain, slope))
    assert found.exponent == pytest.approx(-2 * math.log(slope) / math.log(gain))


def test_a_linear_activation_has_no_limit():
    with pytest.raises(gt.InputError, match=r"activation hermite\(0, 1\): found a linear one"):
        deep_limit(hermite([0.0, 1.0]))
    with pytest.raises(gt.InputError, match="depth: found -1, expected 0 or more"):
        deep_kernel(torch.zeros(1), depth=-1, activation=relu)


@pytest.mark.parametrize("activation", [relu, erf, SQUARE, singular(3)], ids=lambda a: a.name)
def test_the_recursion_of_shallow_nets(activation: Activation):
    """Against the plain recursion of the normalized activation."""
    x = torch.randn(6, 4, generator=generator("x"), dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    one = torch.ones((), dtype=torch.float64)
    size = float(activation.dual(one, one, one)[0])
    theta, s = x @ x.T, x @ x.T
    for _ in range(3):
        mean, slope = (part / size for part in activation.dual(one, one, s))
        theta, s = mean + theta * slope, mean
    found = deep_kernel(x @ x.T, depth=3, activation=activation)
    torch.testing.assert_close(found.value(), theta, rtol=1e-10, atol=1e-14)


def test_no_underflow_and_no_overflow():
    """φ = h₂: Θᴸ = (2ᴸ⁺¹ − 1) c^(2ᴸ); on the diagonal Σ B'ˡ whatever the activation."""
    c = torch.tensor([0.9, -0.5, 1e-3, 1.0], dtype=torch.float64)
    for depth in (1, 10, 200):
        found = deep_kernel(c, depth=depth, activation=SQUARE)
        log = math.log(2.0 ** (depth + 1) - 1) + 2.0**depth * c.abs().log()
        torch.testing.assert_close(found.log, log, rtol=1e-9, atol=1e-9)
        assert found.sign.tolist() == [1, 1, 1, 1]
    deep = deep_kernel(torch.ones(1), depth=1000, activation=singular(2))
    assert float(deep.log) == pytest.approx(1001 * math.log(2), rel=1e-9)
    beyond = deep_kernel(c, depth=1100, activation=SQUARE)
    assert beyond.log.argsort().tolist() == [2, 1, 0, 3]
    # Where correlations are tiny the recursion is summed in one step: as step by step.
    pair = torch.tensor([1e-9, -3e-10], dtype=torch.float64)
    found = deep_kernel(pair, depth=40, activation=singular(2))
    torch.testing.assert_close(found.value(), 41 * pair * 0.5**20 * 0.5**20, rtol=1e-6, atol=0)
    zero = deep_kernel(torch.zeros(1), depth=50, activation=singular(2))
    assert zero.sign.item() == 0


@pytest.mark.parametrize(
    ("depth", "apart", "exponent"), [(20_000, (1e-3, 1e-2), 2.06), (20, (1e-4, 1e-3), 3.9)]
)
def test_the_exponent_needs_a_depth_beyond_the_inverse_distance(
    depth: int, apart: tuple[float, float], exponent: float
):
    """|x − x'|^−a where 1 − c ≫ 1 / L, and a + 2 in place of a where 1 − c ≪ 1 / L is not seen."""
    gaps = torch.logspace(*(math.log10(x) for x in apart), 9, dtype=torch.float64)
    found = deep_kernel(1 - gaps, depth=depth, activation=singular(2))
    slope = np.polyfit(0.5 * np.log(2 * gaps.numpy()), found.log.numpy(), 1)[0]
    assert -slope == pytest.approx(exponent, abs=0.15)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor]:
    """Cosines [n, N] between other digits and those to learn from, their cosines, classes."""
    data = Recipe("digits", n_train=140).train()
    x = data.inputs.double().flatten(1)
    x = x / x.norm(dim=1, keepdim=True)
    return x[100:], x[:100], (data.targets[:100] > 3).long()


def voted(digits: tuple[Tensor, Tensor, Tensor], activation: Activation, depth: int) -> Tensor:
    new, known, y = digits
    signs = 2.0 * y[:, None] - 1
    return (vote(deep_kernel(new @ known.T, depth=depth, activation=activation), signs) > 0)[:, 0]


def test_with_a_mean_the_majority_decides(digits: tuple[Tensor, Tensor, Tensor]):
    assert digits[2].double().mean() > 0.5
    assert bool(voted(digits, relu, 500).all())
    assert not bool(voted(digits, SQUARE, 1000).all())


def test_without_mean_and_slope_the_nearest_neighbour_decides(
    digits: tuple[Tensor, Tensor, Tensor],
):
    new, known, y = digits
    nearest = KNeighborsClassifier(1).fit(known.numpy(), y.numpy()).predict(new.numpy())
    assert voted(digits, SQUARE, 1000).long().tolist() == nearest.tolist()


def test_with_a_slope_a_singular_kernel_decides(digits: tuple[Tensor, Tensor, Tensor]):
    """Shepard's interpolation Σ y_j |x − x_j|^−a, by another route."""
    new, known, y = digits
    weights = torch.cdist(new, known) ** -4.0
    shepard = weights @ (2.0 * y.double() - 1) > 0
    found = voted(digits, singular(4), 500)
    assert (found == shepard).double().mean() > 0.9
    nearest = voted(digits, SQUARE, 1000)
    assert not torch.equal(found, nearest)
