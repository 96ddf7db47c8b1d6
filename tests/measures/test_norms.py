"""Norms of parameters and of their way, against sums over the module."""

import math

import numpy as np
import pytest
import torch
from cases import CASES, Case
from torch import nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import norms
from gentheory.params import flatten
from gentheory.seeds import generator


def test_norm_counts_each_trainable_number_once(case: Case):
    trained = [p.detach() for p in case.module.parameters() if p.requires_grad]
    squares = sum(float(p.square().sum()) for p in trained)
    estimate = norms.parameters(Checkpoint(case.risk()), generator=generator(0))
    assert estimate.value == pytest.approx(math.sqrt(squares), rel=1e-13)
    assert estimate.stderr == 0


def test_distance_from_the_start():
    risk = CASES["mlp"].risk()
    way = torch.linspace(-1, 1, 100, dtype=torch.float64)
    initial = risk.theta + way
    estimate = norms.distance(Checkpoint(risk, initial), generator=generator(0))
    assert estimate.value == pytest.approx(way.norm().item(), rel=1e-13)
    assert estimate.stats["initial_norm"] == pytest.approx(initial.norm().item(), rel=1e-14)
    still = norms.distance(Checkpoint(risk, flatten(CASES["mlp"].module)), generator=generator(0))
    assert still.value == 0


def test_trap_30_float32_parameters_are_summed_in_float64():
    risk = gt.EmpiricalRisk(
        torch.nn.Linear(1, 1, bias=False), "mse", (torch.zeros(2, 1), torch.zeros(2, 1))
    )
    wide = gt.EmpiricalRisk(
        torch.nn.Linear(200_000, 1, bias=False),
        "mse",
        (torch.zeros(2, 200_000), torch.zeros(2, 1)),
        theta=torch.full((200_000,), 0.1),
    )
    estimate = norms.parameters(Checkpoint(wide), generator=generator(0))
    assert estimate.value == pytest.approx(float(torch.tensor(0.1)) * 200_000**0.5, rel=1e-12)
    assert norms.parameters(Checkpoint(risk), generator=generator(0)).value > 0


def test_without_a_start_there_is_no_distance():
    with pytest.raises(gt.InputError, match=r"norms\.distance: found no initial parameters"):
        norms.distance(Checkpoint(CASES["mlp"].risk()), generator=generator(0))


def held(name: str = "mlp", initial: float | None = 0.1) -> Checkpoint:
    """A net of `cases.py` with the classes that it gives, so that its margins are positive."""
    case = CASES[name]
    inputs, _ = case.data
    targets = case.module.eval()(inputs).argmax(1)
    risk = gt.EmpiricalRisk(case.module, "cross_entropy", (inputs, targets), batch_size=4)
    start = None if initial is None else torch.full_like(risk.theta, initial)
    return Checkpoint(risk, start)


def matrices(name: str = "mlp") -> list[np.ndarray]:
    return [p.detach().numpy() for p in CASES[name].module.parameters() if p.dim() == 2]


def margin(name: str = "mlp") -> float:
    inputs, _ = CASES[name].data
    best = CASES[name].module.eval()(inputs).detach().sort(1).values
    return float(np.quantile((best[:, -1] - best[:, -2]).numpy(), 0.1))


def test_products_of_norms_by_singular_values():
    logs = {
        "spectral": [2 * math.log(np.linalg.svd(w, compute_uv=False)[0]) for w in matrices()],
        "frobenius": [2 * math.log(np.linalg.norm(w)) for w in matrices()],
    }
    for name, terms in logs.items():
        measure = getattr(norms, name)
        plain = measure(held(), generator=generator(0))
        over = measure(held(), over_margin=True, generator=generator(0))
        assert plain.stats["log_squares"] == pytest.approx(terms)
        assert plain.value == pytest.approx(sum(terms))
        assert plain.stderr == 0
        assert over.value == pytest.approx(sum(terms) - 2 * math.log(margin()))
        assert over.stderr == pytest.approx(2 * over.stats["margin_stderr"] / margin())
        for estimate in (plain, over):
            expected = math.log(3) + estimate.value / 3
            assert estimate.stats["log_sum"] == pytest.approx(expected)
            reported = (estimate.value - math.log(12)) / 2
            assert estimate.stats["as_reported"] == pytest.approx(reported)


def test_sums_of_norms_by_singular_values():
    spectral = [np.linalg.norm(w, 2) ** 2 for w in matrices()]
    expected = {
        "frobenius_sum": sum(np.linalg.norm(w) ** 2 for w in matrices()),
        "frobenius_distance": sum(np.linalg.norm(w - 0.1) ** 2 for w in matrices()),
        "spectral_distance": sum(np.linalg.norm(w - 0.1, 2) ** 2 for w in matrices()),
        "stable_rank": sum(
            np.linalg.norm(w) ** 2 / s for w, s in zip(matrices(), spectral, strict=True)
        ),
    }
    for name, value in expected.items():
        estimate = getattr(norms, name)(held(), generator=generator(0))
        assert estimate.value == pytest.approx(value)
        assert estimate.stats["as_reported"] == pytest.approx(math.sqrt(value / 12))


