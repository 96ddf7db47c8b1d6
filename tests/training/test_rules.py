"""First-order rules against torch.optim, each model of the stack with its own settings."""

from typing import Any

import pytest
import torch
from oracle import relative_error
from torch import Tensor

from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training import optimizers
from gentheory.training.optimizers.rules import SGD, Rule, take
from gentheory.training.published import PUBLISHED, Name

M, P, STEPS = 3, 7, 25
RATES = torch.tensor([0.1, 0.02, 0.004], dtype=torch.float64)
MOMENTUM = torch.tensor([0.5, 0.9, 0.0], dtype=torch.float64)
DECAY = torch.tensor([0.1, 0.0, 0.02], dtype=torch.float64)
OWN = {
    "beta1": torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64),
    "beta2": torch.tensor([0.999, 0.9, 0.3], dtype=torch.float64),
    "epsilon": torch.tensor([1e-8, 1e-4, 0.1], dtype=torch.float64),
}
THETA = torch.randn(M, P, generator=generator("rules", "theta"), dtype=torch.float64)
SLOPES = torch.randn(STEPS, M, P, generator=generator("rules", "slopes"), dtype=torch.float64)


def by_torch(name: str, parameter: Tensor, m: int) -> torch.optim.Optimizer:
    rate, decay, momentum = float(RATES[m]), float(DECAY[m]), float(MOMENTUM[m])
    own: dict[str, Any] = {key: float(values[m]) for key, values in OWN.items()}
    common = {"lr": rate, "weight_decay": decay}
    if name in ("adam", "adamw"):
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return kind([parameter], betas=(own["beta1"], own["beta2"]), eps=own["epsilon"], **common)
    if name == "rmsprop":
        settings = {"alpha": own["beta2"], "eps": own["epsilon"], "momentum": momentum}
        return torch.optim.RMSprop([parameter], **settings, **common)
    nesterov = name == "nesterov" and momentum > 0
    return torch.optim.SGD([parameter], momentum=momentum, nesterov=nesterov, **common)


def rule_of(name: str, count: slice = slice(None)) -> Rule:
    known: Name = "sgd" if name == "nesterov" else name  # pyright: ignore[reportAssignmentType]
    own = optimizers.values(
        known, {key: values[count] for key, values in OWN.items()}, THETA[count]
    )
    return optimizers.rule(
        known,
        own,
        momentum=MOMENTUM[count, None],
        weight_decay=DECAY[count, None],
        nesterov=name == "nesterov",
    )


def walked(rule: Rule, rows: slice = slice(None)) -> Tensor:
    theta = THETA[rows]
    state = rule.start(theta)
    for step, slopes in enumerate(SLOPES):
        gradient = slopes[rows] + torch.sin(theta)
        rate = RATES[rows, None] * (1 + step % 3)
        theta, state = rule.step(theta, state, gradient, rate)
    return theta


RULES = ["sgd", "nesterov", "rmsprop", "adam", "adamw"]


@pytest.mark.parametrize("name", RULES)
def test_each_model_goes_as_torch_s_optimizer_takes_it(name: str):
    theta = walked(rule_of(name))
    for m in range(M):
        parameter = THETA[m].clone().requires_grad_()
        optimizer = by_torch(name, parameter, m)
        for step, slopes in enumerate(SLOPES):
            optimizer.param_groups[0]["lr"] = float(RATES[m]) * (1 + step % 3)
            parameter.grad = slopes[m] + torch.sin(parameter.detach())
            optimizer.step()
        assert relative_error(theta[m], parameter.detach()) < 1e-12


@pytest.mark.parametrize("name", RULES)
def test_a_stack_is_its_models_to_the_last_digit(name: str):
    together = walked(rule_of(name))
    for m in range(M):
        one = slice(m, m + 1)
        assert torch.equal(walked(rule_of(name, one), one)[0], together[m])
        assert torch.equal(walked(take(rule_of(name), torch.tensor([m])), one)[0], together[m])


@pytest.mark.parametrize("name", RULES)
def test_a_step_leaves_all_but_the_gradient_alone(name: str):
    rule = rule_of(name)
    _, state = rule.step(THETA, rule.start(THETA), SLOPES[0], RATES[:, None])
    before = {key: value.clone() for key, value in state.items()}
    theta, gradient = THETA.clone(), SLOPES[1].clone()
    rule.step(theta, state, gradient, RATES[:, None])
    assert torch.equal(theta, THETA)
    assert all(torch.equal(state[key], value) for key, value in before.items())


def test_sgd_by_hand():
    sgd = SGD(torch.tensor([[0.5]]), torch.tensor([[0.1]]))
    theta, state = torch.tensor([[1.0, 2.0]]), {"velocity": torch.tensor([[4.0, 0.0]])}
    gradient, rate = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.25]])
    moved, kept = sgd.step(theta, state, gradient, rate)
    assert kept["velocity"].tolist() == [[pytest.approx(3.1), pytest.approx(-0.8)]]
    assert moved.tolist() == [[pytest.approx(0.225), pytest.approx(2.2)]]


def test_a_rate_of_zero_moves_nothing():
    for name in ("sgd", "rmsprop", "adam"):
        rule = rule_of(name)
        moved, _ = rule.step(THETA, rule.start(THETA), 0 * SLOPES[0], 0 * RATES[:, None])
        assert torch.equal(moved, THETA)


def test_float32_adam_counts_its_steps_exactly():
    """In float32 the powers of 0.999 would be off by a part in a thousand after one step."""
    rule = optimizers.rule(
        "adam",
        optimizers.values("adam", {}, THETA.float()),
        momentum=torch.zeros(M, 1),
        weight_decay=torch.zeros(M, 1),
    )
    moved, _ = rule.step(
        THETA.float(), rule.start(THETA.float()), SLOPES[0].float(), RATES.float()[:, None]
    )
    # The first step of Adam has the length of the rate in every coordinate.
    assert torch.allclose(
        (moved - THETA.float()).abs(), RATES.float()[:, None].expand(M, P), rtol=1e-4
    )


def test_trap_3_decoupled_decay_shrinks_whatever_the_gradient():
    """Coupled decay is part of what Adam divides by its size; decoupled decay is not."""
    still = torch.zeros(M, P, dtype=torch.float64)
    rule = rule_of("adamw")
    moved, _ = rule.step(THETA, rule.start(THETA), still, RATES[:, None])
    assert relative_error(moved, THETA * (1 - RATES * DECAY)[:, None]) < 1e-15


def test_published_values_are_those_of_torch():
    parameter = flatten(torch.nn.Linear(1, 1))
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        found = kind([parameter]).defaults
        own = {"beta1": found["betas"][0], "beta2": found["betas"][1], "epsilon": found["eps"]}
        assert own == PUBLISHED[name]
    found = torch.optim.RMSprop([parameter]).defaults
    assert {"beta2": found["alpha"], "epsilon": found["eps"]} == PUBLISHED["rmsprop"]
