"""The loss over a plane of parameters: ours against a plain loop over the points of the grid."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.contest import OURS, Comparison, Job
from benchmarks.nets import Problem
from gentheory.landscape import directions, slices

POINTS, LARGE = 11, 51
"""Of a side of the grid."""
EXAMPLES = 1000
SECONDS = 90.0


def ours(problem: Problem) -> Job:
    return _ours(problem, POINTS)


def ours_large(problem: Problem) -> Job:
    return _ours(problem, LARGE)


def _ours(problem: Problem, points: int) -> Job:
    ways, places = _directions(problem), _places(points)

    def run() -> Tensor:
        table = slices.plane(problem.risk(), ways, first=places, second=places)
        return torch.tensor(table["loss"].to_numpy())

    return Job(run)


def loop(problem: Problem) -> Job:
    """The net's parameters set to each point in turn, all examples in one batch."""
    own, places = problem.own(), _places(POINTS)
    layout = problem.risk().layout
    first, second = (layout.unflatten(way) for way in _directions(problem))
    named = dict(own.model.named_parameters())
    centre = {name: p.detach().clone() for name, p in named.items()}

    @torch.no_grad()
    def point(a: float, b: float) -> Tensor:
        for name, p in named.items():
            p.copy_(centre[name] + a * first[name] + b * second[name])
        outputs = own.model(own.x)
        (outputs.argmax(1) == own.y).double().mean()
        return F.cross_entropy(outputs, own.y).double()

    return Job(lambda: torch.stack([point(a, b) for a in places for b in places]))


def _directions(problem: Problem) -> Tensor:
    return directions.filter_normalized(problem.risk(), problem.vectors(2))


def _places(points: int) -> list[float]:
    return torch.linspace(-1, 1, points, dtype=torch.float64).tolist()


COMPARISONS = [
    *(
        Comparison(
            work=f"loss over a plane of {POINTS} x {POINTS} points",
            net=net,
            contestants={OURS: ours, "loop": loop},
            target=target,
            examples=EXAMPLES,
            notes={"loop": "set the parameters, all examples in one batch, point after point"},
        )
        for net, target in (("cnn", 2.0), ("mlp", 1.0))
    ),
    Comparison(
        work=f"loss over a plane of {LARGE} x {LARGE} points, in seconds",
        net="cnn",
        contestants={OURS: ours_large},
        target=SECONDS,
        examples=EXAMPLES,
    ),
]