@pytest.mark.parametrize("reference", ["origin", "initial"])
def test_spectral_complexity_by_singular_values(reference: str):
    start = 0.1 if reference == "initial" else 0.0
    squares = [np.linalg.norm(w, 2) ** 2 for w in matrices()]
    ways = [np.linalg.norm(w - start) ** 2 for w in matrices()]
    expected = math.log(math.prod(squares)) + math.log(
        sum(way / square for way, square in zip(ways, squares, strict=True))
    )
    plain, over = (
        norms.spectral_complexity(
            held(), reference=reference, over_margin=o, generator=generator(0)
        )
        for o in (False, True)
    )
    assert plain.value == pytest.approx(expected)
    assert over.value == pytest.approx(expected - 2 * math.log(margin()))


def test_product_of_spectral_norms_bounds_that_of_a_linear_net():
    estimate = norms.spectral(Checkpoint(CASES["linear net"].risk()), generator=generator(0))
    product = np.linalg.multi_dot(matrices("linear net")[::-1])
    assert math.exp(estimate.value / 2) >= np.linalg.norm(product, 2)


def test_orthogonal_layers_have_norm_one():
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    net.double()
    for layer, size in ((net[0], 1.0), (net[2], 3.0)):
        with torch.no_grad():
            stream = torch.Generator().manual_seed(0)
            matrix = torch.randn(6, 6, generator=stream, dtype=torch.float64)
            layer.weight.copy_(size * torch.linalg.qr(matrix).Q)
    risk = gt.EmpiricalRisk(net, "mse", (torch.zeros(2, 6), torch.zeros(2, 6)))
    estimate = norms.spectral(Checkpoint(risk), generator=generator(0))
    assert estimate.value == pytest.approx(2 * math.log(3), abs=1e-12)
    rank = norms.stable_rank(Checkpoint(risk), generator=generator(0))
    assert rank.value == pytest.approx(12, rel=1e-12)


def test_path_norm_by_walking_every_path():
    (first, b1), (second, b2), (third, b3) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in CASES["mlp"].module
        if isinstance(layer, nn.Linear)
    )
    total = float((b3**2).sum())
    for out in range(3):
        for hidden in range(5):
            total += third[out, hidden] ** 2 * b2[hidden] ** 2
            for unit in range(7):
                there = third[out, hidden] ** 2 * second[hidden, unit] ** 2
                total += there * b1[unit] ** 2
                total += sum(there * first[unit, i] ** 2 for i in range(5))
    estimate = norms.path(held(), generator=generator(0))
    assert estimate.value == pytest.approx(total)
    assert not estimate.warnings
    over = norms.path(held(), over_margin=True, generator=generator(0))
    assert over.value == pytest.approx(total / margin() ** 2)
    assert over.stderr == pytest.approx(
        2 * over.value * over.stats["margin_stderr"] / over.stats["margin"]
    )


def test_path_norm_of_a_relu_net_does_not_change_with_balance():
    net = CASES["mlp"].module
    values: list[float] = []
    for factor in (1.0, 7.0):
        with torch.no_grad():
            net[0].weight.mul_(factor)
            net[0].bias.mul_(factor)
            net[2].weight.div_(factor)
        risk = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)
        values.append(norms.path(Checkpoint(risk), generator=generator(0)).value)
    assert values[0] == pytest.approx(values[1])


def test_path_norm_folds_batch_norm():
    risk = CASES["batch norm"].risk()
    module = CASES["batch norm"].module.eval()
    for layer, norm in ((module[0], module[1]), (module[4], module[5])):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shape = (-1, *[1] * (layer.weight.dim() - 1))
        with torch.no_grad():
            layer.bias.copy_((layer.bias - norm.running_mean) * scale + norm.bias)
            layer.weight.mul_(scale.reshape(shape))
    module[1], module[5] = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.square_()
        expected = module(torch.ones(1, 1, 4, 4, dtype=torch.float64)).sum().item()
    assert norms.path(Checkpoint(risk), generator=generator(0)).value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["grouped conv", "layer norm", "own attention", "gelu residual"])
def test_path_norm_warns_where_it_is_no_sum_over_paths(name: str):
    estimate = norms.path(Checkpoint(CASES[name].risk()), generator=generator(0))
    assert estimate.warnings == ("not linear in positive inputs: no sum over paths",)


def test_what_a_norm_lacks_is_said():
    with pytest.raises(gt.InputError, match=r"norms\.path: found inputs of torch.int64"):
        norms.path(Checkpoint(CASES["embedding"].risk()), generator=generator(0))
    with pytest.raises(gt.InputError, match=r"norms\.spectral: found a 10th percentile"):
        norms.spectral(Checkpoint(CASES["mlp"].risk()), over_margin=True, generator=generator(0))
    for measure in (norms.frobenius_distance, norms.spectral_distance):
        with pytest.raises(gt.InputError, match="found no initial parameters"):
            measure(held(initial=None), generator=generator(0))
    still = Checkpoint(CASES["mlp"].risk(), CASES["mlp"].risk().theta)
    with pytest.raises(gt.InputError, match="never left their initialization"):
        norms.spectral_complexity(still, reference="initial", generator=generator(0))
    assert norms.spectral_distance(still, generator=generator(0)).value == 0
