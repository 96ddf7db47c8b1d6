"""Squentropy, label smoothing and MaxSup by their formulas, their derivatives against autograd."""

import pytest
import torch
from cases import CASES
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F

from gentheory import losses
from gentheory.curvature import fisher, ggn, sampled_fisher
from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator

B, C = 6, 4
OUTPUTS = torch.randn(B, C, generator=generator("losses", "outputs"), dtype=torch.float64)
CLASSES = torch.tensor([0, 3, 1, 1, 2, 0])
SOFT = torch.randn(B, C, generator=generator("losses", "soft"), dtype=torch.float64).softmax(1)
WEIGHTED = SOFT * torch.linspace(0.5, 2.0, B, dtype=torch.float64)[:, None]

LOSSES = {
    "smoothing": losses.resolve("cross_entropy", {"label_smoothing": 0.2}),
    "max sup": losses.resolve("cross_entropy", {"max_sup": 0.3}),
    "squentropy": losses.resolve("squentropy"),
    "rescaled": losses.resolve("squentropy", {"rescale": 0.3}),
}
TARGETS = {"classes": CLASSES, "soft": SOFT, "weighted": WEIGHTED}


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> losses.Loss:
    return LOSSES[request.param]


@pytest.fixture(params=TARGETS)
def targets(request: pytest.FixtureRequest) -> Tensor:
    return TARGETS[request.param]


def test_derivatives_are_autograd_s(loss: losses.Loss, targets: Tensor):
    outputs = OUTPUTS.clone().requires_grad_()
    loss.values(outputs, targets).sum().backward()
    assert relative_error(loss.gradient(OUTPUTS, targets), outputs.grad) < 1e-14

    def one(f: Tensor, target: Tensor) -> Tensor:
        return loss.values(f[None], target[None])[0]

    hessian = torch.func.vmap(torch.func.hessian(one))(OUTPUTS, targets)
    assert relative_error(loss.hessian(OUTPUTS, targets), hessian) < 1e-13
    trace = hessian.diagonal(dim1=1, dim2=2).sum(1)
    assert relative_error(loss.hessian_trace(OUTPUTS, targets), trace) < 1e-13
    weights, directions = loss.directions(OUTPUTS, targets)
    found = torch.einsum("bk,bkc,bkd->bcd", weights, directions, directions)
    assert relative_error(found, hessian) < 1e-12


def test_values_are_linear_in_the_targets():
    """So that a mixed label costs the mix of what its classes cost."""
    for loss in (LOSSES["smoothing"], LOSSES["squentropy"], losses.cross_entropy):
        each = torch.stack([loss.values(OUTPUTS, torch.full((B,), c)) for c in range(C)], dim=1)
        for targets in (SOFT, WEIGHTED):
            assert relative_error(loss.values(OUTPUTS, targets), (targets * each).sum(1)) < 1e-14


def test_mean_curvature_at_one_time_is_the_curvature_there(loss: losses.Loss, targets: Tensor):
    r, traces = loss.gradient(OUTPUTS, targets), loss.hessian_trace(OUTPUTS, targets)
    found = loss.mean_hessian(r, traces, OUTPUTS, targets)
    assert relative_error(found, loss.hessian(OUTPUTS, targets)) < 1e-12


def test_smoothing_is_torch_s():
    found = LOSSES["smoothing"].values(OUTPUTS, CLASSES)
    expected = F.cross_entropy(OUTPUTS, CLASSES, label_smoothing=0.2, reduction="none")
    assert relative_error(found, expected) < 1e-14
    found = LOSSES["smoothing"].values(OUTPUTS, SOFT)
    expected = F.cross_entropy(OUTPUTS, SOFT, label_smoothing=0.2, reduction="none")
    assert relative_error(found, expected) < 1e-14


def test_smoothing_in_its_other_form():
    """Cross-entropy + ε (f_y - mean f); MaxSup has the largest output in place of f_y."""
    own = OUTPUTS.gather(1, CLASSES[:, None])[:, 0]
    plain = losses.cross_entropy.values(OUTPUTS, CLASSES)
    found = LOSSES["smoothing"].values(OUTPUTS, CLASSES)
    assert relative_error(found, plain + 0.2 * (own - OUTPUTS.mean(1))) < 1e-14
    found = LOSSES["max sup"].values(OUTPUTS, CLASSES)
    assert relative_error(found, plain + 0.3 * (OUTPUTS.amax(1) - OUTPUTS.mean(1))) < 1e-14


