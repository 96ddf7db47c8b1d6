"""What training keeps of its way, against a loop that looks at every batch before each step."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cases import CASES, smoothed
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F
from training_loops import CE, N, Way, by_torch, plan, run, split, starts

from gentheory import losses
from gentheory.seeds import generator
from gentheory.training.loop import train
from gentheory.trajectory import Trajectory

Y = F.one_hot(split().targets).double()
MEANS = {
    "cross_entropy": F.cross_entropy,
    "mse": lambda f, y: F.mse_loss(f, F.one_hot(y, 3).double()),
    "smoothed": lambda f, y: smoothed(f, y).mean(),
}
RESIDUALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda f, y: f.softmax(-1) - y,
    "mse": lambda f, y: 2 / 3 * (f - y),
    "smoothed": lambda f, y: f.softmax(-1) - 0.9 * y - 0.1 / 3,
}


def trace(name: str, f: Tensor) -> float:
    return 2.0 if name == "mse" else float(1 - f.softmax(-1).square().sum())


def by_hand(way: Way, ends: list[int], momentum: float, name: str = "cross_entropy") -> Trajectory:
    """Means over the looks of each window, one example at a time."""
    start, windows = 0, []
    for end in ends:
        time, mass = 0.0, torch.zeros(N).double()
        residuals, (traces, margins) = torch.zeros(N, 3).double(), torch.zeros(2, N).double()
        for look in way.looks:
            if not start < look.epoch <= end:
                continue
            duration = look.rate / (1 - momentum)
            time += duration
            for i, f in zip(look.examples, look.outputs, strict=True):
                mass[i] += duration
                residuals[i] += duration * RESIDUALS[name](f, Y[i])
                traces[i] += duration * trace(name, f)
                margins[i] += duration * (f[Y[i] == 1] - f[Y[i] == 0].max())[0]
        means = (residuals / mass[:, None], traces / mass, way.ends[end - 1], margins / mass)
        windows.append((time, *means))
        start = end
    times, *rest = zip(*windows, strict=True)
    return Trajectory(torch.tensor(times, dtype=torch.float64), *map(torch.stack, rest))


def close(one: Trajectory, other: Trajectory, tolerance: float) -> bool:
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return all(relative_error(a, b) < tolerance for a, b in pairs)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
    ("epochs", "ends"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [2, 3, 6]), (9, [3, 5, 9])]
)
def test_every_window_is_the_loop_s(schedule: str, epochs: int, ends: list[int]):
    theta = starts(3)
    chosen = plan([0.3, 0.05, 0.1], epochs=epochs, schedule=schedule, keep_trajectory=True)
    trained = run(theta, chosen)
    kept = trained.trajectory
    assert kept is not None
    assert kept.time.shape == (3, len(ends))
    for m in range(3):
        momentum = float(chosen.momentum[m].double())
        wanted = by_hand(by_torch(theta[m], chosen, m), ends, momentum)
        assert close(kept[m], wanted, 1e-10)
        assert kept[m].time.sum().item() == pytest.approx(trained.training_time[m].item())
        assert torch.equal(kept[m].parameters[-1], trained.theta[m])


@pytest.mark.parametrize("name", ["mse", "smoothed"])
def test_other_losses_have_their_own_residuals_and_traces(name: str):
    theta, chosen = starts(1), plan([0.1], epochs=4, keep_trajectory=True)
    loss = losses.mse if name == "mse" else losses.resolve(smoothed)
    kept = run(theta, chosen, loss=loss).trajectory
    assert kept is not None
    wanted = by_hand(by_torch(theta[0], chosen, 0, MEANS[name]), [1, 2, 4], 0.0, name)
    assert close(kept[0], wanted, 1e-10)


def test_a_model_that_stops_early_has_no_time_in_later_windows():
    theta = starts(2)
    chosen = plan([0.2, 1e-3], epochs=30, stop_at_loss=0.6, keep_trajectory=True)
    trained = run(theta, chosen)
    assert trained.outcomes == ("target", "finished")
    kept, last = trained.trajectory, int(trained.curve[:, 0].isfinite().sum()) - 1
    assert kept is not None
    assert 8 < last < 15  # in the second of the windows, which end at 8, 15 and 30
    wanted = by_hand(by_torch(theta[0], replace(chosen, epochs=last), 0), [8, last], 0.0)
    reached = kept[0].windows()
    assert len(reached) == 2
    for window, index in zip(reached, range(2), strict=True):
        assert close(window, wanted[index], 1e-10)
    assert torch.equal(reached[-1].parameters, trained.theta[0])
    assert kept[0].time[2] == 0
    assert kept[0].residuals[2].isnan().all()
    assert kept[0].traces[2].isnan().all()
    assert len(kept[1].windows()) == 3


def test_trap_17_a_model_that_diverges_spoils_only_its_own():
    theta = starts(3)
    healthy, sick = (
        run(theta, plan([0.1, rate, 0.2], keep_trajectory=True)) for rate in (0.1, 1e200)
    )
    assert sick.outcomes == ("finished", "diverged", "finished")
    assert sick.trajectory is not None
    assert healthy.trajectory is not None
    assert not sick.trajectory[1].residuals.isfinite().all()
    for m in (0, 2):
        one, other = (run.trajectory[m].tensors() for run in (sick, healthy))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_is_kept_unless_asked_for():
    assert run(starts(1), plan([0.1])).trajectory is None


def test_training_is_the_same_whether_its_way_is_kept():
    theta, chosen = starts(2), plan([0.3, 0.05])
    plain, kept = (run(theta, replace(chosen, keep_trajectory=keep)) for keep in (False, True))
    assert torch.equal(plain.theta, kept.theta)
    assert torch.equal(plain.training_time, kept.training_time)


def test_the_way_costs_no_forward_pass_but_one_of_a_single_example():
    sizes: list[int] = []
    net = CASES["mlp"].module
    net.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    counts = []
    for keep in (False, True):
        sizes.clear()
        orders = [generator("order", m) for m in range(2)]
        train(net, CE, starts(2), split(), plan([0.1, 0.2], keep_trajectory=keep), orders)
        counts.append(sorted(sizes))
    plain, kept = counts
    assert len(plain) == 1 + 4 * (3 + 1)  # a look before, then 3 steps and a look an epoch
    assert kept == [1, *plain]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_have_the_dtype_of_the_parameters_and_are_summed_in_float64(dtype: torch.dtype):
    theta = starts(1)
    chosen = plan([0.1], keep_trajectory=True)
    kept, exact = (run(start, chosen).trajectory for start in (theta.to(dtype), theta))
    assert kept is not None
    assert exact is not None
    assert (kept.residuals.dtype, kept.traces.dtype, kept.parameters.dtype) == (dtype,) * 3
    assert kept.time.dtype == torch.float64
    assert math.isclose(float(kept.time.sum()), 12 * 0.1, rel_tol=1e-14)
    assert close(kept, exact, 1e-5)
