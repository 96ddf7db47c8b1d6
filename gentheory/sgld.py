"""Chains of Langevin dynamics around a risk's parameters, run as one stack.

Each chain samples the density proportional to exp(-U),

    U(w) = nβ L(w) + decay / 2 |w|² + localization / 2 |w − w*|²,

L the mean loss of the data alone and w* the risk's parameters, where all chains start. On all
examples each step may be put to a Metropolis test (Roberts & Tweedie 1996): no step size biases the
draws then, and a chain cannot diverge. On minibatches (Welling & Teh 2011, SGLD) there is no test.
The noise of such a step is the mean of two successive normal draws (Leimkuhler & Matthews 2013):
that costs no further gradient and leaves no bias where U is quadratic, while plain noise inflates
the variance along a curvature a by 1 / (1 − step · a / 4).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from gentheory.data.batches import Batch
from gentheory.errors import InputError
from gentheory.parameter_sets import runs_stacked
from gentheory.risk import EmpiricalRisk

_NUMBERS = 2**22
"""Numbers at once in the inputs of all chains: memory stays flat in the data."""

_POWER_STEPS = 8
_TRIAL_STEPS = 20
_HALVINGS = 40

_ACCEPTED = 0.6
"""Acceptance to be reached by an automatic step, about the best of Metropolis-adjusted chains."""


@dataclass(frozen=True)
class Chains:
    """K chains of T draws, after the burn-in."""

    excess: Float[Tensor, "K T"]
    """L(w) − L(w*) in float64; on the step's own examples where these are not all."""
    theta: Float[Tensor, "K P"]
    """Where the chains ended."""
    step_size: float
    acceptance: float
    """Of the steps by a Metropolis test; where none was made, as it would be from the end on."""
    minibatch_bias: float
    """By which the minibatches' noise raises the mean of nβ · excess, to first order."""


@dataclass(frozen=True)
class Potential:
    """U and its gradient at K parameter vectors, on all examples or on some for each."""

    risk: EmpiricalRisk
    nbeta: float
    localization: float
    decay: float = 0.0
    batch_size: int | None = None
    """Examples of a step, drawn anew with replacement for each chain; None for all."""

    @property
    def initial_loss(self) -> float:
        """L(w*), on all examples."""
        return float(_losses_before(self.risk).mean())

    def draw(self, count: int, generator: Generator) -> Int[Tensor, "K B"] | None:
        """Which examples `count` chains see in a step; None for all of them."""
        total = self.risk.num_examples
        if self.batch_size is None or self.batch_size >= total:
            return None
        shape = (count, self.batch_size)
        drawn = torch.randint(total, shape, generator=generator, device=generator.device)
        return drawn.to(self.risk.device)

    def at(self, theta: Float[Tensor, "K P"], rows: Int[Tensor, "K B"] | None) -> "Point":
        """Excess loss and the gradient of U; L as a mean over the rows."""
        excess, gradient = _excess(self.risk, theta, rows)
        # In place: with small batches the passes over [K, P] cost more than the model does.
        gradient.mul_(self.nbeta).add_(theta, alpha=self.decay + self.localization)
        return Point(theta, excess, gradient.sub_(self.risk.theta, alpha=self.localization))

    def value(self, point: "Point") -> Float[Tensor, " K"]:
        """U(w) − U(w*), in float64."""
        center = self.risk.theta.double()
        away = point.theta.double() - center
        prior = self.localization * away + self.decay * (away + 2 * center)
        return self.nbeta * point.excess + (away * prior).sum(1) / 2

    def acceptance(self, old: "Point", new: "Point", step: float) -> Float[Tensor, " K"]:
        """Of steps with plain noise, by Metropolis & Hastings; 0 where a value is not finite."""
        moved = (new.theta - old.theta).double()
        there = (moved + step / 2 * old.gradient).square().sum(1)
        back = (moved - step / 2 * new.gradient).square().sum(1)
        log_ratio = self.value(old) - self.value(new) + (there - back) / (2 * step)
        return log_ratio.clamp(max=0).exp().nan_to_num(nan=0.0)


