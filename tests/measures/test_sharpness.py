"""Sharpness against closed forms, dense matrices and finite perturbations."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, Case, operator_of, regression, truth
from oracle import trust_region
from scipy import stats
from torch import Tensor, nn

import gentheory as gt
from gentheory import parameter_sets
from gentheory.ascent import loss_and_slope
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.factors.neurons import neuron_trace
from gentheory.measures import sharpness
from gentheory.seeds import generator

pytestmark = pytest.mark.usefixtures("untraced")


def found(name: str, risk: gt.EmpiricalRisk, *, seed: int = 0, **options: Any) -> Estimate:
    return getattr(sharpness, name)(Checkpoint(risk), generator=generator(seed), **options)


def data_part(case: Case) -> tuple[Tensor, Tensor]:
    """Mean gradient and Hessian without weight decay."""
    dense = truth(case.name)
    slope = dense.mean_gradient - case.weight_decay * dense.theta
    return slope, dense.hessian - case.weight_decay * torch.eye(len(slope), dtype=slope.dtype)


def fitted() -> gt.EmpiricalRisk:
    """A linear regression at its minimum."""
    risk = regression()
    x, y = next(iter(gt.EmpiricalRisk(risk.module, "mse", _data(risk)).batches()))
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    solved = torch.linalg.lstsq(ones, y).solution
    theta = torch.cat([solved[:-1].T.flatten(), solved[-1]])
    return gt.EmpiricalRisk(risk.module, "mse", (x, y), theta=theta)


def _data(risk: gt.EmpiricalRisk) -> tuple[Tensor, Tensor]:
    x, y = zip(*risk.batches(), strict=True)
    return torch.cat(x), torch.cat(y)


def relu_net(*, bias: bool = False, depth: int = 3) -> nn.Sequential:
    """Homogeneous in its weights: its degree is `depth`."""
    widths = [5, *[6] * (depth - 1), 3]
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(depth)
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
        return nn.Sequential(*layers[:-1]).double()


def risk_of(net: nn.Module, **options: Any) -> gt.EmpiricalRisk:
    return gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data, **options)


def rescaled(net: nn.Sequential) -> nn.Sequential:
    """The same function: the first layer times 3, the second a third."""
    with torch.no_grad():
        net[0].weight *= 3
        net[2].weight /= 3
        if net[0].bias is not None:
            net[0].bias *= 3
    return net


def test_the_first_order_is_the_gradient_s_norm(case: Case):
    slope, _ = data_part(case)
    risk = case.risk()
    sam = found("sam", risk, rho=0.2)
    assert sam.value == pytest.approx(0.2 * slope.norm().item(), rel=1e-10)
    assert sam.stderr == 0
    scale = torch.ones_like(slope)
    for name, where in risk.layout.slices.items():
        if "weight" in name:
            scale[where] = risk.theta[where].abs() + 0.1
    adaptive = found("adaptive", risk, rho=0.3, eta=0.1)
    assert adaptive.value == pytest.approx(0.3 * (scale * slope).norm().item(), rel=1e-10)
    everywhere = found("adaptive", risk, rho=0.3, eta=0.1, biases=True, seed=1)
    if {name.rpartition(".")[2] for name in risk.layout.names} == {"weight", "bias"}:
        wanted = 0.3 * ((risk.theta.abs() + 0.1) * slope).norm().item()
        assert everywhere.value == pytest.approx(wanted, rel=1e-10)
    box = found("keskar", risk, epsilon=0.01, ascent_steps=0)
    rise = 0.01 * ((risk.theta.abs() + 1) * slope.abs()).sum().item()
    loss = truth(case.name).losses.mean().item()
    assert box.value == pytest.approx(100 * rise / (1 + loss), rel=1e-10)


def test_sam_by_ascent_is_the_trust_region_s():
    risk = regression()
    slope, hessian = loss_and_slope(risk)[1], gt.hessian(risk).dense()
    sam = found("sam", risk, rho=0.7, ascent_steps=200, restarts=3)
    assert sam.value == pytest.approx(trust_region(hessian, slope, 0.7), rel=1e-10)
    assert sam.stderr < 1e-6 * sam.value
    assert len(sam.stats["values"]) == 3
    scale = torch.cat([risk.theta[:6].abs() + 0.01, torch.ones(2, dtype=torch.float64)])
    wanted = trust_region(hessian * scale[:, None] * scale, slope * scale, 0.5)
    adaptive = found("adaptive", risk, ascent_steps=200)
    assert adaptive.value == pytest.approx(wanted, rel=1e-10)


def test_the_stderr_of_an_ascent_is_what_is_left_to_gain():
    values = [found("sam", regression(), rho=0.7, ascent_steps=n) for n in (2, 8, 200)]
    assert values[0].value < values[1].value < values[2].value
    assert values[0].stderr > values[1].stderr > values[2].stderr
    for early in values[:2]:
        assert values[2].value - early.value == pytest.approx(early.stderr, rel=0.5)


def test_at_a_minimum_sharpness_is_half_the_largest_eigenvalue():
    risk, rho = fitted(), 0.05
    top = float(torch.linalg.eigvalsh(gt.hessian(risk).dense())[-1])
    sam = found("sam", risk, rho=rho, ascent_steps=300)
    assert sam.value == pytest.approx(rho**2 * top / 2, rel=1e-9)
    assert sam.stats["first_order"] < 1e-12


@pytest.mark.parametrize("bias", [False, True])
def test_trap_2_adaptive_sharpness_is_invariant_to_rescaled_layers(bias: bool):
    """With η = 0, and biases that are scaled where they are rescaled; SAM's is another."""
    one, other = (risk_of(net) for net in (relu_net(bias=bias), rescaled(relu_net(bias=bias))))
    assert other.value() == pytest.approx(one.value().item(), rel=1e-12)
    for steps in (0, 30):
        options = {"eta": 0.0, "biases": bias, "ascent_steps": steps}
        pair = [found("adaptive", risk, **options).value for risk in (one, other)]
        assert pair[0] == pytest.approx(pair[1], rel=1e-9)
        plain = [found("sam", risk, rho=0.5, ascent_steps=steps).value for risk in (one, other)]
        assert abs(plain[0] / plain[1] - 1) > 0.1


