"""Duals by quadrature, Cho & Saul's closed forms, and finite nets that approach the limit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

import gentheory as gt
from gentheory import models
from gentheory.factors.gram import trace_gram
from gentheory.infinite_width import Activation, erf, hermite, kernels, relu
from gentheory.seeds import generator

H = 2**-0.5
SMOOTH_POLYNOMIAL = hermite([0.0, H, 0.5, 0.5])
Scalar = Callable[[float], float]
# h2 = (x² − 1) / √2 and h3 = (x³ − 3 x) / √6
SCALARS: dict[str, tuple[Activation, Scalar, Scalar]] = {
    "relu": (relu, lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "erf": (erf, math.erf, lambda x: 2 / math.sqrt(math.pi) * math.exp(-(x**2))),
    "hermite": (
        SMOOTH_POLYNOMIAL,
        lambda x: H * x + 0.5 * H * (x**2 - 1) + 0.5 * (x**3 - 3 * x) / math.sqrt(6),
        lambda x: H + H * x + 0.5 * (3 * x**2 - 3) / math.sqrt(6),
    ),
}


def expected(f: Scalar, p: float, q: float, k: float) -> float:
    """E f(u) f(v), v given u by its conditional law; each integral cut where relu bends."""
    spread = math.sqrt(q - k**2 / p)

    def density(z: float) -> float:
        return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    def inner(z: float) -> float:
        mean = k / math.sqrt(p) * z
        bend = min(max(-mean / spread, -8.9), 8.9)
        spans = ((-9.0, bend), (bend, 9.0))
        value = sum(
            integrate.quad(lambda w: f(mean + spread * w) * density(w), *span, epsrel=1e-9)[0]
            for span in spans
        )
        return f(math.sqrt(p) * z) * value * density(z)

    return sum(integrate.quad(inner, *span, epsrel=1e-9)[0] for span in ((-9, 0), (0, 9)))


@pytest.mark.parametrize("name", SCALARS)
def test_functions(name: str):
    activation, function, _ = SCALARS[name]
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    wanted = [function(v) for v in x.tolist()]
    assert activation.function(x).tolist() == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize(("p", "q", "k"), [(1.0, 1.0, 0.4), (0.5, 2.0, -0.6)])
@pytest.mark.parametrize("name", SCALARS)
def test_duals_by_quadrature(name: str, p: float, q: float, k: float):
    activation, function, slope = SCALARS[name]
    found = activation.dual(*(torch.tensor(v, dtype=torch.float64) for v in (p, q, k)))
    wanted = expected(function, p, q, k), expected(slope, p, q, k)
    assert [float(v) for v in found] == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_normalized_hermite_polynomials_have_power_series_for_duals():
    c = torch.linspace(-1, 1, 9, dtype=torch.float64)
    one = torch.ones(())
    mean, slope = hermite([0.1, 0.2, 0.3, 0.4]).dual(one.double(), one.double(), c)
    torch.testing.assert_close(mean, 0.01 + 0.04 * c + 0.09 * c**2 + 0.16 * c**3)
    torch.testing.assert_close(slope, 0.04 + 0.18 * c + 0.48 * c**2)


def inputs(count: int = 5, features: int = 6) -> Tensor:
    x = torch.randn(count, features, generator=generator("x"), dtype=torch.float64)
    return x * math.sqrt(features) / x.norm(dim=1, keepdim=True)


def test_arc_cosine_kernels():
    """Cho & Saul 2009: k_n(x, y) = |x|ⁿ |y|ⁿ J_n(θ) / π, for weights of variance 2."""
    x = inputs() * torch.linspace(0.5, 2, 5, dtype=torch.float64)[:, None]
    rows = x.numpy() / math.sqrt(x.shape[1])  # so that the first layer's covariance is x·y
    inner, norms = rows @ rows.T, np.linalg.norm(rows, axis=1)
    scale = np.outer(norms, norms)
    cosines = np.clip(inner / scale, -1, 1)
    angle = np.where(np.eye(5, dtype=bool), 0.0, np.arccos(cosines))
    j1 = np.sin(angle) + (np.pi - angle) * np.cos(angle)
    found = kernels(x, depth=2, activation=relu, weight_variance=2.0)
    np.testing.assert_allclose(found.nngp, 2 * scale * j1 / np.pi, rtol=1e-12)
    ntk = 2 * scale * j1 / np.pi + 2 * inner * (np.pi - angle) / np.pi
    np.testing.assert_allclose(found.ntk, ntk, rtol=1e-12)


def test_between_data_sets_and_zero_inputs():
    x = torch.cat([inputs(), torch.zeros(1, 6).double()])
    for activation in (relu, erf, SMOOTH_POLYNOMIAL):
        options = {"depth": 3, "activation": activation}
        whole = kernels(x, **options)
        part = kernels(x[:2], x[2:], **options)
        torch.testing.assert_close(part.ntk, whole.ntk[:2, 2:])
        torch.testing.assert_close(part.nngp, whole.nngp[:2, 2:])
        assert bool(whole.ntk.isfinite().all())
        assert torch.linalg.eigvalsh(whole.ntk)[0] > -1e-12 * whole.ntk.max()  # trap 33


class Elementwise(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def finite(activation: Activation, width: int, seed: int, depth: int = 2) -> nn.Module:
    """A net of the package's NTK parametrization, with the activation put in."""
    options = {"parametrization": "ntk", "width": width, "depth": depth, "activation": "relu"}
    net = models.build("mlp", shape=(6,), num_classes=1, options=options, seed=seed)
    for part in net.modules():
        if isinstance(part, nn.Sequential) and isinstance(part[-1], nn.ReLU):
            part[-1] = Elementwise(activation.function)
    return net.double()


