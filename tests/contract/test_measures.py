"""What every measure promises, found by walking the folder: a new file is tested on arrival."""

import inspect
import math
from functools import cache
from typing import Any

import pytest
import torch
from cases import CASES, Case, initial_of, trajectory_of
from torch import Tensor

import gentheory as gt
from gentheory import measures
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.measures import Options

pytestmark = pytest.mark.usefixtures("untraced")

PRECISE = {"tic.solve": {"rtol": 1e-11}}
"""Options with which what is solved to a tolerance is comparable to rounding."""
QUICK = {
    f"singular.{name}": {"num_chains": 2, "num_steps": 40, "burn_in": 20}
    for name in ("learning_coefficient", "wbic")
}
"""Options with which what runs long takes no time; the promises are the same."""
DRAWN_BY_EXAMPLE = {"tic.solve", "collapse.mixup_alignment", "collapse.mixup_residual"}
"""The n-th example gets the n-th random number: in another order the draw is another one."""
FITTED = {"margins.inverse_square", *(n for n in measures.names() if n.startswith("pac_bayes."))}
"""Measures of a net that fits its data: their targets are the classes that the net gives."""
REFUSED: dict[str, set[str]] = {
    "norms.path": {"embedding tied"},
    **{name: {"scalar"} for name in measures.names() if name.startswith("collapse.")},
    **{
        f"collapse.mixup_{what}": {"embedding tied", "scalar"} for what in ("alignment", "residual")
    },
    **{
        f"representation.{name}": {"scalar"}
        for name in ("alignment", "cka", "uniformity", "wasserstein_uniformity")
    },
    "representation.deconfounded_cka": {"embedding tied", "scalar"},
    "representation.local_complexity": {"attention", "embedding tied", "twice", "scalar"},
    "representation.mergeable_features": {"attention", "twice", "scalar"},
    "representation.sparsity": {"attention", "embedding tied", "twice", "scalar"},
    "representation.v_information_complexity": {"attention", "twice", "scalar"},
    "robustness.pgd_accuracy": {"embedding tied"},
}
"""Where a measure does not apply: indices have no all-ones input and no mixtures, and cannot be
moved; a net that ends in something else than a linear layer has no penultimate features; some
have no ReLU, or no two layers that are called once."""
SUBJECTS = ["conv", "attention", "embedding tied", "twice", "scalar"]