def test_trap_23_eta_and_the_biases_break_the_invariance():
    for options in ({"eta": 0.1, "biases": True}, {"eta": 0.0}):
        nets = relu_net(bias=True), rescaled(relu_net(bias=True))
        pair = [found("adaptive", risk_of(net), **options).value for net in nets]
        assert abs(pair[0] / pair[1] - 1) > 0.01, options


def test_the_average_rise_of_a_quadratic_is_half_its_trace():
    risk = regression()
    trace = gt.hessian(risk).dense().trace().item()
    expected = 0.5**2 * trace / 2
    drawn = [found("average", risk, sigma=0.5, num_pairs=40, seed=s) for s in range(200)]
    scores = np.array([(e.value - expected) / e.stderr for e in drawn])
    assert stats.kstest(scores, stats.t(39).cdf).pvalue > 0.01
    values = np.array([e.value for e in drawn])
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(len(values))


def test_antithetic_pairs_do_not_see_the_slope():
    slope, hessian = data_part(CASES["mlp"])
    rise = found("average", CASES["mlp"].risk(), sigma=1e-5, num_pairs=200)
    assert rise.stderr < 1e-2 * 1e-5 * slope.norm() / 200**0.5
    assert abs(rise.value - 1e-10 * hessian.trace().item() / 2) < 4 * rise.stderr


def by_groups(risk: gt.EmpiricalRisk, size: int, rho: float) -> list[float]:
    """Of every group of this many examples."""
    rows = torch.stack(
        [risk.on(x[None], y[None]).gradient() for x, y in zip(*_data(risk), strict=True)]
    )
    groups = torch.tensor(list(itertools.combinations(range(len(rows)), size)))
    return (rho * rows[groups].mean(1).norm(dim=1)).tolist()


