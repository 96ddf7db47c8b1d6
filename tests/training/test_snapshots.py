"""What is kept of a stack along training, against training anew for as many steps."""

from dataclasses import replace

import pytest
import torch
from architectures import build, relative_error
from test_statistics import OPTIONS
from test_statistics import split as images
from training_loops import BATCH, CE, NET, N, alone, by_torch, plan, split, starts

from gentheory import losses
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training import snapshots as module
from gentheory.training.loop import Plan, Trained, train
from gentheory.training.snapshots import Snapshots
from gentheory.training.stopping import CurvatureRule

STEPS = 3
"""Of an epoch."""


def ends(*epochs: int) -> tuple[int, ...]:
    """The steps at which these epochs end."""
    return tuple(STEPS * epoch for epoch in epochs)


def run(chosen: Plan, *checkpoints: int, first: int = 0, count: int | None = None) -> Trained:
    theta = starts(count or len(chosen.learning_rate))[first : first + len(chosen.learning_rate)]
    orders = [generator("order", first + m) for m in range(len(theta))]
    return train(NET, CE, theta, split(), chosen, orders, checkpoints=checkpoints)


def kept(trained: Trained) -> Snapshots:
    assert trained.snapshots is not None
    return trained.snapshots


def test_a_snapshot_is_what_training_for_so_many_epochs_gives():
    chosen = plan([0.3, 0.05, 0.1], epochs=6)
    trained = run(chosen, *ends(0, 1, 3, 6))
    along = kept(trained)
    assert along.steps == ends(0, 1, 3, 6)
    assert along.present.all()
    assert torch.equal(along.theta[0], starts(3))
    for place, step in enumerate(along.steps[1:], 1):
        anew = run(replace(chosen, epochs=step // STEPS))
        assert relative_error(along.theta[place], anew.theta) < 1e-12
        assert anew.steps.tolist() == [step] * 3
        assert torch.allclose(along.training_time[place], anew.training_time, rtol=1e-14)
    assert torch.equal(along.theta[-1], trained.theta)


def test_a_snapshot_inside_an_epoch_has_the_outputs_that_the_next_step_finds():
    chosen = plan([0.3, 0.05, 0.1], schedule="cosine")
    steps = (1, 2, 3, 4, 8, 11)
    along = kept(run(chosen, *steps))
    assert along.present.all()
    inputs = split().inputs.double()
    for m in range(3):
        way, effective = by_torch(starts(3)[m], chosen, m), 1 / (1 - float(chosen.momentum[m]))
        for place, step in enumerate(steps):
            look = way.looks[step]
            outputs = alone(along.theta[place, m])(inputs[look.examples])
            assert relative_error(outputs.detach(), look.outputs) < 1e-11
            time = sum(way.rates[:step]) * effective
            assert float(along.training_time[place, m]) == pytest.approx(time, rel=1e-12)


def test_the_trajectory_is_that_of_a_training_which_ends_there():
    chosen = plan([0.3, 0.05, 0.1], epochs=9, keep_trajectory=True)
    trained = run(chosen, 3, 10, 12, 27)
    along = kept(trained).trajectories
    # Inside an epoch not all examples have been seen.
    assert set(along) == {3, 12, 27}
    for place, epochs, reached in ((0, 1, 1), (2, 4, 2), (3, 9, 3)):
        anew = run(replace(chosen, epochs=epochs))
        assert anew.trajectory is not None
        for m in range(3):
            found, wanted = along[STEPS * epochs][m], anew.trajectory[m]
            assert relative_error(found.mean_residuals, wanted.mean_residuals) < 1e-12
            windows = found.windows()
            assert len(windows) == reached
            assert torch.equal(windows[-1].parameters, kept(trained).theta[place, m])
            assert float(found.time.sum()) == pytest.approx(float(anew.training_time[m]))
    assert trained.trajectory is not None
    for name, tensor in trained.trajectory.tensors().items():
        assert torch.equal(along[STEPS * 9].tensors()[name], tensor)


def test_no_trajectory_is_kept_unless_asked_for():
    assert kept(run(plan([0.1], epochs=2), 1, 2)).trajectories == {}


def test_keeping_changes_nothing():
    chosen = plan([0.3, 0.05], stop_at_loss=0.9)
    assert run(chosen).snapshots is None
    assert torch.equal(run(chosen).theta, run(chosen, 0, 1, 2, 6, 11, 12).theta)


def test_a_stack_keeps_what_its_models_keep_alone():
    chosen = plan([0.3, 1e6, 0.01, 0.5], epochs=12, stop_at_loss=0.6)
    steps = (0, 1, *ends(2), 16, *ends(8, 12))
    together = kept(run(chosen, *steps))
    for m in range(4):
        own = {
            name: getattr(chosen, name)[m : m + 1]
            for name in ("learning_rate", "momentum", "weight_decay")
        }
        single = kept(run(replace(chosen, **own), *steps, first=m, count=4))
        assert torch.equal(single.present[:, 0], together.present[:, m])
        here = together.present[:, m]
        assert relative_error(together.theta[here, m], single.theta[here, 0]) < 1e-10
        assert torch.equal(together.training_time[:, m], single.training_time[:, 0])


def test_trap_17_a_model_that_has_ended_is_absent_and_harms_nobody():
    chosen = plan([0.2, 1e200, 1e-3], epochs=30, stop_at_loss=0.6)
    trained = run(chosen, 0, 1, 2, *ends(1, 5), 3 * 29 + 1, *ends(30))
    assert trained.outcomes == ("target", "diverged", "finished")
    along = kept(trained)
    last = [int(curve.isfinite().sum()) - 1 for curve in trained.curve.T]
    assert last[:2] == [pytest.approx(11, abs=4), 0]
    expected = [[step <= STEPS * end for end in last] for step in along.steps]
    assert along.present.tolist() == expected
    assert along.theta.isfinite().all(-1).tolist() == expected
    assert (along.training_time[~along.present] == 0).all()


def test_trap_17_a_diverging_model_is_there_until_its_numbers_are_not_finite():
    chosen = plan([1e6, 1e-3], epochs=3, momentum=torch.zeros(2).double())
    trained = run(chosen, 1, 2, 3, 4)
    assert trained.outcomes == ("diverged", "finished")
    along = kept(trained)
    assert along.present.tolist() == [[True, True], [True, True], [False, True], [False, True]]
    assert kept(run(plan([1e200, 1e-3]), 1, 2)).present.tolist() == [[False, True]] * 2


def test_a_model_is_there_at_the_epoch_in_which_it_reaches_its_target():
    chosen = plan([0.2, 1e-3], epochs=30, stop_at_loss=0.6)
    reached = int(run(chosen).curve[:, 0].isfinite().sum()) - 1
    along = kept(run(chosen, *ends(reached), STEPS * reached + 1, *ends(reached + 1)))
    assert along.present.tolist() == [[True, True], [False, True], [False, True]]
    assert torch.equal(along.theta[0, 0], run(chosen).theta[0])


def test_a_model_that_goes_back_was_never_at_later_epochs():
    rule = CurvatureRule(ratio=1.0001, window=1, lag=2, start=0)
    chosen = plan([0.5, 1e-6], epochs=10, stop_at_curvature=rule)
    end = int(run(chosen).curve[:, 0].isfinite().sum()) - 1
    along = kept(run(chosen, *ends(end), STEPS * end + 1, *ends(end + 1, end + 2)))
    assert run(chosen).outcomes[0] == "curvature"
    assert along.present.tolist() == [[True, True]] + 3 * [[False, True]]
    assert torch.equal(along.theta[0, 0], run(chosen).theta[0])
    assert along.theta[1:, 0].isnan().all()


def test_trap_1_running_statistics_are_those_of_the_step():
    nets = [build("resnet", OPTIONS, seed) for seed in range(2)]
    theta, still = torch.stack([flatten(net) for net in nets]), torch.zeros(2).double()

    def trained(epochs: int, *checkpoints: int) -> Trained:
        orders = [generator("order", m) for m in range(2)]
        settings = Plan(epochs, 4, still + 0.05, still, still)
        loss = losses.cross_entropy
        return train(nets[0], loss, theta, images(), settings, orders, checkpoints=checkpoints)

    steps = -(-len(images()) // 4)
    along, anew = kept(trained(3, 1, steps, 2 * steps)), trained(2)
    assert set(along.statistics) == set(anew.statistics) != set()
    for name, found in anew.statistics.items():
        first, one, two = along.statistics[name].double()
        assert relative_error(two, found.double()) < 1e-12
        assert not torch.equal(one, two)
        assert not torch.equal(first, one)


def test_trap_1_the_first_step_is_training_on_the_first_batch_alone():
    nets = [build("resnet", OPTIONS, seed) for seed in range(2)]
    theta, still = torch.stack([flatten(net) for net in nets]), torch.zeros(2).double()
    chosen = Plan(1, BATCH, still + 0.05, still, still)

    def trained(*checkpoints: int, rows: torch.Tensor | None = None) -> Trained:
        orders = [generator("order", m) for m in range(2)]
        settings = {"checkpoints": checkpoints, "rows": rows}
        return train(nets[0], losses.cross_entropy, theta, images(), chosen, orders, **settings)

    drawn = [torch.randperm(len(images()), generator=generator("order", m)) for m in range(2)]
    along, anew = kept(trained(1)), trained(rows=torch.stack(drawn)[:, :BATCH])
    assert relative_error(along.theta[0].double(), anew.theta.double()) < 1e-5
    assert along.statistics.keys() == anew.statistics.keys() != set()
    for name, found in anew.statistics.items():
        assert relative_error(along.statistics[name][0].double(), found.double()) < 1e-5


@pytest.mark.parametrize("steps", [(1, 1), (2, 1), (-1,), (13,)])
def test_steps_that_cannot_be_kept_are_refused(steps: tuple[int, ...]):
    assert N == 2 * BATCH + 6
    with pytest.raises(InputError, match="expected rising steps between 0 and 12; correct them"):
        run(plan([0.1], epochs=4), *steps)


def test_trap_39_what_cannot_fit_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch):
    needed = 2 * 3 * 100 * 8
    monkeypatch.setattr(module, "MAX_MEMORY", needed)
    run(plan([0.1] * 3), 1, 2)
    monkeypatch.setattr(module, "MAX_MEMORY", needed - 1)
    with pytest.raises(InputError, match=r"2 checkpoints .* ask for fewer checkpoints, or for a s"):
        run(plan([0.1] * 3), 1, 2)
    windows, examples, outputs = 3, len(split()), 3
    needed += 2 * 3 * windows * (1 + examples * (outputs + 2) + 100) * 8
    monkeypatch.setattr(module, "MAX_MEMORY", needed)
    run(plan([0.1] * 3, keep_trajectory=True), 1, 2)
    monkeypatch.setattr(module, "MAX_MEMORY", needed - 1)
    with pytest.raises(InputError, match=r"2 checkpoints .* ask for fewer checkpoints, or for a s"):
        run(plan([0.1] * 3, keep_trajectory=True), 1, 2)