@dataclass(frozen=True)
class Point:
    """Where K chains are."""

    theta: Float[Tensor, "K P"]
    excess: Float[Tensor, " K"]
    gradient: Float[Tensor, "K P"]  # of U

    def proposal(
        self, step: float, noise: Float[Tensor, "K P"], *, scale: float = 1.0
    ) -> Float[Tensor, "K P"]:
        """w − step / 2 ∇U + scale √step noise."""
        moved = torch.add(self.theta, self.gradient, alpha=-step / 2)
        return moved.add_(noise, alpha=scale * math.sqrt(step))

    def replaced(self, new: "Point", taken: Bool[Tensor, " K"]) -> "Point":
        """The new point for the chains that took it."""
        rows = taken[:, None]
        return Point(
            torch.where(rows, new.theta, self.theta),
            torch.where(taken, new.excess, self.excess),
            torch.where(rows, new.gradient, self.gradient),
        )


def langevin(
    potential: Potential,
    *,
    adjusted: bool,
    num_chains: int,
    num_steps: int,
    burn_in: int,
    step_size: float | None,
    generator: Generator,
) -> Chains:
    """Run the chains, each step `adjusted` by a Metropolis test or not; a test needs all examples.

    Without `step_size` it begins at 1 / the largest curvature of U at w* and is halved until a
    short trial is accepted by 0.6 on average; adjusted chains go on to adapt it in the burn-in.
    Memory: about 6 · K · P numbers beside the activations; with a batch size below N the data.
    """
    start = potential.risk.theta.expand(num_chains, -1).clone()
    step = _tuned(potential, start, generator) if step_size is None else step_size
    if adjusted:
        adapting = burn_in if step_size is None else 0
        return _adjusted(potential, start, step, burn_in, num_steps, adapting, generator)
    return _unadjusted(potential, start, step, burn_in, num_steps, generator)


def _adjusted(
    potential: Potential,
    start: Float[Tensor, "K P"],
    step: float,
    burn_in: int,
    num_steps: int,
    adapting: int,
    generator: Generator,
) -> Chains:
    point, kept, rates = potential.at(start, None), list[Tensor](), list[Tensor]()
    for count in range(burn_in + num_steps):
        new = potential.at(point.proposal(step, _normal(start, generator)), None)
        rate = potential.acceptance(point, new, step)
        drawn = torch.rand(len(start), generator=generator, device=generator.device)
        point = point.replaced(new, drawn.to(start.device) < rate)
        if count < adapting:
            step *= math.exp((float(rate.mean()) - _ACCEPTED) / math.sqrt(1 + count))
        if count >= burn_in:
            kept.append(point.excess)
            rates.append(rate)
    acceptance = float(torch.stack(rates).mean())
    return Chains(torch.stack(kept, dim=1), point.theta, step, acceptance, 0.0)


def _unadjusted(
    potential: Potential,
    start: Float[Tensor, "K P"],
    step: float,
    burn_in: int,
    num_steps: int,
    generator: Generator,
) -> Chains:
    theta, noise, kept = start, _normal(start, generator), list[Tensor]()
    for count in range(burn_in + num_steps):
        point = potential.at(theta, potential.draw(len(start), generator))
        if count >= burn_in:
            kept.append(point.excess)
        fresh = _normal(start, generator)
        theta, noise = point.proposal(step, noise.add_(fresh), scale=0.5), fresh
    acceptance = _trial(potential, theta, step, generator)
    bias = _minibatch_bias(potential, theta, step, generator)
    return Chains(torch.stack(kept, dim=1), theta, step, acceptance, bias)


def _tuned(potential: Potential, start: Float[Tensor, "K P"], generator: Generator) -> float:
    step = 1 / _largest_curvature(potential, start, generator)
    for _ in range(_HALVINGS):
        if _trial(potential, start, step, generator) >= _ACCEPTED:
            return step
        step /= 2
    raise InputError(
        "step_size", f"no step above {step:.1g} that holds", "a smooth loss", "give a step_size"
    )


