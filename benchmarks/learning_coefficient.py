"""Local learning coefficient: four chains of 300 Langevin steps in batches of 100, nβ = N / log N.

devinterp's own `sample` takes sequences of tokens alone, and writes each draw to disk: its sampler
runs here in the shortest loop there is, chain after chain, in eval mode and with the initial loss
of all examples. Step, γ, burn-in and nβ are the same for both.
"""

import copy
import math

import torch
from torch import Tensor
from torch.nn import functional as F

import gentheory as gt
from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem
from gentheory.stats.chains import chain_mean

CHAINS, DRAWS, BURN_IN, BATCH = 4, 200, 100, 100
STEP, LOCALIZATION = 1e-5, 1000.0
"""The pull forgets within 1 / (STEP · LOCALIZATION) = 100 steps, so that short chains arrive."""


def ours(problem: Problem) -> Job:
    options = {
        "num_chains": CHAINS,
        "num_steps": DRAWS,
        "burn_in": BURN_IN,
        "batch_size": BATCH,
        "step_size": STEP,
        "localization": LOCALIZATION,
    }
    name = "singular.learning_coefficient"

    def run() -> gt.Estimate:
        return gt.measure(problem.risk(), [name], options={name: options})[name]

    return Job(run, lambda found: torch.tensor([found.value, found.stderr]))


def devinterp(problem: Problem) -> Job:
    from devinterp.optim import SGMCMC

    count = len(problem.x)
    nbeta = count / math.log(count)

    def chain(generator: torch.Generator) -> list[float]:
        model = copy.deepcopy(problem.model)
        sampler = SGMCMC.sgld(model.parameters(), lr=STEP, nbeta=nbeta, localization=LOCALIZATION)
        losses = []
        for _ in range(BURN_IN + DRAWS):
            rows = torch.randint(count, (BATCH,), generator=generator).to(problem.device)
            loss = F.cross_entropy(model(problem.x[rows]), problem.y[rows])
            sampler.zero_grad()
            loss.backward()
            sampler.step()
            losses.append(loss.detach())
        return torch.stack(losses[BURN_IN:]).tolist()

    def run() -> Tensor:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            initial = F.cross_entropy(problem.model(problem.x), problem.y)
        draws = torch.tensor([chain(generator) for _ in range(CHAINS)])
        return nbeta * (draws - initial.cpu())

    return Job(run, _mean)


def _mean(draws: Tensor) -> Tensor:
    """λ̂ and its standard error, autocorrelation counted, as ours has it."""
    found = chain_mean(draws.numpy())
    return torch.tensor([found.value, found.stderr])


def errors_apart(found: Tensor, expected: Tensor) -> float:
    """The difference of two estimates in standard errors of that difference."""
    return float((found[0] - expected[0]).abs() / torch.hypot(found[1], expected[1]))


COMPARISONS = [
    Comparison(
        work="local learning coefficient, 4 chains of 300 steps",
        net="small",
        contestants={OURS: ours, "devinterp": devinterp},
        target=1.5,
        difference=errors_apart,
        tolerance=4.0,
        notes={"devinterp": "SGMCMC.sgld in eval mode, chain after chain, without writing draws"},
    )
]
