"""The family `representation`: which layer, which examples, what is refused; paper's checks."""

import math
from typing import Any

import pytest
import torch
from cases import CASES, initial_of, trajectory_of
from torch import Tensor, nn

import gentheory as gt
from gentheory import models
from gentheory.checkpoint import Checkpoint
from gentheory.data.recipe import Recipe
from gentheory.estimate import Estimate
from gentheory.params import flatten
from gentheory.representation import similarity
from gentheory.seeds import generator


def measured(subject: Checkpoint, name: str, **options: Any) -> Estimate:
    name = f"representation.{name}"
    return gt.measure(subject, name, options={name: options})[name]


def value(subject: Checkpoint, name: str, **options: Any) -> float:
    found = measured(subject, name, **options)
    assert found.status == "ok", found.reason
    return found.value


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def reading(features: Tensor, targets: Tensor | None = None, **options: Any) -> Checkpoint:
    """A linear net: its classifier's features are the inputs."""
    targets = torch.arange(len(features)) % 3 if targets is None else targets
    net = nn.Linear(features.shape[1], 3).double()
    return Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (features, targets), **options))


def subject(case: str = "mlp") -> Checkpoint:
    risk = CASES[case].risk()
    return Checkpoint(risk, initial_of(risk), 10, 0.5, trajectory_of(risk))


def hidden(risk: gt.EmpiricalRisk, theta: Tensor) -> list[Tensor]:
    """Inputs of the three layers of the case `mlp`, by hand."""
    tensors = risk.layout.unflatten(theta)
    x = risk.joined()[0]
    one = (x @ tensors["0.weight"].T + tensors["0.bias"]).relu()
    two = (one @ tensors["2.weight"].T + tensors["2.bias"]).relu()
    return [x, one, two]


def test_features_are_those_of_the_layer_named():
    at = subject()
    layers = hidden(at.risk, at.risk.theta)
    for layer, features in {"0": layers[0], "2": layers[1], "4": layers[2], "": layers[2]}.items():
        units, _ = similarity.on_sphere(features)
        squares = similarity.squared_distances(units)
        expected = similarity.uniformity(squares, 2.0)
        assert value(at, "uniformity", layer=layer) == pytest.approx(expected, rel=1e-12)
        expected = similarity.wasserstein(units)
        assert value(at, "wasserstein_uniformity", layer=layer) == pytest.approx(expected, rel=1e-9)
    found = measured(at, "uniformity", layer="nothing")
    assert found.status == "refused"
    assert "choose some of them" in found.reason


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (torch.eye(8)[:1].repeat(4, 1), math.sqrt(2)),
        (torch.cat([torch.eye(8), -torch.eye(8)]), 0.0),
        (torch.cat([torch.eye(8)[:4], -torch.eye(8)[:4]]), math.sqrt(2 - math.sqrt(2))),
    ],
)
def test_wasserstein_uniformity_of_a_point_all_dimensions_and_half_of_them(
    rows: Tensor, expected: float
):
    features = 3 * rows.double().repeat(30, 1)
    found = measured(reading(features), "wasserstein_uniformity")
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.warnings == ()


def test_wasserstein_uniformity_warns_where_examples_are_few():
    found = measured(reading(normal(70, 8)), "wasserstein_uniformity")
    assert found.warnings == (
        "70 examples in 8 dimensions look less evenly spread than they are: take 10 m",
    )
    assert found.stats["floor"] == pytest.approx(math.sqrt(11 / 280))
    assert found.value < 2 * found.stats["floor"]


def test_collapsed_classes_are_aligned_and_alignment_takes_pairs_of_one_class():
    y = torch.arange(12) % 3
    corners = torch.eye(4).double()[y]
    assert value(reading(corners, y), "alignment") == pytest.approx(0, abs=1e-15)
    mixed = value(reading(corners, torch.zeros(12).long()), "alignment")
    assert mixed == pytest.approx(2 * (48 / 66))  # pairs of different corners, of all pairs
    found = measured(reading(corners[:3], torch.arange(3)), "alignment")
    assert found.status == "refused"
    assert "no two examples of one class" in found.reason


def test_features_of_zeros_are_left_out_with_a_warning():
    features = normal(20, 4)
    features[3] = features[7] = 0
    found = measured(reading(features), "uniformity")
    kept = torch.tensor([i for i in range(20) if i not in (3, 7)])
    expected = value(reading(features[kept]), "uniformity")
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.warnings[0].startswith("2 examples have features of zeros")


