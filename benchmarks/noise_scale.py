"""PAC-Bayes σ: the noise on the parameters that costs a tenth of the accuracy, from 32 draws."""

import copy
import math

import torch
from torch import Tensor

import gentheory as gt
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem

DRAWS, DROP, BISECTIONS = 32, 0.1, 15
LOW, HIGH = 1e-3, 1.0
"""Where bisection starts: 15 halvings of a ratio of 1,000 leave one of 1.0002."""
RESOLUTION = 0.05
"""Two or three standard errors of σ: beyond them, bisection resolves the noise of the draws."""


def ours(problem: Problem) -> Job:
    name = "pac_bayes.sigma"
    options = {"drop": DROP, "num_draws": DRAWS}

    def run() -> gt.Estimate:
        return gt.measure(problem.risk(), [name], options={name: options})[name]

    return Job(run, lambda found: torch.tensor(found.value))


def bisections(problem: Problem) -> Job:
    return _loop(problem, BISECTIONS)


def resolved(problem: Problem) -> Job:
    return _loop(problem, math.ceil(math.log2(math.log(HIGH / LOW) / math.log1p(RESOLUTION))))


def _loop(problem: Problem, steps: int) -> Job:
    """Copies of the net, a draw at a time; the same draws at every σ."""

    @torch.no_grad()
    def accuracy(model: torch.nn.Module) -> float:
        return float((model(problem.x).argmax(1) == problem.y).double().mean())

    @torch.no_grad()
    def noisy(sigma: float, seed: int) -> float:
        model = copy.deepcopy(problem.model)
        generator = torch.Generator(problem.device).manual_seed(seed)
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator, device=p.device)
            p.add_(noise, alpha=sigma)
        return accuracy(model)

    def run() -> Tensor:
        low, high = LOW, HIGH
        target = accuracy(problem.model) - DROP
        for _ in range(steps):
            middle = math.sqrt(low * high)
            mean = sum(noisy(middle, seed) for seed in range(DRAWS)) / DRAWS
            low, high = (middle, high) if mean > target else (low, middle)
        return torch.tensor(math.sqrt(low * high))

    return Job(run)


COMPARISONS = [
    Comparison(
        work="noise that costs a tenth of the accuracy, 32 draws",
        net=net,
        examples=500,
        contestants={OURS: ours, "15 bisections": bisections, "to 5 %": resolved},
        target=1.5,
        tolerance=0.1,
        notes={
            "15 bisections": "copy, perturb, count, draw after draw",
            "to 5 %": "the same, until σ is known to 5 %, the resolution of 32 draws",
        },
    )
    for net in ("mlp", "cnn")
]
