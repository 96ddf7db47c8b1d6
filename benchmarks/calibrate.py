"""`python -m benchmarks.calibrate`: how many products an estimator of the trace needs for 1 %.

The peers' own estimators run on gentheory's products, `REPETITIONS` times for each number of
products, until their spread over the repetitions is at most 1 % of the trace. What it prints
stands in `trace.PRODUCTS`; nothing of it is timed.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import gentheory as gt
from benchmarks.nets import problem
from benchmarks.trace import EXAMPLES, RTOL
from gentheory.linalg import LinearOperator, hutchinson

REPETITIONS, PROBES = 12, 200


class Columns:
    """An operator that takes columns, as curvlinops and hessian-eigenthings want it."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device
        self.shape = (self.size, self.size)

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self.operator(columns.T.contiguous()).T

    def matvec(self, v: Tensor) -> Tensor:
        """For hessian-eigenthings."""
        return self.operator(v)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", default=list(EXAMPLES))
    with tempfile.TemporaryDirectory() as cache:
        for net in parser.parse_args().nets:
            work = problem(net, examples=EXAMPLES[net], device="cpu", cache=Path(cache))
            print(f'"{net}": {_needed(gt.hessian(work.risk()))},', flush=True)


def _needed(operator: LinearOperator) -> dict[str, int]:
    from curvlinops import xtrace
    from hessian_eigenthings import hutch_plus_plus

    columns = Columns(operator)
    samples = hutchinson(operator, num_probes=PROBES, generator=torch.Generator().manual_seed(1))
    trace = float(samples.mean())
    print(f"  one probe: {float(samples.std()) / trace:.2%}", flush=True)
    return {
        "hutchinson": int((samples.std() / (RTOL * trace)) ** 2) + 1,
        "hutch++": _least(
            trace,
            lambda count, seed: hutch_plus_plus(columns, num_matvecs=count, seed=seed).estimate,
        ),
        "xtrace": _least(trace, lambda count, _: float(xtrace(columns, count))),
    }


def _least(trace: float, estimate) -> int:
    """The first of 24, 36, 48, 72, ... products whose spread is small enough."""
    for count in (step * 2**power for power in range(8) for step in (24, 36)):
        torch.manual_seed(count)
        found = torch.tensor([estimate(count, seed) for seed in range(REPETITIONS)])
        print(f"  {count} products: {float(found.std()) / trace:.2%}", flush=True)
        if found.std() <= RTOL * trace:
            return count
    raise RuntimeError("no convergence")


if __name__ == "__main__":
    main()
