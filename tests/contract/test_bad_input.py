"""What a measure cannot give it says in one sentence with the way out; a study makes it a row."""

import inspect
import math
import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from cases import initial_of, trajectory_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import gentheory as gt
from gentheory import measures
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.measures import table_row

pytestmark = pytest.mark.usefixtures("untraced")

SENTENCE = r"[^\n]+: found [^\n]+, expected [^\n]+; [^\n]+\."
CHAINS = {"num_chains": 2, "num_steps": 20, "burn_in": 10}
BUDGETS = {"max_memory": 100, "max_params": 3}
LABELS = {"margins.inverse_square", "margins.normalized", "margins.output"} | {
    name for name in measures.names() if name.startswith("pac_bayes.")
}
LABELS |= {"representation.alignment", "robustness.pgd_accuracy"}
"""Measures of the margins, of the accuracy or of classes."""
UNKEPT = {"representation.area_under_margin", "tic.left_out"}
"""Measures of what training keeps of its way, if it is asked to."""
COLLAPSE = {name for name in measures.names() if name.startswith("collapse.")}
"""Measures of classes, two at least."""
START = {
    "landscape.barrier",
    "norms.distance",
    "norms.frobenius_distance",
    "norms.spectral_distance",
    "ntk.distance",
    "ntk.kernel_regression",
    "ntk.linearization_error",
    "ntk.velocity",
    "representation.cka",
    "representation.deconfounded_cka",
}


def mlp(num_outputs: int = 3, hidden: nn.Module | None = None) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = (nn.Linear(4, 5), hidden or nn.ReLU(), nn.Linear(5, num_outputs))
        return nn.Sequential(*layers).double()


def inputs(count: int = 10) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(4)).double()


def checkpoint_of(risk: gt.EmpiricalRisk) -> Checkpoint:
    return Checkpoint(risk, initial_of(risk), 10, 0.5)


def risk_of(net: nn.Module, targets: Tensor, loss: object = "cross_entropy") -> gt.EmpiricalRisk:
    return gt.EmpiricalRisk(net, loss, (inputs(len(targets)), targets), batch_size=4)


def binary(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs[:, 0], targets, reduction="none")


def one_class() -> gt.EmpiricalRisk:
    net = mlp()
    with torch.no_grad():
        net[2].bias[0] += 2
    return risk_of(net, torch.zeros(10, dtype=torch.int64))


def zeros() -> gt.EmpiricalRisk:
    risk = risk_of(mlp(), torch.arange(10) % 3)
    return risk.at(torch.zeros_like(risk.theta))


def not_finite() -> gt.EmpiricalRisk:
    risk = risk_of(mlp(), torch.arange(10) % 3)
    return risk.at(risk.theta.index_fill(0, torch.tensor([2]), math.nan))


REAL = torch.randn(10, 3, generator=torch.Generator().manual_seed(5)).double()
RISKS: dict[str, Callable[[], gt.EmpiricalRisk]] = {
    "one class": one_class,
    "classless": lambda: risk_of(mlp(), REAL, "mse"),
    "one real output": lambda: risk_of(mlp(1), REAL[:, :1], "mse"),
    "soft labels": lambda: risk_of(mlp(), REAL.softmax(1)),
    "binary": lambda: risk_of(mlp(1), (REAL[:, 0] > 0).double(), binary),
    "one example": lambda: risk_of(mlp(), torch.tensor([1])),
    "two examples": lambda: risk_of(mlp(), torch.tensor([1, 0])),
    "fitted exactly": lambda: risk_of(mlp(), mlp()(inputs()).detach(), "mse"),
    "zeros": zeros,
    "not finite": not_finite,
}
KNOWN: dict[str, set[str]] = {
    "one class": {*COLLAPSE, "ntk.alignment", "tic.left_out"},
    "classless": {*LABELS, *COLLAPSE, "spectra.by_class", "spectra.outliers", "tic.left_out"},
    "soft labels": {*LABELS, *COLLAPSE, "spectra.by_class", "spectra.outliers", "tic.left_out"},
    "one real output": {*LABELS, *COLLAPSE, "spectra.by_class", "spectra.outliers", "tic.left_out"},
    "binary": {*LABELS, *COLLAPSE, "spectra.by_class", "spectra.outliers", "tic.left_out"},
    "not finite": set(measures.names()),
}
"""Exactly which measures are refused; elsewhere some are, whichever."""