def test_trap_22_m_sharpness_is_the_mean_over_groups_of_m():
    risk = CASES["mlp"].risk(batch_size=5)
    for size in (1, 12, 128):
        wanted = np.mean(by_groups(risk, min(size, 12), 0.05))
        grouped = found("m_sharpness", risk, group_size=size)
        assert grouped.value == pytest.approx(wanted, rel=1e-10)
        assert (grouped.stderr, grouped.stats["group_size"]) == (0, min(size, 12))
    sizes = [found("m_sharpness", risk, group_size=m, num_partitions=20).value for m in (1, 3, 12)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert found("sam", risk).value == pytest.approx(sizes[2], rel=1e-10)


def test_m_sharpness_has_calibrated_errors(monkeypatch: pytest.MonkeyPatch):
    """A partition of 12 into groups of 5 leaves two out, at random."""
    risk = CASES["mlp"].risk(batch_size=12)
    x, rows = CASES["mlp"].data[0][:, 0], truth("mlp").gradients

    def of_group(part: gt.EmpiricalRisk, *_: Any) -> Estimate:
        own = torch.isin(x, next(part.batches())[0][:, 0])
        assert own.sum() == 5
        return Estimate(0.05 * rows[own].mean(0).norm().item())

    expected = np.mean(by_groups(risk, 5, 0.05))
    monkeypatch.setattr(sharpness, "highest", of_group)  # 200 seeds of gradients take long
    options = {"group_size": 5, "num_partitions": 30}
    drawn = [found("m_sharpness", risk, seed=s, **options) for s in range(200)]
    scores = np.array([(e.value - expected) / e.stderr for e in drawn])
    assert stats.kstest(scores, stats.t(29).cdf).pvalue > 0.01
    values = np.array([e.value for e in drawn])
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(len(values))


def test_m_sharpness_by_ascent_and_its_batches():
    one, many = (CASES["mlp"].risk(batch_size=b) for b in (2, 12))
    options = {"group_size": 4, "ascent_steps": 5, "num_partitions": 2}
    values = [found("m_sharpness", risk, **options).value for risk in (one, many)]
    assert values[0] == pytest.approx(values[1], rel=1e-10)
    assert values[0] != found("m_sharpness", one, group_size=4, num_partitions=2).value


def test_first_over_zeroth_order_is_two_at_a_minimum_and_one_on_a_slope():
    risk, rho = fitted(), 0.05
    top = float(torch.linalg.eigvalsh(gt.hessian(risk).dense())[-1])
    flat = found("first_order_flatness", risk, rho=rho, ascent_steps=200)
    assert flat.value == pytest.approx(rho**2 * top, rel=1e-9)
    assert flat.stats["zeroth_order"] == pytest.approx(rho**2 * top / 2, rel=1e-9)
    assert flat.stats["ratio"] == pytest.approx(2, rel=1e-9)
    steep = found("first_order_flatness", regression(), rho=1e-6)
    assert steep.stats["ratio"] == pytest.approx(1, abs=1e-4)


def test_first_order_flatness_where_a_net_fits_its_data():
    """A minimum of a net, not of a quadratic: no gradient, so every start is random."""
    net, (x, _) = relu_net(bias=True), CASES["mlp"].data
    risk = gt.EmpiricalRisk(net, "mse", (x, net(x).detach()))
    top = float(torch.linalg.eigvalsh(gt.hessian(risk).dense())[-1])
    rho = 1e-5
    flat = found("first_order_flatness", risk, rho=rho, ascent_steps=60, restarts=2)
    assert flat.stats["gradient_norm"] == 0
    assert flat.value == pytest.approx(rho**2 * top, rel=1e-3)
    assert flat.stats["ratio"] == pytest.approx(2, rel=1e-3)
    far = found("first_order_flatness", risk, rho=3.0, ascent_steps=60, restarts=2)
    assert abs(far.stats["ratio"] - 2) > 0.1


def test_fisher_rao_is_the_covariance_s_form(case: Case):
    dense = truth(case.name)
    rows = dense.gradients - case.weight_decay * dense.theta
    wanted = (rows @ dense.theta).square().mean().item()
    assert found("fisher_rao", case.risk()).value == pytest.approx(wanted, rel=1e-9)
    if case.likelihood is not None:
        eye = torch.eye(len(dense.theta), dtype=torch.float64)
        fisher = dense.fisher - case.weight_decay * eye
        wanted = (dense.theta @ fisher @ dense.theta).item()
        of_model = found("fisher_rao", case.risk(), labels="model")
        assert of_model.value == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("labels", ["data", "model"])
def test_fisher_rao_of_a_homogeneous_net_is_in_its_outputs(labels: str):
    """Liang et al., theorem 3.1: degree² times the mean of ⟨∂loss/∂f, f⟩²."""
    for depth in (2, 3):
        norm = found("fisher_rao", risk_of(relu_net(depth=depth)), labels=labels)
        assert norm.stats["degree"] == pytest.approx(depth, rel=1e-10)
        assert norm.value == pytest.approx(depth**2 * norm.stats["outputs"], rel=1e-10)


def weights_of(risk: gt.EmpiricalRisk) -> list[str]:
    return [n for n, s in zip(risk.layout.names, risk.layout.shapes, strict=True) if len(s) > 1]


def flatness(case: Case, name: str) -> float:
    """By the definition, from the dense Hessian."""
    risk = case.risk()
    where = risk.layout.slices[name]
    weight = risk.layout.unflatten(risk.theta)[name].flatten(1)
    blocks = data_part(case)[1][where, where].reshape(*weight.shape, *weight.shape)
    return sum(
        float(weight[s] @ weight[t] * blocks[s, :, t].trace())
        for s in range(len(weight))
        for t in range(len(weight))
    )


def test_relative_flatness_is_the_sum_over_pairs_of_neurons(case: Case):
    risk = case.risk()
    for name in weights_of(risk):
        flat = found("relative_flatness", risk, layer=name)
        spread = 5 * flat.stderr + 1e-8 * abs(flat.stats["ggn_part"]) + 1e-14
        assert abs(flat.value - flatness(case, name)) < spread, name
        if case.piecewise:
            assert flat.stderr == 0
    default = found("relative_flatness", risk)
    assert default.stats["layer"] == weights_of(risk)[-1]


def test_relative_flatness_is_calibrated(monkeypatch: pytest.MonkeyPatch):
    dense, name = truth("twice"), "shared.weight"
    expected, risk = flatness(CASES["twice"], name), CASES["twice"].risk()
    exact, rest = neuron_trace(risk, name), operator_of(dense.hessian - dense.ggn)
    monkeypatch.setattr(sharpness, "neuron_trace", lambda *_: exact)  # matrices, not products
    monkeypatch.setattr(sharpness, "residual_curvature", lambda _: rest)
    drawn = [found("relative_flatness", risk, layer=name, seed=s) for s in range(200)]
    scores = [(e.value - expected) / e.stderr for e in drawn]
    assert stats.kstest(scores, stats.t(15).cdf).pvalue > 0.01
    values = np.array([e.value for e in drawn])
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(len(values))


def test_relative_flatness_is_invariant_to_rescaled_layers():
    nets = relu_net(bias=True), rescaled(relu_net(bias=True))
    for layer in ("0.weight", "2.weight", "4.weight"):
        pair = [found("relative_flatness", risk_of(net), layer=layer).value for net in nets]
        assert pair[0] == pytest.approx(pair[1], rel=1e-10)


def test_prediction_variance_is_the_jacobian_s_norm(case: Case):
    risk, dense = case.risk(), truth(case.name)
    found_ = found("prediction_variance", risk, num_draws=4)
    sigma = 1e-3 * (dense.theta.norm() / len(dense.theta) ** 0.5).item()
    wanted = sigma**2 * dense.jacobians.square().sum((1, 2)).mean().item()
    assert found_.stats["sigma"] == pytest.approx(sigma, rel=1e-12)
    assert found_.value == pytest.approx(wanted, rel=1e-10)


def test_prediction_variance_is_what_perturbations_do(monkeypatch: pytest.MonkeyPatch):
    risk = risk_of(relu_net(bias=True))
    small = found("prediction_variance", risk, num_draws=400)
    assert abs(small.stats["finite"] - small.value) < 4 * small.stats["finite_stderr"]
    large = found("prediction_variance", risk, relative_sigma=3.0, num_draws=400)
    assert abs(large.stats["ratio"] - 1) > 0.2
    monkeypatch.setattr(parameter_sets, "_NUMBERS", risk.num_params)  # a vector at a time
    again = found("prediction_variance", risk, num_draws=400)
    assert again.stats["finite"] == pytest.approx(small.stats["finite"], rel=1e-10)


def test_prediction_variance_needs_no_labels():
    x, y = CASES["mlp"].data
    risks = (gt.EmpiricalRisk(relu_net(), "cross_entropy", (x, t)) for t in (y, (y + 1) % 3))
    one, other = (found("prediction_variance", risk) for risk in risks)
    assert one == other


@pytest.mark.parametrize("width", [2, 16, 128])
def test_prediction_variance_of_training_and_of_test_data_lie_on_a_line(width: int):
    """TPV's claim: y = x, whatever the width."""
    stream = generator("prediction variance", width)
    x = torch.randn(600, 6, generator=stream, dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] > 0).long()
    net = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2)).double()
    theta = torch.randn(9 * width + 2, generator=stream, dtype=torch.float64) / width**0.5
    train = gt.EmpiricalRisk(net, "cross_entropy", (x[:300], y[:300]), theta=theta)
    for _ in range(150):
        train.theta -= 0.1 * train.gradient()
    test = train.on(x[300:], y[300:])
    pair = [found("prediction_variance", risk).value for risk in (train, test)]
    assert pair[0] == pytest.approx(pair[1], rel=0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sam", {"rho": 0.0}, r"sharpness.sam.rho: found 0.0, expected a number above 0"),
        ("sam", {"restarts": 2}, "ascent_steps: found 0, expected 1 or more to ascend"),
        ("sam", {"ascent_steps": -1}, "ascent_steps: found -1, expected 1 or more to ascend"),
        ("adaptive", {"eta": -1.0}, "sharpness.adaptive.eta: found -1.0, expected 0 or more"),
        ("average", {"num_pairs": 1}, "average.num_pairs: found 1, expected at least 2"),
        ("average", {"sigma": math.inf}, "average.sigma: found inf, expected a number above 0"),
        ("m_sharpness", {"group_size": 0}, "m_sharpness.group_size: found 0, expected at least 1"),
        ("m_sharpness", {"num_partitions": 1}, "num_partitions: found 1, expected at least 2"),
        ("first_order_flatness", {"ascent_steps": 0}, "ascent_steps: found 0, expected at least 1"),
        ("keskar", {"epsilon": -1.0}, "keskar.epsilon: found -1.0, expected a number above 0"),
        ("fisher_rao", {"labels": "none"}, "labels: found 'none', expected 'data' or 'model'"),
        ("relative_flatness", {"layer": "0.bias"}, "layer: found '0.bias', expected one of 0.wei"),
        ("relative_flatness", {"num_probes": 1}, "num_probes: found 1, expected at least 2"),
        ("prediction_variance", {"num_draws": 1}, "num_draws: found 1, expected at least 2"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str):
    with pytest.raises(gt.InputError, match=message):
        found(name, CASES["mlp"].risk(), **options)


def test_what_a_net_or_a_loss_cannot_give():
    net = CASES["mlp"].module.requires_grad_(False)
    net[2].bias.requires_grad_(True)
    with pytest.raises(gt.InputError, match="found no weight with two axes"):
        found("relative_flatness", risk_of(net))
    with pytest.raises(gt.InputError, match="a callable without a likelihood"):
        found("fisher_rao", CASES["twice"].risk(), labels="model")
    data = CASES["mlp"].data
    negative = gt.EmpiricalRisk(CASES["mlp"].module, lambda f, y: f.square().sum(1) - 1e3, data)
    with pytest.raises(gt.InputError, match="expected more than -1; use"):
        found("keskar", negative)


def test_trap_1_batch_norm_stays_in_eval_mode():
    risk = CASES["batch norm"].risk()
    before = {name: t.clone() for name, t in risk.module.state_dict().items()}
    for name in ("sam", "keskar", "average"):
        assert math.isfinite(found(name, risk).value)
    for name, tensor in risk.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