def test_cka_is_between_now_and_initialization_or_between_layers():
    at = subject()
    assert at.initial is not None
    now, before = (hidden(at.risk, theta) for theta in (at.risk.theta, at.initial))

    def expected(one: Tensor, other: Tensor) -> float:
        return similarity.cka(one @ one.T, other @ other.T, debiased=False)

    assert value(at, "cka") == pytest.approx(expected(now[2], before[2]), rel=1e-12)
    assert value(at, "cka", layer="2") == pytest.approx(expected(now[1], before[1]), rel=1e-12)
    between = value(at, "cka", layer="2", other="4")
    assert between == pytest.approx(expected(now[1], now[2]), rel=1e-12)
    alone = Checkpoint(at.risk)
    assert value(alone, "cka", layer="2", other="4") == between
    assert measured(alone, "cka").status == "refused"


@pytest.mark.parametrize("name", ["cka", "deconfounded_cka"])
@pytest.mark.parametrize("debiased", [False, True])
def test_the_reference_s_mean_over_batches_is_no_part_of_it(name: str, debiased: bool):
    """It divides sums over batches by the number of layers."""
    x, y = normal(40, 5), torch.arange(40) % 3
    net, found = CASES["mlp"].module, []
    for size in (40, 7):
        risk = gt.EmpiricalRisk(net, "cross_entropy", (x, y), batch_size=size)
        at = Checkpoint(risk, initial_of(risk))
        found.append(value(at, name, debiased=debiased))
    assert found[0] == pytest.approx(found[1], rel=1e-10)
    assert found[0] <= 1


def test_a_net_is_like_itself():
    risk = CASES["mlp"].risk()
    for name in ("cka", "deconfounded_cka"):
        for debiased in (False, True):
            found = measured(Checkpoint(risk, risk.theta), name, debiased=debiased)
            assert found.value == pytest.approx(1, rel=1e-9)


def test_two_random_nets_are_alike_only_as_far_as_their_inputs_are():
    data = Recipe("digits", n_train=300).train()
    shape = {"shape": (1, 8, 8), "num_classes": 10, "options": {"depth": 2, "width": 100}}
    one, other = (models.build("mlp", **shape, seed=seed) for seed in range(2))
    at = Checkpoint(gt.EmpiricalRisk(one, "cross_entropy", data), flatten(other))
    assert value(at, "cka") > 0.75
    assert abs(value(at, "deconfounded_cka")) < 0.12
    assert abs(value(at, "deconfounded_cka", debiased=True)) < 0.12


def test_sparsity_is_the_share_of_units_that_are_on():
    at = subject()
    _, one, two = hidden(at.risk, at.risk.theta)
    found = measured(at, "sparsity")
    shares = [float((each > 0).double().mean()) for each in (one, two)]
    assert found.stats["layers"] == pytest.approx(shares)
    assert found.value == pytest.approx(sum(shares) / 2)
    each = ((one > 0).double().mean(1) + (two > 0).double().mean(1)) / 2
    assert found.stderr == pytest.approx(float(each.std()) / math.sqrt(12))


def test_the_local_complexity_of_a_linear_net_is_zero():
    found = measured(subject("linear net"), "local_complexity", radius=100.0)
    assert (found.value, found.stderr) == (0.0, 0.0)