@pytest.fixture(params=measures.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def checkpoint_of(risk: gt.EmpiricalRisk, order: Tensor | None = None) -> Checkpoint:
    return Checkpoint(risk, initial_of(risk), 10, 0.5, trajectory_of(risk, order))


def estimate_of(name: str, subject: Checkpoint, seed: int = 0) -> Estimate:
    return gt.measure(subject, name, seed=seed, options=options_of(name))[name]


def options_of(name: str, options: Options = QUICK) -> Options:
    return {name: options[name]} if name in options else {}


def data_of(name: str, case: Case) -> tuple[Tensor, Tensor]:
    inputs, targets = case.data
    return inputs, case.module.eval()(inputs).argmax(1) if name in FITTED else targets


def risk_of(name: str, case: Case) -> gt.EmpiricalRisk:
    options = {"weight_decay": case.weight_decay, "batch_size": 4}
    return gt.EmpiricalRisk(case.module, case.loss, data_of(name, case), **options)


@cache
def estimated(name: str, case: str) -> Estimate:
    return estimate_of(name, checkpoint_of(risk_of(name, CASES[case])))


def same(one: Estimate, other: Estimate, rtol: float) -> bool:
    return math.isclose(one.value, other.value, rel_tol=rtol)


def test_the_walk_finds_the_families():
    families = {name.partition(".")[0] for name in measures.names()}
    assert families >= {"baselines", "norms", "singular", "spectra", "tic"}
    assert len(measures.names()) == len(set(measures.names()))


def test_signature_and_docstring(name: str):
    function = measures.find(name)
    first, *others = inspect.signature(function).parameters.values()
    assert (first.name, first.annotation) == ("checkpoint", Checkpoint)
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
    defaults = {p.name: p.default for p in others}
    assert defaults.pop("generator") is inspect.Parameter.empty
    assert inspect.Parameter.empty not in defaults.values()
    assert inspect.signature(function).return_annotation is Estimate
    document = inspect.getdoc(function) or ""
    assert "stderr" in document or "Exact." in document  # what the error covers
    described = measures.describe(name)
    assert described.formula
    assert described.cost
    assert described.source


def test_a_number_or_a_reason(name: str, subject: Case):
    estimate = estimated(name, subject.name)
    assert estimate.status in ("ok", "refused", "failed")
    assert math.isfinite(estimate.value) == (estimate.status == "ok")
    assert bool(estimate.reason) == (estimate.status != "ok")
    expected = "refused" if subject.name in REFUSED.get(name, ()) else "ok"
    assert estimate.status == expected  # nothing else about these nets is odd


def test_the_seed_decides(name: str, subject: Case):
    first = estimated(name, subject.name)
    again, other = (
        estimate_of(name, checkpoint_of(risk_of(name, subject)), seed) for seed in (0, 6)
    )
    if first.status == "refused":
        assert (again.reason, other.reason) == (first.reason, first.reason)
        return
    assert first == again
    spread = math.hypot(first.stderr, other.stderr)
    assert abs(first.value - other.value) <= 4 * spread + 1e-9 * abs(first.value)


def test_json_round_trip(name: str, subject: Case):
    estimate = estimated(name, subject.name)
    if estimate.status == "ok":
        assert Estimate.from_json(estimate.to_json()) == estimate
    else:
        assert Estimate.from_json(estimate.to_json()).reason == estimate.reason


def test_nothing_is_touched(name: str, subject: Case):
    module, (inputs, targets) = subject.module, data_of(name, subject)
    risk = gt.EmpiricalRisk(module, subject.loss, (inputs, targets), batch_size=4)
    held = checkpoint_of(risk)
    assert held.trajectory is not None
    watched = {
        "theta": risk.theta,
        "initial": held.initial,
        **{f"trajectory's {n}": t for n, t in held.trajectory.tensors().items()},
        "inputs": inputs,
        "targets": targets,
        **{f"user's {n}": t for n, t in module.state_dict().items()},
        **{f"risk's {n}": t for n, t in risk.module.state_dict().items()},
    }
    before = {key: tensor.clone() for key, tensor in watched.items()}
    rng = torch.get_rng_state()
    estimate_of(name, held)
    assert all(torch.equal(before[key], tensor) for key, tensor in watched.items())
    assert all(part.training for part in module.modules())
    assert not any(part.training for part in risk.module.modules())
    assert all(p.grad is None for m in (module, risk.module) for p in m.parameters())
    assert torch.equal(rng, torch.get_rng_state())


def test_trap_4_neither_the_batch_size_nor_the_split_matters(name: str):
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(64, 5, generator=stream, dtype=torch.float64)
    x[60:] *= 5
    y, net = torch.randint(3, (64,), generator=stream), CASES["mlp"].module
    y = net(x).argmax(1) if name in FITTED else y

    def value(data: Any, batch_size: int = 64) -> Estimate:
        risk = gt.EmpiricalRisk(net, "cross_entropy", data, batch_size=batch_size)
        options = options_of(name, PRECISE | QUICK)
        return gt.measure(checkpoint_of(risk), name, options=options)[name]

    whole = value((x, y))
    assert same(value((x, y), batch_size=7), whole, 1e-8)
    assert same(value([(x[:60], y[:60]), (x[60:], y[60:])]), whole, 1e-8)


def test_the_order_of_the_examples_does_not_matter(name: str):
    net, (x, y) = CASES["conv"].module, data_of(name, CASES["conv"])

    def value(order: Tensor) -> Estimate:
        risk = gt.EmpiricalRisk(net, "cross_entropy", (x[order], y[order]), batch_size=3)
        return estimate_of(name, checkpoint_of(risk, order))

    one, other = value(torch.arange(7)), value(torch.tensor([3, 1, 6, 0, 2, 5, 4]))
    if name in DRAWN_BY_EXAMPLE:
        assert abs(one.value - other.value) < 4 * math.hypot(one.stderr, other.stderr)
    else:
        assert same(one, other, 1e-8)
