"""PAC-Bayes measures against their formulas, σ against that of a linear net."""

import math

import pytest
import torch
from cases import CASES
from torch import nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import pac_bayes
from gentheory.seeds import generator


def fitted(name: str = "mlp", initial: float | None = None) -> Checkpoint:
    """A net of `cases.py` on 60 examples, with the classes that it gives."""
    case, stream = CASES[name], torch.Generator().manual_seed(3)
    inputs = torch.randn(60, *case.shape, generator=stream, dtype=torch.float64)
    targets = case.module.eval()(inputs).argmax(1)
    risk = gt.EmpiricalRisk(case.module, "cross_entropy", (inputs, targets), batch_size=16)
    start = None if initial is None else torch.full_like(risk.theta, initial)
    return Checkpoint(risk, start)


def trained() -> Checkpoint:
    """The net after a hundred steps of Adam on two thresholds, all of which it gets right."""
    case, stream = CASES["mlp"], torch.Generator().manual_seed(3)
    module, inputs = case.module, torch.randn(60, 5, generator=stream, dtype=torch.float64)
    targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0.7).long()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    return Checkpoint(gt.EmpiricalRisk(module, "cross_entropy", (inputs, targets)))


def test_inverse_variance_is_that_of_sigma():
    for aware in (False, True):
        options = {"num_draws": 16, "magnitude_aware": aware}
        sigma = pac_bayes.sigma(fitted(), **options, generator=generator(0))
        inverse = pac_bayes.inverse_variance(fitted(), **options, generator=generator(0))
        assert inverse.value == pytest.approx(sigma.value**-2)
        assert inverse.stderr == pytest.approx(2 * sigma.stderr / sigma.value**3)
        assert inverse.stats["as_reported"] == pytest.approx(math.sqrt(inverse.value / 60))
        low, high = sigma.stats["bracket"]
        assert low <= sigma.value <= high


@pytest.mark.parametrize("reference", ["origin", "initial"])
def test_the_bound_by_hand(reference: str):
    held = fitted(initial=0.1)
    estimate = pac_bayes.bound(held, reference=reference, num_draws=16, generator=generator(0))
    sigma, error = estimate.stats["sigma"], estimate.stats["sigma_stderr"]
    way = held.risk.theta - (0.1 if reference == "initial" else 0)

    def formula(s: float) -> float:
        return float(way.square().sum()) / (4 * s**2) + math.log(60 / s) + 10

    assert estimate.value == pytest.approx(formula(sigma))
    slope = (formula(sigma + 1e-6) - formula(sigma - 1e-6)) / 2e-6
    assert estimate.stderr == pytest.approx(abs(slope) * error, rel=1e-5)


@pytest.mark.parametrize("reference", ["origin", "initial"])
def test_the_magnitude_aware_bound_by_hand(reference: str):
    held = fitted(initial=0.1)
    options = {"reference": reference, "num_draws": 16, "magnitude_aware": True}
    estimate = pac_bayes.bound(held, **options, generator=generator(0))
    sigma, error = estimate.stats["sigma"], estimate.stats["sigma_stderr"]
    way = (held.risk.theta - (0.1 if reference == "initial" else 0)).tolist()
    mean = sum(w**2 for w in way) / len(way)

    def formula(s: float) -> float:
        terms = (math.log((1e-6 + (s**2 + 1) * mean) / (1e-6 + s**2 * w**2)) for w in way)
        return sum(terms) / 4 + math.log(60 / s) + 10

    assert estimate.value == pytest.approx(formula(sigma))
    slope = (formula(sigma + 1e-6) - formula(sigma - 1e-6)) / 2e-6
    assert estimate.stderr == pytest.approx(abs(slope) * error, rel=1e-5)


def test_magnitude_aware_noise_is_that_of_its_variance():
    # One parameter: noise √(σ'² w² + ε²) costs as much as plain noise of that standard deviation.
    net = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0], [-2.0]]))
    inputs = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    held = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (inputs, (inputs[:, 0] < 0).long())))
    plain, aware = (
        pac_bayes.sigma(held, num_draws=400, magnitude_aware=a, generator=generator(0))
        for a in (False, True)
    )
    expected = math.sqrt(aware.value**2 * 4 + 1e-6)
    assert plain.value == pytest.approx(expected, abs=0.5 * plain.stderr)


def test_worst_case_radius_of_a_linear_net_is_known():
    # z = w x: the outputs' difference falls by 2 α |x| at most, whatever the size of x.
    net = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.5], [-0.5]]))
    inputs = torch.linspace(0.1, 1, 40, dtype=torch.float64)[:, None]
    held = Checkpoint(gt.EmpiricalRisk(net, "cross_entropy", (inputs, torch.zeros(40).long())))
    estimate = pac_bayes.worst_case(held, rtol=1e-3, generator=generator(0))
    assert estimate.value == pytest.approx(0.5**-2, abs=2 * estimate.stderr)
    assert estimate.stats["bracket"][0] < 0.5 < estimate.stats["bracket"][1]


def test_the_worst_noise_is_smaller_than_the_mean_one():
    held = trained()
    worst = pac_bayes.worst_case(held, generator=generator(0))
    mean = pac_bayes.sigma(held, num_draws=16, generator=generator(0))
    assert worst.stats["alpha"] < mean.value
    aware = pac_bayes.worst_case(held, magnitude_aware=True, generator=generator(0))
    assert aware.stats["alpha"] > 0
    assert aware.value != worst.value


def test_scaling_a_layer_before_batch_norm_changes_nothing():
    module = CASES["batch norm"].module.eval()
    inputs = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    targets = module(inputs).argmax(1)
    values: list[float] = []
    for scale in (1.0, 4.0):
        with torch.no_grad():
            module[0].weight.mul_(scale)
            module[0].bias.mul_(scale)
            module[1].running_mean.mul_(scale)
            module[1].running_var.add_(module[1].eps).mul_(scale**2).sub_(module[1].eps)
        held = Checkpoint(gt.EmpiricalRisk(module, "cross_entropy", (inputs, targets)))
        values += [
            pac_bayes.sigma(held, num_draws=8, generator=generator(0)).value,
            pac_bayes.worst_case(held, generator=generator(0)).value,
        ]
    assert values[:2] == pytest.approx(values[2:])


def test_what_is_missing_is_refused():
    with pytest.raises(gt.InputError, match=r"pac_bayes\.bound: found no initial parameters"):
        pac_bayes.bound(fitted(), reference="initial", generator=generator(0))
    with pytest.raises(gt.InputError, match=r"pac_bayes\.sigma\.num_draws: found 1"):
        pac_bayes.sigma(fitted(), num_draws=1, generator=generator(0))
    with pytest.raises(gt.InputError, match=r"pac_bayes\.worst_case: found an accuracy of 0"):
        pac_bayes.worst_case(Checkpoint(CASES["mlp"].risk()), generator=generator(0))
    with pytest.raises(gt.InputError, match=r"pac_bayes\.worst_case: found targets"):
        pac_bayes.worst_case(Checkpoint(CASES["linear net"].risk()), generator=generator(0))