def _trial(
    potential: Potential, theta: Float[Tensor, "K P"], step: float, generator: Generator
) -> float:
    """Mean acceptance of the later half of a few steps, each chain on examples of its own."""
    rows = potential.draw(len(theta), generator)
    point, rates = potential.at(theta, rows), list[Tensor]()
    for _ in range(_TRIAL_STEPS):
        new = potential.at(point.proposal(step, _normal(theta, generator)), rows)
        rates.append(potential.acceptance(point, new, step))
        point = new
    return float(torch.stack(rates[_TRIAL_STEPS // 2 :]).mean())


def _largest_curvature(
    potential: Potential, start: Float[Tensor, "K P"], generator: Generator
) -> float:
    """By power iteration on differences of gradients, a direction for each chain."""
    rows = potential.draw(len(start), generator)
    origin = potential.at(start, rows).gradient
    scale = torch.finfo(start.dtype).eps ** (1 / 3) * (1 + start.norm(dim=1, keepdim=True))
    found, direction = start.new_zeros(len(start), 1), _normal(start, generator)
    for _ in range(_POWER_STEPS):
        unit = direction / direction.norm(dim=1, keepdim=True)
        direction = (potential.at(start + scale * unit, rows).gradient - origin) / scale
        found = direction.norm(dim=1, keepdim=True)
        direction = torch.where(found > 0, direction, unit)
    largest = float(found.max())
    return largest if 0 < largest < math.inf else 1.0


def _minibatch_bias(
    potential: Potential, theta: Float[Tensor, "K P"], step: float, generator: Generator
) -> float:
    """step / 8 · E|∇U_B − ∇U|²: half the variance it adds along each curvature, times that one."""
    rows = [potential.draw(len(theta), generator) for _ in range(2)]
    if rows[0] is None:
        return 0.0
    one, other = (potential.at(theta, each).gradient.double() for each in rows)
    return step / 8 * float((one - other).square().sum(1).mean()) / 2


def _normal(like: Float[Tensor, "K P"], generator: Generator) -> Float[Tensor, "K P"]:
    """Drawn where the generator lives: the same chains on CPU and on CUDA."""
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def _excess(
    risk: EmpiricalRisk, theta: Float[Tensor, "K P"], rows: Int[Tensor, "K B"] | None
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K P"]]:
    """L(w) − L(w*) of the same examples, in float64, and the gradient of L."""
    if rows is not None:
        inputs, targets = risk.once("all data", risk.joined)
        excess, gradient = _sums(risk, theta, inputs[rows], targets[rows], shared=False)
        before = _losses_before(risk)[rows].sum(1)
        return (excess - before) / rows.shape[1], gradient.div_(rows.shape[1])
    total = torch.zeros_like(theta, dtype=torch.float64)
    value = -_losses_before(risk).sum().expand(len(theta))
    for inputs, targets in _chunks(risk, len(theta)):
        losses, gradient = _sums(risk, theta, inputs, targets, shared=True)
        value, total = value + losses, total + gradient
    return value / risk.num_examples, (total / risk.num_examples).to(theta.dtype)


def _losses_before(risk: EmpiricalRisk) -> Float[Tensor, " N"]:
    return risk.once("losses at theta", lambda: risk.example_losses().double())


def _chunks(risk: EmpiricalRisk, num_chains: int) -> Iterator[Batch]:
    """All examples, in one piece where that fits: small batches cost as much as larger ones."""
    numbers = num_chains * next(risk.batches())[0][0].numel()
    if numbers * risk.num_examples <= _NUMBERS:
        yield risk.once("all data", risk.joined)
        return
    for batch in risk.batches():
        parts = (tensor.split(max(1, _NUMBERS // numbers)) for tensor in batch)
        yield from zip(*parts, strict=True)


def _sums(
    risk: EmpiricalRisk,
    theta: Float[Tensor, "K P"],
    inputs: Tensor,
    targets: Tensor,
    *,
    shared: bool,
) -> tuple[Float[Tensor, " K"], Float[Tensor, "K P"]]:
    """Sum of the losses of `shared` examples [B, ...], or of [K, B, ...], and its gradient."""

    def one(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return risk.loss_sum(theta, (inputs, targets)).double()

    if len(theta) > 1 and runs_stacked(risk, inputs if shared else inputs[0]):
        axes = (0, None, None) if shared else (0, 0, 0)
        return _differentiated(torch.func.vmap(one, in_dims=axes), theta, inputs, targets)
    parts = [
        _differentiated(one, theta[k], *((inputs, targets) if shared else (inputs[k], targets[k])))
        for k in range(len(theta))
    ]
    values, gradients = zip(*parts, strict=True)
    return torch.stack(values), torch.stack(gradients)


def _differentiated(
    energy: Callable[..., Tensor], theta: Tensor, *data: Tensor
) -> tuple[Tensor, Tensor]:
    """Values, and from one backward pass of their sum the gradient of each."""
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        values = energy(theta, *data)
        (gradient,) = torch.autograd.grad(values.sum(), theta)
    return values.detach(), gradient