def kernel_of(net: nn.Module) -> Tensor:
    x = inputs()
    return trace_gram(gt.EmpiricalRisk(net, "mse", (x, torch.zeros(len(x), 1).double())))


@pytest.mark.parametrize("activation", [relu, erf, SMOOTH_POLYNOMIAL], ids=lambda a: a.name)
def test_trap_33_the_error_of_finite_nets_falls_with_the_root_of_the_width(activation: Activation):
    limit = kernels(inputs(), depth=2, activation=activation, bias_variance=0.01).ntk
    widths, errors = (64, 512, 4096), list[float]()
    for width in widths:
        squares = [
            float((kernel_of(finite(activation, width, seed)) - limit).square().mean())
            for seed in range(12)
        ]
        errors.append(math.sqrt(np.mean(squares)) / float(limit.max()))
    rate = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert rate == pytest.approx(-0.5, abs=0.12)
    assert errors[-1] < 0.05


def test_three_layers():
    limit = kernels(inputs(), depth=3, activation=relu, bias_variance=0.01).ntk
    mean = torch.stack([kernel_of(finite(relu, 512, seed, depth=3)) for seed in range(8)]).mean(0)
    assert float((mean - limit).square().mean().sqrt() / limit.max()) < 0.03


def test_outputs_at_initialization_have_the_nngp_s_covariance():
    x, count = inputs(3), 400
    limit = kernels(x, depth=3, activation=erf, bias_variance=0.01).nngp
    with torch.no_grad():
        f = torch.stack([finite(erf, 200, seed, depth=3)(x)[:, 0] for seed in range(count)])
    products = f[:, :, None] * f[:, None, :]
    scores = (products.mean(0) - limit) / (products.std(0) / math.sqrt(count))
    assert float(scores.abs().max()) < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth: found 0, expected at least 1"),
        ({"weight_variance": 0.0}, r"variances: found 0\.0 of weights and 0\.0 of biases"),
        ({"bias_variance": -1.0}, r"variances: found 1\.0 of weights and -1\.0 of biases"),
    ],
)
def test_what_has_no_kernel(options: dict[str, float], message: str):
    with pytest.raises(gt.InputError, match=message):
        kernels(inputs(), **{"depth": 2, "activation": relu, **options})  # type: ignore[arg-type]


def test_no_polynomial():
    with pytest.raises(gt.InputError, match=r"hermite: found coefficients \[0\.0\], expected fin"):
        hermite([0.0])