def test_squentropy_by_hand():
    outputs = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    plain = F.cross_entropy(outputs, torch.tensor([0])).item()
    found = losses.resolve("squentropy").values(outputs, torch.tensor([0]))
    assert found.item() == pytest.approx(plain + (4 + 1) / 2, rel=1e-14)
    found = losses.resolve("squentropy", {"rescale": 0.5}).values(outputs, torch.tensor([1]))
    expected = F.cross_entropy(outputs, torch.tensor([1])).item() + 0.5 * (1 + 1) / 2
    assert found.item() == pytest.approx(expected, rel=1e-14)


def test_options_of_no_strength_are_plain_cross_entropy():
    for option in ("label_smoothing", "max_sup"):
        found = losses.resolve("cross_entropy", {option: 0.0})
        expected = losses.cross_entropy.values(OUTPUTS, CLASSES)
        assert relative_error(found.values(OUTPUTS, CLASSES), expected) < 1e-14


def test_trap_20_smoothing_changes_the_targets_and_not_the_model():
    """The Fisher information is that of the likelihood, exact and by draws, and still the GGN."""
    case = CASES["mlp"]
    plain = EmpiricalRisk(case.module, losses.cross_entropy, case.data, dtype=torch.float64)
    smooth = EmpiricalRisk(case.module, LOSSES["smoothing"], case.data, dtype=torch.float64)
    for make in (ggn, fisher):
        assert relative_error(make(smooth).dense(), make(plain).dense()) < 1e-12
    draws = [
        sampled_fisher(risk, num_samples=3, generator=generator("draws")).dense()
        for risk in (plain, smooth)
    ]
    assert relative_error(draws[1], draws[0]) < 1e-12
    assert relative_error(smooth.gradient(), plain.gradient()) > 1e-3


@pytest.mark.parametrize("name", ["max sup", "squentropy"])
def test_what_is_no_likelihood_is_not_drawn_from(name: str):
    message = "found a loss without a likelihood, expected 'cross_entropy' or 'mse' where the Fish"
    with pytest.raises(InputError, match=message):
        LOSSES[name].fisher(OUTPUTS)
    with pytest.raises(InputError, match=message):
        LOSSES[name].sample(OUTPUTS, generator(0))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mse", {"label_smoothing": 0.1}, "loss 'mse': found label_smoothing, expected none; drop"),
        ("cross_entropy", {"rescale": 1.0}, "found rescale, expected one of label_smoothing, max_"),
        ("cross_entropy", {"label_smoothing": 0.1, "max_sup": 0.1}, "found label_smoothing, max_"),
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing: found 1.0, expected 0 to be"),
        ("cross_entropy", {"max_sup": -1.0}, "max_sup: found -1.0, expected 0 or more; give such"),
        ("squentropy", {"rescale": float("nan")}, "rescale: found nan, expected 0 or more"),
        ("supervised_contrastive", {"temperature": 0.0}, "temperature: found 0.0, expected above"),
        (losses.mse, {"rescale": 1.0}, "found rescale, expected none; drop the others"),
    ],
)
def test_options_that_no_loss_takes(name: str, options: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        losses.resolve(name, options)


def test_float32_outputs_keep_their_digits(loss: losses.Loss):
    found = loss.gradient(OUTPUTS.float(), CLASSES)
    assert found.dtype == torch.float64
    assert relative_error(found, loss.gradient(OUTPUTS, CLASSES)) < 1e-6
    slope = torch.func.grad(lambda f: loss.values(f, CLASSES).sum())(OUTPUTS.float())
    assert relative_error(slope, loss.gradient(OUTPUTS, CLASSES)) < 1e-6


def test_trap_5_bad_targets_are_named(loss: losses.Loss):
    with pytest.raises(InputError, match="data, example 12: found target 4, expected a class of 0"):
        loss.check(torch.tensor([0, 1, 4]), C, start=10)
    for good in TARGETS.values():
        loss.check(good, C)
