"""Losses against torch's own, their derivatives against autograd, the Fisher by enumeration."""

import pytest
import torch
from cases import smoothed
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F

from gentheory import losses
from gentheory.errors import InputError
from gentheory.seeds import generator

B, C = 6, 4
OUTPUTS = torch.randn(B, C, generator=generator("losses", "outputs"), dtype=torch.float64)
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0])
REAL = torch.randn(B, C, generator=generator("losses", "targets"), dtype=torch.float64)
SOFT = REAL.softmax(1)
WEIGHTED = SOFT * torch.linspace(0.5, 2.0, B, dtype=torch.float64)[:, None]  # rows sum to others

PAIRS = {
    "ce classes": ("cross_entropy", CLASSES),
    "ce soft": ("cross_entropy", SOFT),
    "ce weighted": ("cross_entropy", WEIGHTED),
    "mse real": ("mse", REAL),
    "mse classes": ("mse", CLASSES),
    "callable": (smoothed, CLASSES),
}


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[losses.Loss, Tensor]:
    loss, targets = PAIRS[request.param]
    return losses.resolve(loss), targets


def test_cross_entropy_is_torch_s():
    loss = losses.resolve("cross_entropy")
    for targets in (CLASSES, SOFT):
        expected = F.cross_entropy(OUTPUTS, targets)
        assert loss.values(OUTPUTS, targets).shape == (B,)
        assert loss.values(OUTPUTS, targets).mean().item() == pytest.approx(expected.item(), 1e-14)


def test_trap_20_mse_is_the_mean_over_the_outputs():
    loss = losses.resolve("mse")
    assert loss.values(OUTPUTS, REAL).mean().item() == pytest.approx(
        F.mse_loss(OUTPUTS, REAL).item(), 1e-14
    )
    unit_vectors = torch.eye(C, dtype=torch.float64)[CLASSES]
    assert torch.equal(loss.values(OUTPUTS, CLASSES), loss.values(OUTPUTS, unit_vectors))


def test_gradient_is_autograd_s(pair: tuple[losses.Loss, Tensor]):
    loss, targets = pair
    outputs = OUTPUTS.clone().requires_grad_()
    loss.values(outputs, targets).sum().backward()
    assert relative_error(loss.gradient(OUTPUTS, targets), outputs.grad) < 1e-14


def test_hessian_is_autograd_s(pair: tuple[losses.Loss, Tensor]):
    loss, targets = pair
    for i in range(B):
        expected = torch.autograd.functional.hessian(
            lambda f, y=targets[i : i + 1]: loss.values(f[None], y)[0], OUTPUTS[i]
        )
        found = loss.hessian(OUTPUTS, targets)[i]
        assert relative_error(found, expected) < 1e-14


def test_the_trace_is_that_of_the_hessian(pair: tuple[losses.Loss, Tensor]):
    loss, targets = pair
    expected = loss.hessian(OUTPUTS, targets).diagonal(dim1=1, dim2=2).sum(1)
    assert relative_error(loss.hessian_trace(OUTPUTS, targets), expected) < 1e-14


def test_a_mean_hessian_over_no_time_is_the_hessian(pair: tuple[losses.Loss, Tensor]):
    loss, targets = pair
    r, traces = loss.gradient(OUTPUTS, targets), loss.hessian_trace(OUTPUTS, targets)
    found = loss.mean_hessian(r, traces, OUTPUTS, targets)
    assert relative_error(found, loss.hessian(OUTPUTS, targets)) < 1e-13


def test_fisher_of_cross_entropy_enumerates_the_classes():
    expected = torch.zeros(B, C, C, dtype=torch.float64)
    for i in range(B):
        p = OUTPUTS[i].exp() / OUTPUTS[i].exp().sum()
        for k in range(C):
            f = OUTPUTS[i].clone().requires_grad_()
            F.cross_entropy(f[None], torch.tensor([k])).backward()
            expected[i] += p[k] * torch.outer(f.grad, f.grad)
    loss = losses.resolve("cross_entropy")
    assert relative_error(loss.fisher(OUTPUTS), expected) < 1e-14
    assert relative_error(loss.hessian(OUTPUTS, CLASSES), expected) < 1e-14


