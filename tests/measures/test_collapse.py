"""Neural collapse of nets whose features are known: they are the inputs of a linear layer."""

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
import unconstrained
from cases import CASES
from scipy.stats import kstest
from torch import Tensor, nn
from unconstrained import linear

import gentheory as gt
from gentheory import features
from gentheory.checkpoint import Checkpoint
from gentheory.collapse import frames
from gentheory.collapse.moments import class_moments
from gentheory.estimate import Estimate
from gentheory.measures import collapse
from gentheory.seeds import generator

OF_MOMENTS = [
    "cdnv",
    "class_separation",
    "d_within",
    "equiangle",
    "equinorm",
    "etf_distance",
    "nc1",
    "nc1_trace_ratio",
    "nc3",
    "orthogonal_distance",
]


def estimate(subject: Checkpoint, name: str, **options: Any) -> Estimate:
    return getattr(collapse, name)(subject, generator=generator(0), **options)


def value(subject: Checkpoint, name: str, **options: Any) -> float:
    return estimate(subject, name, **options).value


def simplex(count: int = 4, size: int = 6) -> Tensor:
    """Rows of a simplex equiangular tight frame."""
    turn = torch.linalg.qr(random(size, size)).Q
    return frames.contrasts(count, random(1)) @ turn[: count - 1]


def random(*shape: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=stream, dtype=torch.float64)


