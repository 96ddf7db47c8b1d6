"""Spread and likeness of features: closed forms, anchors, invariances, and honest errors."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from gentheory.representation import similarity
from gentheory.seeds import generator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def units(n: int, d: int, seed: int = 0) -> Tensor:
    return similarity.on_sphere(normal(n, d, seed=seed))[0]


def orthogonal(d: int) -> Tensor:
    return torch.linalg.qr(normal(d, d, seed=9))[0]


def test_features_of_zeros_have_no_direction():
    found, there = similarity.on_sphere(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]]))
    assert torch.equal(found, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    assert there.tolist() == [True, False, True]


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("t", [0.5, 2.0])
def test_alignment_and_uniformity_are_loops_over_pairs(power: float, t: float):
    x, y = units(9, 4), torch.arange(9) % 3
    apart = torch.cdist(x, x)
    same = [apart[i, j] ** power for i in range(9) for j in range(i) if y[i] == y[j]]
    near = [torch.exp(-t * apart[i, j] ** 2) for i in range(9) for j in range(i)]
    squares = similarity.squared_distances(x)
    found = similarity.alignment(squares, y[:, None] == y, power)
    assert found == pytest.approx(float(torch.stack(same).mean()), rel=1e-12)
    expected = float(torch.stack(near).mean().log())
    assert similarity.uniformity(squares, t) == pytest.approx(expected, rel=1e-12)


def test_collapsed_features_have_alignment_and_uniformity_zero():
    x = units(1, 6).repeat(5, 1)
    squares, everywhere = similarity.squared_distances(x), torch.ones(5, 5).bool()
    assert similarity.alignment(squares, everywhere, 2.0) == pytest.approx(0, abs=1e-15)
    assert similarity.uniformity(squares, 2.0) == pytest.approx(0, abs=1e-14)


def test_evenly_spread_features_in_many_dimensions_have_uniformity_minus_2_t():
    squares = similarity.squared_distances(units(400, 3000))
    assert similarity.uniformity(squares, 2.0) == pytest.approx(-4, abs=0.01)


def both_signs(axes: int, of: int) -> Tensor:
    """± the first unit vectors: mean 0 and covariance I / axes on them, exactly."""
    eye = torch.eye(of, dtype=torch.float64)[:axes]
    return torch.cat([eye, -eye])


@pytest.mark.parametrize(("axes", "of"), [(8, 8), (4, 8), (2, 8), (1, 8), (3, 12), (32, 64)])
def test_wasserstein_of_features_even_on_a_share_of_the_dimensions(axes: int, of: int):
    found = similarity.wasserstein(both_signs(axes, of))
    assert found == pytest.approx(math.sqrt(2 - 2 * math.sqrt(axes / of)), abs=1e-7)


@pytest.mark.parametrize(("n", "m"), [(3, 5), (50, 5)])
def test_wasserstein_of_a_point_is_root_two(n: int, m: int):
    assert similarity.wasserstein(units(1, m).repeat(n, 1)) == pytest.approx(math.sqrt(2), rel=1e-7)


def test_wasserstein_is_the_distance_of_normal_distributions():
    x = units(200, 6)
    mean, covariance = x.mean(0), torch.cov(x.T, correction=0)
    values = torch.linalg.eigvalsh(covariance)
    apart = (values.sqrt() - 6**-0.5).square().sum()  # both covariances share eigenvectors
    expected = float((mean.square().sum() + apart).sqrt())
    assert similarity.wasserstein(x) == pytest.approx(expected, rel=1e-12)


def test_wasserstein_by_the_other_gram_matrix_is_the_same():
    x = units(7, 7)
    padded = torch.cat([x, torch.zeros(7, 3).double()], dim=1)  # more dimensions than examples
    roots = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).clamp(min=0).sqrt().sum()
    expected = float((2 - 2 * roots / math.sqrt(10)).sqrt())
    assert similarity.wasserstein(padded) == pytest.approx(expected, abs=1e-7)


def test_wasserstein_sees_clones_and_padding_and_not_permutations_nor_repeated_examples():
    x = units(60, 5)
    found = similarity.wasserstein(x)
    shuffled = x[torch.randperm(60, generator=generator(1))][:, torch.tensor([3, 0, 4, 1, 2])]
    assert similarity.wasserstein(shuffled) == pytest.approx(found, rel=1e-12)
    assert similarity.wasserstein(torch.cat([x, x])) == pytest.approx(found, rel=1e-12)
    cloned = torch.cat([x, x], dim=1) / math.sqrt(2)
    padded = torch.cat([x, torch.zeros(60, 5).double()], dim=1)
    assert similarity.wasserstein(cloned) > found + 0.1
    assert similarity.wasserstein(padded) > found + 0.1
    squares = similarity.squared_distances
    for worse in (cloned, padded):  # uniformity does not see them
        wang, own = (similarity.uniformity(squares(each), 2.0) for each in (worse, x))
        assert wang == pytest.approx(own, rel=1e-12)


def test_even_features_show_the_floor_of_so_many_examples():
    n, m = 2000, 40
    found = similarity.wasserstein(units(n, m))
    assert found == pytest.approx(math.sqrt((m + 3) / (4 * n)), rel=0.05)


def hsic_by_hand(k: Tensor, m: Tensor) -> float:
    """The U-statistic over all ordered quadruples of different examples."""
    total, n = 0.0, len(k)
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_plain_cka_is_that_of_the_covariances_of_the_features():
    x, y = normal(30, 4), normal(30, 6, seed=1)
    a, b = x - x.mean(0), y - y.mean(0)
    above = (a.T @ b).square().sum()
    expected = float(above / ((a.T @ a).norm() * (b.T @ b).norm()))
    found = similarity.cka(similarity.gram(x), y @ y.T, debiased=False)
    assert found == pytest.approx(expected, rel=1e-12)


def test_debiased_cka_is_that_of_sums_over_quadruples():
    x, y = normal(7, 2), normal(7, 3, seed=1)
    k, m = x @ x.T, y @ y.T
    expected = hsic_by_hand(k, m) / math.sqrt(hsic_by_hand(k, k) * hsic_by_hand(m, m))
    assert similarity.cka(k, m, debiased=True) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_one_for_equal_features_and_blind_to_turns_scales_and_shifts(debiased: bool):
    x, y = normal(40, 5), normal(40, 5, seed=1)
    k, m = x @ x.T, y @ y.T
    moved = 3 * x @ orthogonal(5) + 7
    plain, turned = (similarity.cka(g, m, debiased=debiased) for g in (k, moved @ moved.T))
    assert turned == pytest.approx(plain, rel=1e-9)
    assert similarity.cka(k, moved @ moved.T, debiased=debiased) == pytest.approx(1, rel=1e-9)
    stretched = x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1]).double())
    assert similarity.cka(k, stretched @ stretched.T, debiased=debiased) < 0.95


def test_only_debiased_cka_is_zero_for_unrelated_features_of_many_dimensions():
    pairs = [(normal(40, 200, seed=s), normal(40, 200, seed=100 + s)) for s in range(30)]
    grams = [(similarity.gram(x), similarity.gram(y)) for x, y in pairs]
    plain, fair = (
        torch.tensor([similarity.cka(*pair, debiased=debiased) for pair in grams])
        for debiased in (False, True)
    )
    assert plain.min() > 0.75
    assert fair.mean().abs() < 3 * fair.std() / math.sqrt(30)


def test_what_is_left_of_a_kernel_is_orthogonal_to_that_of_the_inputs():
    k, x = (g @ g.T for g in (normal(12, 3), normal(12, 4, seed=1)))
    left = similarity.deconfounded(k, x)
    assert abs(float(left.sum())) < 1e-10
    assert abs(float((left * x).sum())) < 1e-10
    assert float(similarity.deconfounded(2 * x + 3, x).abs().max()) < 1e-12
    mask = ~torch.eye(12).bool()
    fair = similarity.deconfounded(k, x, off_diagonal=True)[mask]
    assert abs(float(fair.sum())) < 1e-10
    assert abs(float((fair * x[mask]).sum())) < 1e-10


def test_inputs_that_are_all_the_same_leave_the_kernel_less_its_mean():
    k = normal(6, 6)
    found = similarity.deconfounded(k, torch.ones_like(k))
    torch.testing.assert_close(found, k - k.mean())


def test_the_jackknife_of_a_mean_is_its_standard_error_up_to_the_groups():
    x = normal(40)

    def mean(index: Tensor) -> float:
        return float(x[index].mean())

    drawn = [similarity.jackknife(mean, 40, generator(seed)) for seed in range(40)]
    exact = float(x.std()) / math.sqrt(40)
    assert drawn[0] == pytest.approx(exact, rel=0.5)
    assert math.sqrt(sum(error**2 for error in drawn) / 40) == pytest.approx(exact, rel=0.1)
    few = similarity.jackknife(mean, 15, generator(0))
    assert few == pytest.approx(float(x[:15].std()) / math.sqrt(15), rel=1e-10)  # groups of one
    assert math.isnan(similarity.jackknife(lambda _: 0.0, 1, generator(0)))


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    stream = generator("clusters", seed)
    y = torch.randint(3, (n,), generator=stream)
    noise = torch.randn(n, 4, generator=stream, dtype=torch.float64)
    return 1.5 * torch.eye(4, dtype=torch.float64)[y] + noise, y


def aligned(x: Tensor, y: Tensor) -> float:
    squares = similarity.squared_distances(similarity.on_sphere(x)[0])
    return similarity.alignment(squares, y[:, None] == y, 2.0)


def uniform(x: Tensor, _: Tensor) -> float:
    return similarity.uniformity(similarity.squared_distances(similarity.on_sphere(x)[0]), 2.0)


def alike(x: Tensor, _: Tensor) -> float:
    """Debiased: the plain one has another expectation at each number of examples."""
    return similarity.cka(x @ x.T, x[:, :2] @ x[:, :2].T, debiased=True)


def residual(x: Tensor, _: Tensor) -> float:
    k, other, inputs = (g @ g.T for g in (x.relu(), (x - 0.5).relu(), x))
    left = (similarity.deconfounded(each, inputs, off_diagonal=True) for each in (k, other))
    return similarity.cka(*left, debiased=True)


def spread(x: Tensor, _: Tensor) -> float:
    return similarity.wasserstein(similarity.on_sphere(x)[0])


@pytest.mark.parametrize("statistic", [aligned, uniform, alike, residual, spread])
def test_errors_are_honest(statistic: Callable[[Tensor, Tensor], float]):
    n, scores = 100, []
    # What data of this size show: what is biased by the number of examples says so elsewhere.
    values = [statistic(*clusters(n, 1000 + s)) for s in range(1000)]
    truth = sum(values) / len(values)
    for seed in range(200):
        x, y = clusters(n, seed)

        def of(index: Tensor, x: Tensor = x, y: Tensor = y) -> float:
            return statistic(x[index], y[index])

        error = similarity.jackknife(of, n, generator("jackknife", seed))
        scores.append((statistic(x, y) - truth) / error)
    found = torch.tensor(scores)
    assert found.mean().abs() < 3 * found.std() * math.sqrt(1 / 200 + 1 / 1000)
    assert stats.kstest(scores, stats.t(19).cdf).pvalue > 0.01