def test_trap_20_only_targets_of_mass_one_make_hessian_and_fisher_equal():
    loss = losses.resolve("cross_entropy")
    assert relative_error(loss.hessian(OUTPUTS, SOFT), loss.fisher(OUTPUTS)) < 1e-14
    mass = WEIGHTED.sum(1)[:, None, None]
    assert relative_error(loss.hessian(OUTPUTS, WEIGHTED), mass * loss.fisher(OUTPUTS)) < 1e-14
    assert relative_error(loss.hessian(OUTPUTS, WEIGHTED), loss.fisher(OUTPUTS)) > 0.1


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
def test_sampled_residuals_have_the_fisher_as_their_second_moment(name: str):
    loss, stream, draws = losses.resolve(name), generator("sampling", name), 20_000
    outputs = OUTPUTS[:1].expand(draws, -1)
    r = loss.gradient(outputs, loss.sample(outputs, stream))
    products = r[:, :, None] * r[:, None, :]
    errors = products.std(0) / draws**0.5
    deviation = (products.mean(0) - loss.fisher(OUTPUTS[:1])[0]) / errors
    assert deviation.abs().max() < 3.5  # ten different entries
    assert (r.mean(0).abs() / (r.std(0) / draws**0.5)).max() < 3.5


def test_samples_are_the_generator_s_alone():
    loss = losses.resolve("cross_entropy")
    state = torch.get_rng_state()
    first, second = (loss.sample(OUTPUTS, generator("same")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float64)
    loss = losses.resolve("cross_entropy")
    assert loss.values(outputs, torch.tensor([1])).item() == 2e4
    assert loss.gradient(outputs, torch.tensor([1])).tolist() == [[1.0, -1.0, 0.0]]
    assert loss.hessian(outputs, torch.tensor([1])).abs().max() == 0


def test_a_callable_has_no_likelihood():
    loss = losses.resolve(smoothed)
    assert loss.name == "smoothed"
    message = "loss 'smoothed': found a callable without a likelihood"
    with pytest.raises(InputError, match=message):
        loss.fisher(OUTPUTS)
    with pytest.raises(InputError, match=message):
        loss.sample(OUTPUTS, generator(0))


def test_resolve_takes_names_callables_and_losses():
    assert losses.resolve(losses.mse) is losses.resolve("mse")
    assert losses.resolve(torch.nn.GaussianNLLLoss()).name == "GaussianNLLLoss"
    with pytest.raises(InputError, match="found 'hinge', expected 'cross_entropy', 'mse', 'sq"):
        losses.resolve("hinge")


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1, 4]), "data, example 12: found target 4, expected a class of 0 to 3"),
        (torch.tensor([0, -100, 1]), "data, example 11: found target -100"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), r"targets: found torch.int32 of shape \(3,\)"),
        (torch.tensor([0.5, 1.5]), r"targets: found torch.float32 of shape \(2,\), expected cla"),
        (torch.zeros(3, 5), r"targets: found torch.float32 of shape \(3, 5\)"),
        (torch.tensor([[0.0] * 4, [0.0, torch.nan, 0.0, 1.0]]), "example 11: found target .*nan"),
    ],
)
def test_trap_5_targets_that_a_loss_cannot_take(name: str, targets: Tensor, message: str):
    with pytest.raises(InputError, match=message):
        losses.resolve(name).check(targets, C, start=10)


def test_good_targets_pass_the_check():
    for loss, targets in PAIRS.values():
        losses.resolve(loss).check(targets, C)


def test_float32_outputs_that_fit_keep_their_digits():
    """In float32 the largest p rounds to 1: residual and curvature lose half of their size."""
    outputs = torch.tensor([[20.0, 0.0, -1.0]])
    loss, y = losses.resolve("cross_entropy"), torch.tensor([0])
    expected = losses.resolve("cross_entropy").gradient(outputs.double(), y)
    assert expected[0, 0] < -2.8e-9
    assert relative_error(loss.gradient(outputs, y), expected) < 1e-14
    assert loss.values(outputs, y).item() == pytest.approx(-expected[0, 0].item(), rel=1e-6)
    for matrix in (loss.hessian(outputs, y)[0], loss.fisher(outputs)[0]):
        values = torch.linalg.eigvalsh(matrix)
        assert values[0] > -1e-7 * values[-1]
        assert matrix.sum(1).abs().max() < 1e-7 * values[-1]
    slope = torch.func.grad(lambda f: loss.values(f, y).sum())(outputs)
    assert relative_error(slope, expected) < 1e-6


def test_float32_targets_go_with_float64_outputs_and_back():
    loss = losses.resolve("cross_entropy")
    for dtype in (torch.float32, torch.float64):
        found = loss.values(OUTPUTS.to(dtype), SOFT.float())
        assert relative_error(found, loss.values(OUTPUTS, SOFT)) < 1e-6
