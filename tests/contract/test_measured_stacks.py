"""A stack of M risks, prepared in one pass, measures as M risks alone: every measure there is."""

import math
from functools import cache

import pytest
import torch
from cases import CASES, initial_of, trajectory_of

import gentheory as gt
from gentheory import measures
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate
from gentheory.factors import stacked
from gentheory.factors.stacked import prepare

pytestmark = pytest.mark.usefixtures("untraced")

QUICK = {
    f"singular.{name}": {"num_chains": 2, "num_steps": 8, "burn_in": 4}
    for name in ("learning_coefficient", "wbic")
}
DIVERGED = 1


def thetas(theta: torch.Tensor) -> list[torch.Tensor]:
    """Three models, the second of them diverged."""
    stream = torch.Generator().manual_seed(0)
    moved = [theta + 0.1 * torch.randn(len(theta), generator=stream).double() for _ in range(3)]
    moved[DIVERGED] = torch.full_like(theta, math.nan)
    return moved


def stack_of(case: str) -> list[gt.EmpiricalRisk]:
    module, inputs = CASES[case].module.eval(), CASES[case].data[0]
    fitted = module(inputs).argmax(1)  # measures of a net that fits its data must apply
    first = gt.EmpiricalRisk(module, "cross_entropy", (inputs, fitted), batch_size=5)
    decays = (0.0, 0.01, 0.02)
    pairs = zip(thetas(first.theta), decays, strict=True)
    return [first.at(theta, weight_decay=decay) for theta, decay in pairs]


@cache
def prepared(case: str) -> list[gt.EmpiricalRisk]:
    risks = stack_of(case)
    prepare(risks)
    return risks


def estimate_of(name: str, risk: gt.EmpiricalRisk) -> Estimate:
    finite = bool(risk.theta.isfinite().all())
    kept = trajectory_of(risk) if finite else None
    subject = Checkpoint(risk, initial_of(risk), 10, 0.5, kept)
    options = {name: QUICK[name]} if name in QUICK else {}
    return gt.measure(subject, name, options=options, strict=False)[name]


def close(one: object, other: object) -> bool:
    """Numbers to rounding, all else exactly."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(
            one, other, rel_tol=1e-6, abs_tol=1e-9
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == other


@pytest.mark.parametrize("name", measures.names())
def test_a_stack_is_its_models(name: str):
    for m, (alone, together) in enumerate(zip(stack_of("skip"), prepared("skip"), strict=True)):
        one, other = estimate_of(name, alone), estimate_of(name, together)
        assert (one.status, one.reason, one.warnings) == (
            other.status,
            other.reason,
            other.warnings,
        )
        assert close(one.value, other.value)
        assert close(one.stderr, other.stderr)
        assert set(one.stats) == set(other.stats)
        assert all(close(value, other.stats[key]) for key, value in one.stats.items())
        assert one.status == "refused" or m != DIVERGED


def test_the_others_of_a_stack_are_served_and_the_diverged_is_not():
    served = ["kept captures" in risk._results for risk in prepared("skip")]
    assert served == [True, False, True]
    assert "kept captures" not in stack_of("mlp")[0]._results


@pytest.mark.parametrize("case", ["conv", "attention", "twice"])
def test_other_nets_are_left_to_the_loop(case: str):
    risks = stack_of(case)
    prepare(risks)
    assert not any(risk._results.get("kept captures") for risk in risks[1:])


def test_risks_of_other_data_are_left_to_the_loop():
    one, other = stack_of("mlp")[0], stack_of("mlp")[1]
    prepare([one, other])
    assert "kept captures" not in other._results


def test_trap_39_no_more_models_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch):
    risks = stack_of("mlp")
    numbers = sum(captured.numbers for _, captured in stacked.kept_captures(risks[0]) or [])
    monkeypatch.setattr(stacked, "_STACK", 2 * numbers - 1)
    prepare(risks)
    assert ["kept captures" in risk._results for risk in risks] == [True, False, False]