@pytest.fixture(params=measures.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def measured(subject: Checkpoint, name: str, **options: int) -> Estimate:
    """As a study asks for it."""
    given = options | (CHAINS if name.startswith("singular.") else {})
    found = gt.measure(subject, name, options={name: given}, strict=False)[name]
    row = table_row(name, found)
    assert (row["status"], row["reason"]) == (found.status, found.reason)
    return found


def is_told(estimate: Estimate) -> bool:
    """A number, or a sentence: what was found, what was expected, and what to do."""
    if estimate.status == "ok":
        return math.isfinite(estimate.value)
    return estimate.status == "refused" and bool(re.fullmatch(SENTENCE, estimate.reason))


@cache
def subject_of(kind: str) -> Checkpoint:
    return checkpoint_of(RISKS[kind]())


@pytest.mark.parametrize("kind", RISKS)
def test_a_number_or_the_way_out(name: str, kind: str):
    found = measured(subject_of(kind), name)
    assert is_told(found), found.reason
    if kind in KNOWN:
        assert (found.status == "refused") == (name in KNOWN[kind] | UNKEPT), found.reason


def test_what_the_checkpoint_lacks_is_named(name: str):
    net = mlp()
    found = measured(Checkpoint(risk_of(net, net(inputs()).argmax(1))), name)
    assert is_told(found), found.reason
    lacking = {*START, *UNKEPT, "baselines.training_time"}
    assert (found.status == "refused") == (name in lacking), found.reason
    if name in START - {"ntk.velocity"}:
        assert found.reason.startswith(f"{name}: found no initial parameters")


def test_what_does_not_fit_names_the_option_that_lets_it(name: str):
    options = inspect.signature(measures.find(name)).parameters
    budget = {option: value for option, value in BUDGETS.items() if option in options}
    if not budget:
        assert not any(option.startswith("max_mem") for option in options)
        return
    net = mlp()
    risk = risk_of(net, net(inputs()).argmax(1))
    subject = Checkpoint(risk, initial_of(risk), 10, 0.5, trajectory_of(risk))
    found = measured(subject, name, **budget)
    assert found.status == "refused", found
    assert re.fullmatch(SENTENCE, found.reason)
    assert any(option in found.reason for option in budget)


def test_trap_1_batch_norm_in_train_mode_is_measured_in_eval_mode(name: str):
    net = mlp(hidden=nn.BatchNorm1d(5).double())
    labels = net.eval()(inputs()).argmax(1)
    found = [
        measured(checkpoint_of(risk_of(net.train(mode), labels)), name) for mode in (False, True)
    ]
    assert all(map(is_told, found))
    assert found[0].status == found[1].status
    assert found[0].value == found[1].value or found[0].status == "refused"


def test_trap_1_batch_norm_without_running_statistics_is_refused(name: str):
    net = mlp(hidden=nn.BatchNorm1d(5, track_running_stats=False).double())
    found = measured(checkpoint_of(risk_of(net, torch.arange(10) % 3)), name)
    assert is_told(found), found.reason
    if found.status == "refused" and name != "tic.left_out":
        assert found.reason.endswith("; give normalization layers running statistics.")
    else:
        assert name in WITHOUT_DATA


class Augmented(Dataset):
    """Other numbers at every pass."""

    def __init__(self) -> None:
        self.stream = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(4, generator=self.stream).double(), index % 3


WITHOUT_DATA = {
    "baselines.parameter_count",
    "baselines.training_time",
    "norms.distance",
    "norms.parameters",
    "tic.left_out",
}
"""They never look at the examples, or at something else first."""


def test_trap_12_a_random_loader_is_refused(name: str):
    risk = gt.EmpiricalRisk(mlp(), "cross_entropy", Augmented())
    found = measured(checkpoint_of(risk), name)
    assert is_told(found), found.reason
    if found.status == "refused" and name != "tic.left_out":
        assert found.reason.endswith("; switch off shuffling and augmentation.")
    else:
        assert name in WITHOUT_DATA