def classes(counts: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def collapsed(offset: float = 0.3) -> Checkpoint:
    """Every example on its class mean, these a simplex around an offset, W its dual."""
    means, targets = simplex(), classes([5, 5, 5, 5])
    return linear(2 * means, means[targets] + offset, targets, torch.zeros(4).double())


def scattered(seed: int = 0, counts: tuple[int, ...] = (30, 50, 40)) -> Checkpoint:
    """Classes of other sizes and spreads, five features, W and b at random."""
    targets = classes(list(counts))
    centres = 2 * random(len(counts), 5, seed=1)
    noise = random(len(targets), 5, seed=seed + 10) * (0.5 + 0.5 * targets[:, None])
    weight, bias = random(len(counts), 5, seed=2), random(len(counts), seed=3)
    return linear(weight, centres[targets] + noise, targets, bias)


def parts(subject: Checkpoint) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets, W, b of a linear net."""
    h, y = subject.risk.joined()
    last = features.classifier(subject.risk)
    assert last.bias is not None
    return h.double().numpy(), y.numpy(), last.weight.double().numpy(), last.bias.numpy()


def oracle(subject: Checkpoint) -> dict[str, float]:
    """The definitions, by loops in numpy."""
    h, y, weight, bias = parts(subject)
    count = y.max() + 1
    own = [h[y == c] for c in range(count)]
    means = np.stack([each.mean(0) for each in own])
    centre = means.mean(0)
    m = means - centre
    within = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(h, y, strict=True)) / len(h)
    between = sum(np.outer(row, row) for row in m) / count
    values, vectors = np.linalg.eigh(between)
    kept = slice(-min(count - 1, h.shape[1]), None)
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    norms = np.linalg.norm(m, axis=1)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    simplex = (np.eye(count) - 1 / count) / math.sqrt(count - 1)
    variances = [((each - mu) ** 2).sum(1).mean() for each, mu in zip(own, means, strict=True)]

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def apart(c: int, d: int) -> float:
        found = [
            1 - cosine(a, b)
            for i, a in enumerate(own[c])
            for j, b in enumerate(own[d])
            if c != d or i != j
        ]
        return float(np.mean(found))

    inside = np.mean([apart(c, c) for c in range(count)])
    total = np.mean([apart(c, d) for c in range(count) for d in range(count)])
    logits = h @ weight.T + bias
    nearest = [int(np.argmin(((x - means) ** 2).sum(1))) for x in h]
    return {
        "nc1": float(np.trace(within @ inverse)) / count,
        "nc1_trace_ratio": float(np.trace(within) / np.trace(between)),
        "equinorm": float(norms.std(ddof=1) / norms.mean()),
        "equiangle": float(np.mean([abs(cosine(m[i], m[j]) + 1 / (count - 1)) for i, j in pairs])),
        "etf_distance": float(np.linalg.norm(unit(m @ m.T) - simplex)),
        "orthogonal_distance": float(
            np.linalg.norm(unit(means @ means.T) - np.eye(count) / math.sqrt(count))
        ),
        "nc3": float(np.linalg.norm(unit(weight) - unit(m))),
        "nc4": float(np.mean(np.array(nearest) != logits.argmax(1))),
        "cdnv": float(
            np.mean(
                [
                    (variances[i] + variances[j]) / (2 * ((means[i] - means[j]) ** 2).sum())
                    for i, j in pairs
                ]
            )
        ),
        "d_within": float(inside),
        "class_separation": float(1 - inside / total),
    }


@pytest.mark.parametrize("name", [*OF_MOMENTS, "nc4"])
def test_the_definitions(name: str):
    for seed in range(2):
        subject = scattered(seed)
        assert value(subject, name) == pytest.approx(oracle(subject)[name], rel=1e-10)


@pytest.mark.parametrize("name", [*OF_MOMENTS, "nc4"])
def test_trap_34_more_classes_than_features_can_separate(name: str):
    """Seven classes in five features: the pseudo-inverse has rank 5, a simplex is impossible."""
    subject = scattered(counts=(5,) * 7)
    found = estimate(subject, name)
    assert found.value == pytest.approx(oracle(subject)[name], rel=1e-10)
    assert "5 features are too few for a simplex of 7 classes" in found.warnings


def test_collapse_is_zero_everywhere():
    subject = collapsed()
    for name in ("nc1", "nc1_trace_ratio", "equinorm", "equiangle", "etf_distance", "nc3", "cdnv"):
        found = estimate(subject, name)
        assert found.value == pytest.approx(0, abs=1e-12), name
        assert found.stderr == pytest.approx(0, abs=1e-12), name
    assert value(subject, "d_within") == pytest.approx(0, abs=1e-12)
    assert value(subject, "class_separation") == pytest.approx(1)
    assert value(subject, "nc4") == 0
    for name in ("equinorm", "equiangle", "etf_distance"):
        assert estimate(subject, name).stats["classifier"] == pytest.approx(0, abs=1e-12)
    for variant in ("distance", "squared", "product"):
        assert value(subject, "nc3", variant=variant) == pytest.approx(0, abs=1e-12)
    assert value(subject, "minority_collapse") == 0
    assert value(collapsed(offset=0.0), "mixup_alignment") == pytest.approx(1)


def test_two_classes_are_a_simplex():
    subject = scattered(counts=(20, 30))
    for name in ("equinorm", "equiangle", "etf_distance"):
        found = estimate(subject, name)
        assert (found.value, found.stderr) == (0, 0)
        assert found.warnings == ("two class means are a simplex, whatever the features",)
    for name in ("nc1", "nc1_trace_ratio", "cdnv", "nc3", "nc4"):
        found = estimate(subject, name)
        assert found.value == pytest.approx(oracle(subject)[name])
        assert found.warnings == ()


def test_random_features_are_the_negative_control():
    targets = classes([50] * 4)
    subject = linear(random(4, 6), random(200, 6, seed=1), targets, torch.zeros(4).double())
    low = {"nc1": 5, "nc1_trace_ratio": 5, "cdnv": 5, "nc4": 0.3, "nc3": 0.5, "etf_distance": 0.2}
    for name, least in low.items():
        assert value(subject, name) > least
    assert value(subject, "class_separation") < 0.05
    assert value(subject, "d_within") > 0.9


INVARIANT = [*OF_MOMENTS, "nc4", "frame_distance", "minority_collapse"]


@pytest.mark.parametrize("name", INVARIANT)
def test_neither_a_rotation_nor_a_scale_of_the_features_matters(name: str):
    subject = scattered()
    h, y, weight, bias = map(torch.from_numpy, parts(subject))
    turn = torch.linalg.qr(random(5, 5)).Q
    # The outputs stay what they are.
    turned = linear(weight @ turn / 3, 3 * h @ turn, y, bias)
    assert value(turned, name) == pytest.approx(value(subject, name), rel=1e-9)
    assert estimate(turned, name).stderr == pytest.approx(estimate(subject, name).stderr, rel=1e-6)


@pytest.mark.parametrize("name", INVARIANT)
def test_the_names_of_the_classes_do_not_matter(name: str):
    subject = scattered()
    h, y, weight, bias = map(torch.from_numpy, parts(subject))
    order = torch.tensor([2, 0, 1])
    renamed = linear(weight[order.argsort()], h, order[y], bias[order.argsort()])
    assert value(renamed, name) == pytest.approx(value(subject, name), rel=1e-9)


@pytest.mark.parametrize("name", [*OF_MOMENTS, "nc4"])
def test_the_batch_size_does_not_matter(name: str):
    h, y, weight, bias = map(torch.from_numpy, parts(scattered()))
    one, other = (estimate(linear(weight, h, y, bias, batch_size=size), name) for size in (120, 7))
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.stderr == pytest.approx(other.stderr, rel=1e-9)


def test_neural_collapse_package_sums_in_float32():
    """Near collapse float32 sums, and an inverse not cut at rank K − 1, have no digit of NC1."""
    means, targets = simplex() + 20, classes([30] * 4)
    h = (means[targets] + 1e-4 * random(120, 6, seed=1)).float()
    net = nn.Linear(6, 4)
    subject = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (h, targets)))
    expected = oracle(
        Checkpoint(gt.EmpiricalRisk(net.double(), "cross_entropy", (h.double(), targets)))
    )
    for name in ("nc1", "nc1_trace_ratio", "cdnv"):
        assert value(subject, name) == pytest.approx(expected[name], rel=1e-9)


def truths(centres: Tensor, scales: Tensor, weight: Tensor) -> dict[str, float]:
    """Of the population of `drawn`; the angles from 400,000 examples a class."""
    size = centres.shape[1]
    variances = size * scales.square()
    shares = torch.tensor([0.25, 0.5, 0.25]).double()
    within = (shares * scales.square()).sum() * torch.eye(size).double()
    centred = frames.centred(centres)
    units = [
        (c + s * random(400_000, size, seed=k))
        for k, (c, s) in enumerate(zip(centres, scales, strict=True))
    ]
    moments = class_moments(
        [(u / u.norm(dim=1, keepdim=True), torch.full((len(u),), k)) for k, u in enumerate(units)],
        3,
        covariance=False,
    )
    inside, total = frames.cosine_distances(moments.counts, moments.means, moments.variances)
    found = {
        "nc1": frames.within_over_between(centres, within),
        "nc1_trace_ratio": frames.trace_ratio(centres, within.trace()),
        "equinorm": frames.norm_variation(centred),
        "etf_distance": frames.gram_distance(centred, frames.simplex(3, centred)),
        "orthogonal_distance": frames.gram_distance(centres, torch.eye(3)),
        "nc3": frames.duality_distance(weight, centred),
        "cdnv": frames.distance_normalized_variances(centres, variances).mean(),
        "d_within": inside,
        "class_separation": 1 - inside / total,
    }
    return {name: float(number) for name, number in found.items()}


def test_standard_errors_are_those_of_the_draw_of_the_examples():
    centres, scales = 2 * random(3, 4, seed=1), torch.tensor([0.5, 0.8, 1.0]).double()
    weight, targets = random(3, 4, seed=2), classes([300, 600, 300])
    expected = truths(centres, scales, weight)
    scores: dict[str, list[float]] = {name: [] for name in expected}
    for seed in range(200):
        noise = random(1200, 4, seed=seed + 100) * scales[targets][:, None]
        h = centres[targets] + noise
        found = gt.measure(
            linear(weight, h, targets, batch_size=1200).risk, [f"collapse.{n}" for n in expected]
        )
        for name, truth in expected.items():
            own = found[f"collapse.{name}"]
            scores[name].append((own.value - truth) / own.stderr)
    for name, values in scores.items():
        assert kstest(values, "norm").pvalue > 0.01, name
        assert abs(np.mean(values)) < 3 / math.sqrt(len(values)), name


def test_nc4_is_counted_and_its_error_is_never_zero():
    h = torch.tensor([[0.0], [1.0], [2.4], [3.0], [4.0], [5.0]]).double()
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    weight, bias = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([2.0, -2.0]).double()
    # Means 1.13 and 4, halfway at 2.57; the net's own border is at 2: it alone is wrong on 2.4.
    found = estimate(linear(weight, h, y, bias), "nc4")
    assert found.value == pytest.approx(1 / 6)
    assert found.stats["by_class"] == pytest.approx([1 / 3, 0])
    assert found.stats["misplaced"] == 0
    none = estimate(linear(weight, h, y, bias + torch.tensor([0.5, -0.5])), "nc4")
    assert none.value == 0
    assert none.stderr == pytest.approx(1 / 12 / (1 + 1 / 6))


def test_nc1_by_class_adds_up():
    subject = scattered()
    found = estimate(subject, "nc1")
    shares = np.array(found.stats["counts"]) / sum(found.stats["counts"])
    assert shares @ np.array(found.stats["by_class"]) == pytest.approx(found.value)
    assert found.stats["undivided"] == pytest.approx(3 * found.value)


def test_bias_and_centring_of_nc3():
    subject = scattered()
    h, y, weight, bias = parts(subject)
    means = np.stack([h[y == c].mean(0) for c in range(3)])
    found = estimate(subject, "nc3")
    assert found.stats["bias"] == pytest.approx(np.linalg.norm(bias + weight @ means.mean(0)))
    squared = estimate(subject, "nc3", variant="squared")
    assert squared.value == pytest.approx(found.value**2)
    assert squared.stderr == pytest.approx(2 * found.value * found.stderr)
    product = weight @ (means - means.mean(0)).T
    ideal = (np.eye(3) - 1 / 3) / math.sqrt(2)
    expected = np.linalg.norm(product / np.linalg.norm(product) - ideal)
    assert value(subject, "nc3", variant="product") == pytest.approx(expected)


def test_equal_classes_of_an_unconstrained_model_are_orthogonal():
    found = unconstrained.least_squares([6] * 4, 0.02, 0.01, 7).checkpoint("mse")
    assert value(found, "orthogonal_distance") < 1e-6
    assert value(found, "nc1_trace_ratio") < 1e-12
    assert value(found, "frame_distance") < 1e-6


def test_unequal_classes_of_an_unconstrained_model_are_in_the_frame_predicted():
    counts, decays = [40, 20, 10, 2], (0.04, 0.02)
    model = unconstrained.least_squares(counts, *decays, 6)
    # `mse` is a mean over four outputs: half the square, and so its decay, is twice as much.
    subject = model.checkpoint("mse", weight_decay=decays[0] / 2)
    found = estimate(subject, "frame_distance")
    assert found.value < 1e-6
    assert found.stderr == 0
    assert found.stats["means"] < 1e-6
    assert found.stats["decay"] == pytest.approx(math.sqrt(decays[0] * decays[1]), rel=1e-6)
    assert found.stats["observed"] == pytest.approx(found.stats["predicted"], abs=1e-6)
    assert found.stats["predicted_collapsed"] == [3]
    assert found.warnings == ()
    given = estimate(subject, "frame_distance", feature_decay=decays[1] / 2)
    assert given.value == pytest.approx(found.value, abs=1e-6)
    minority = estimate(subject, "minority_collapse")
    assert minority.value == 0.25
    assert minority.stats["collapsed"] == minority.stats["predicted_collapsed"] == [3]


def test_the_frame_of_equal_norms_is_far_from_unequal_classes():
    model = unconstrained.least_squares([40, 20, 10, 6], 0.005, 0.005, 6)
    subject = model.checkpoint("mse", weight_decay=0.0025)
    assert value(subject, "frame_distance") < 1e-6
    assert value(subject, "frame_distance", classifier_decay=0.0) > 0.01


def test_classes_that_merge_are_collapsed():
    means, targets = simplex(), classes([20, 20, 3, 3])
    weight = torch.stack([means[0], means[1], means[2], means[2] + 1e-3])
    found = estimate(linear(weight, means[targets], targets), "minority_collapse")
    assert found.stats["collapsed"] == [2, 3]
    assert found.value == 0.5
    assert "the frame is that of squared loss, not of cross_entropy" in found.warnings


def test_cross_entropy_of_an_unconstrained_model_collapses_to_a_simplex():
    found = unconstrained.cross_entropy(4, 3, 6, 5e-3).checkpoint("cross_entropy")
    for name in ("nc1", "equinorm", "equiangle", "etf_distance", "nc3"):
        assert value(found, name) < 1e-3
    assert value(found, "nc4") == 0
    assert estimate(found, "nc3").stats["bias"] < 1e-3


def test_mixtures_of_a_linear_map_lie_on_the_segments():
    """Features are inputs, and these class means: nothing is left of the interpolation."""
    found = estimate(collapsed(offset=0.0), "mixup_residual")
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.stats["in_plane"] == pytest.approx(1)
    assert found.stats["num_samples"] == 500
    scattered_value = estimate(scattered(), "mixup_residual")
    assert scattered_value.value > 0.1
    assert scattered_value.stats["in_plane"] < 1


def test_mixtures_draw_other_examples_of_the_right_class():
    from gentheory.collapse.mixed import _pairs

    targets = torch.tensor([2, 0, 1, 0, 1, 0, 2, 1])
    seen = {True: torch.zeros(8, 8), False: torch.zeros(8, 8)}
    for same, counts in seen.items():
        first, second = _pairs(targets, "here", same, 40_000, generator(0))
        counts.index_put_((first, second), torch.ones(40_000), accumulate=True)
        equal = (targets[:, None] == targets) & ~torch.eye(8, dtype=torch.bool)
        allowed = equal if same else targets[:, None] != targets
        expected = 40_000 / 8 * allowed / allowed.sum(1, keepdim=True)
        assert bool((counts[~allowed] == 0).all())
        assert bool(((counts - expected).abs() < 5 * expected.sqrt() + 1e-9).all())


def test_mixup_alignment_is_the_mean_cosine_with_the_classifier():
    targets = classes([2, 2])
    h = torch.tensor([[1.0, 0.0], [3.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]]).double()
    weight = torch.tensor([[1.0, 1.0], [-1.0, 0.0]]).double()
    found = estimate(linear(weight, h, targets), "mixup_alignment")
    share = found.value - 1 / math.sqrt(2)  # class 0 at 45°, class 1 along its row
    assert 0.4 < share / (1 - 1 / math.sqrt(2)) < 0.6


def test_layers_are_measured_in_one_pass():
    case = CASES["conv"]
    subject = Checkpoint(case.risk())
    every = estimate(subject, "nc1", layers="all")
    assert every.stats["layers"] == ["0", "2", "5"]
    assert every.value == every.stats["values"][-1] == pytest.approx(value(subject, "nc1"))
    own = estimate(subject, "nc1", layers=["2"])
    assert own.stats["layers"] == ["2"]
    assert own.value == pytest.approx(every.stats["values"][1])
    assert own.stderr == pytest.approx(every.stats["stderrs"][1])
    assert "classifier" not in estimate(subject, "etf_distance", layers=["2"]).stats


def test_a_layer_may_be_named_in_a_net_that_ends_in_no_layer():
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.LogSoftmax(1)).double()
    subject = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data))
    assert math.isfinite(value(subject, "equinorm", layers=["2"]))
    with pytest.raises(gt.InputError, match="found values that no linear layer yields"):
        value(subject, "equinorm")


def test_the_passes_over_the_data_serve_the_whole_family(monkeypatch: pytest.MonkeyPatch):
    risk = scattered().risk
    gt.measure(risk, "collapse.nc1")  # everything that is looked at once a risk
    passes = []
    original = gt.EmpiricalRisk.outputs
    monkeypatch.setattr(
        gt.EmpiricalRisk, "outputs", lambda *args: passes.append(1) or original(*args)
    )
    gt.measure(risk, [f"collapse.{name}" for name in [*OF_MOMENTS, "nc4", "frame_distance"]])
    assert not passes


def test_classes_without_examples_are_left_out_and_said():
    h, y, weight, bias = map(torch.from_numpy, parts(scattered()))
    whole = linear(weight, h, y, bias)
    more = linear(
        torch.cat([weight, random(2, 5, seed=9)]), h, y, torch.cat([bias, torch.full((2,), -99.0)])
    )
    for name in INVARIANT:
        found = estimate(more, name)
        assert found.value == pytest.approx(value(whole, name)), name
        assert "classes without examples: 2" in found.warnings
        assert found.stats["classes"] == [0, 1, 2]


def test_other_data_than_the_training_data_are_said_to_be():
    found = estimate(Checkpoint(scattered().risk, num_train=1000), "nc4")
    assert found.warnings == ("class means of the data at hand, not of the training data",)


@pytest.mark.parametrize("name", collapse.__all__)
def test_refusals(name: str):
    def reason(subject: Checkpoint) -> str:
        return gt.measure(subject, f"collapse.{name}")[f"collapse.{name}"].reason

    h, weight = random(10, 5), random(3, 5)
    one = linear(weight, h, torch.zeros(10).long())
    assert "found examples of one class only" in reason(one)
    real = linear(weight, h, random(10, 3), loss="mse")
    assert "expected classes [B] of torch.int64" in reason(real)
    same = linear(weight, torch.ones(10, 5).double(), torch.arange(10) % 3)
    assert "found class means that are all the same" in reason(same)
    assert "values that no linear layer yields" in reason(Checkpoint(CASES["scalar"].risk()))


def test_refusals_of_options():
    subject = scattered()
    for name, options, said in (
        ("nc1", {"max_memory": 100}, r"found 200 bytes of covariances of 5 features, expected at"),
        ("nc3", {"variant": "other"}, r"collapse\.nc3\.variant: found 'other'"),
        ("minority_collapse", {"tolerance": 1.0}, r"minority_collapse\.tolerance: found 1.0"),
        ("frame_distance", {"classifier_decay": 9.0}, r"every class collapses to zero"),
        ("mixup_alignment", {"num_pairs": 1}, r"mixup_alignment\.num_pairs: found 1"),
        ("cdnv", {"layers": ["x"]}, r"layers: found 'x'"),
    ):
        with pytest.raises(gt.InputError, match=said):
            estimate(subject, name, **options)
    alone = linear(random(3, 5), random(3, 5, seed=1), torch.arange(3))
    for name in ("d_within", "class_separation", "mixup_alignment"):
        with pytest.raises(gt.InputError, match="found one example of each class"):
            estimate(alone, name)


def test_trap_1_batch_norm_uses_its_running_statistics():
    """Features by hand, from the net in eval mode."""
    case = CASES["batch norm"]
    module, (x, y) = case.module.eval(), case.data
    h = module[:6](x).detach()
    expected = linear(module[6].weight.detach(), h, y, module[6].bias.detach())
    for name in OF_MOMENTS:
        found = estimate(Checkpoint(case.risk()), name)
        assert found.value == pytest.approx(value(expected, name), rel=1e-9)


def test_every_measure_says_what_its_error_covers():
    for name in collapse.__all__:
        assert "`stderr`" in (inspect.getdoc(getattr(collapse, name)) or "")