def test_local_complexity_counts_the_kinks_in_reach():
    """One input, kinks at 0 and 1: each is in reach of the examples closer than the radius."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.ones(2, 1))
        net[0].bias.copy_(torch.tensor([0.0, -1.0]))
    x = torch.tensor([[-0.3], [-0.2], [0.1], [0.5], [0.8], [1.1]]).double()
    at = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (x, torch.zeros(6).long())))
    for radius, counts in {0.05: 0, 0.15: 2, 0.25: 4, 0.6: 7, 5.0: 12}.items():
        found = measured(at, "local_complexity", radius=radius)
        assert found.value == pytest.approx(counts / 6)
        assert found.stats["layers"] == pytest.approx([counts / 6])
        assert found.stats["num_directions"] == 1


def test_local_complexity_has_an_honest_error():
    """Over the draw of the examples and of the directions, both at once."""
    net = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 2)).double()
    theta = normal(sum(p.numel() for p in net.parameters()))
    values, squares = [], []
    for seed in range(200):
        data = normal(25, 6, seed=seed + 1), torch.zeros(25).long()
        at = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", data, theta=theta))
        name = "representation.local_complexity"
        chosen = {name: {"num_directions": 1, "num_frames": 6, "radius": 0.5}}
        found = gt.measure(at, name, seed=seed, options=chosen)[name]
        values.append(found.value)
        squares.append(found.stderr**2)
    spread, said = torch.tensor(values).var(), torch.tensor(squares).mean()
    assert said == pytest.approx(float(spread), rel=0.3)


def test_activations_that_are_curved_are_refused_alone_and_named_beside_relus():
    found = measured(subject("twice"), "local_complexity")
    assert found.status == "refused"
    assert "not piecewise linear (tanh)" in found.reason
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    risk = gt.EmpiricalRisk(net.double(), "cross_entropy", (normal(9, 4), torch.arange(9) % 3))
    found = measured(Checkpoint(risk), "local_complexity")
    assert found.warnings == ("not piecewise linear, and not counted: tanh",)


def test_v_information_complexity_of_linear_features_is_near_zero_and_of_a_late_one_above():
    at = subject("linear net")
    bits = torch.randint(2, (300, 5), generator=generator("bits")).double() * 2 - 1
    y = torch.zeros(300).long()
    linear = at.risk.on(bits, torch.full((300, 3), 1 / 3).double())
    found = measured(Checkpoint(linear), "v_information_complexity", ridge=1e-4)
    assert found.value < 0.01
    assert found.stats["names"] == ["0", "1", "2"]
    # |x₀ + x₁| is 0 or 2: what no linear function of the bits can tell.
    net = nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 1), nn.Linear(1, 3)).double()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[:, :2] = torch.tensor([[1.0], [-1.0]])
        net[0].bias.zero_()
        net[2].weight.copy_(torch.ones(1, 2))
    parity = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (bits, y)))
    found = measured(parity, "v_information_complexity", ridge=1e-4)
    assert found.value == pytest.approx(1 / 3, abs=0.01)
    assert found.stats["layers"] == pytest.approx([0, 1, 1], abs=0.01)


def test_v_information_needs_a_layer_before():
    found = measured(subject(), "v_information_complexity", layer="0")
    assert found.status == "refused"
    assert "expected one of 2, 4" in found.reason


def test_copies_of_channels_are_merged():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for tensor in (net[0].weight, net[0].bias, net[2].weight.T):
            tensor[3:] = tensor[:3]
    data = normal(5, 4), torch.arange(5) % 3
    at = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", data))
    found = measured(at, "mergeable_features", beta=0.0)
    assert (found.value, found.stderr, found.stats["left"]) == (0.5, 0.0, [3])
    assert value(at, "mergeable_features", beta=1.0) == pytest.approx(1 / 6)


def test_the_area_under_the_margin_is_the_mean_over_training():
    at = subject()
    assert at.trajectory is not None
    assert at.trajectory.margins is not None
    areas = (2 * at.trajectory.margins[0] + 10 * at.trajectory.margins[1]) / 12
    found = measured(at, "area_under_margin")
    assert found.value == pytest.approx(float(areas.mean()))
    assert found.stderr == pytest.approx(float(areas.std()) / math.sqrt(12))
    assert found.stats["share_not_positive"] == float((areas <= 0).double().mean())
    first = measured(at, "area_under_margin", windows=1)
    assert first.value == pytest.approx(float(at.trajectory.margins[0].mean()))
    fewer = Checkpoint(at.risk, trajectory=at.trajectory.of_first(5))
    assert "margins of 5 examples of 12" in measured(fewer, "area_under_margin").reason


@pytest.mark.parametrize(
    ("name", "option", "wrong"),
    [
        ("alignment", "power", 0.0),
        ("uniformity", "t", -1.0),
        ("uniformity", "max_examples", 1),
        ("local_complexity", "radius", math.inf),
        ("local_complexity", "num_frames", 1),
        ("local_complexity", "num_directions", 0),
        ("v_information_complexity", "ridge", 0.0),
        ("mergeable_features", "beta", 1.5),
    ],
)
def test_options_out_of_range_are_refused_by_name(name: str, option: str, wrong: float):
    found = measured(subject(), name, **{option: wrong})
    assert found.status == "refused"
    assert found.reason.startswith(f"representation.{name}.{option}: found {wrong}")


def test_trap_39_features_that_do_not_fit_name_the_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gentheory.representation.vectors.MAX_MEMORY", 100)
    found = measured(subject(), "uniformity")
    assert found.status == "refused"
    assert found.reason.endswith("lower max_examples, or choose a later layer.")


@pytest.mark.parametrize("name", ["uniformity", "alignment", "cka", "wasserstein_uniformity"])
def test_a_subset_of_the_examples_says_what_all_say_within_its_error(name: str):
    x = normal(400, 5) + 2 * torch.eye(5).double()[torch.arange(400) % 3]
    risk = gt.EmpiricalRisk(CASES["mlp"].module, "cross_entropy", (x, torch.arange(400) % 3))
    at = Checkpoint(risk, initial_of(risk))
    few, all_ = measured(at, name, max_examples=100), measured(at, name, max_examples=400)
    assert few.stats["num_examples"] == 100
    assert abs(few.value - all_.value) < 4 * math.hypot(few.stderr, all_.stderr)
    assert all_.stderr < few.stderr
