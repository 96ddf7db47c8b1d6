"""What is kept of a stack along training, against training anew for as many epochs."""

from dataclasses import replace

import pytest
import torch
from architectures import build, relative_error
from test_statistics import OPTIONS
from test_statistics import split as images
from training_loops import CE, NET, plan, split, starts

from gentheory import losses
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training import snapshots as module
from gentheory.training.loop import Plan, Trained, train
from gentheory.training.snapshots import Snapshots
from gentheory.training.stopping import CurvatureRule


def run(chosen: Plan, *checkpoints: int, first: int = 0, count: int | None = None) -> Trained:
    theta = starts(count or len(chosen.learning_rate))[first : first + len(chosen.learning_rate)]
    orders = [generator("order", first + m) for m in range(len(theta))]
    return train(NET, CE, theta, split(), chosen, orders, checkpoints=checkpoints)


def kept(trained: Trained) -> Snapshots:
    assert trained.snapshots is not None
    return trained.snapshots


def test_a_snapshot_is_what_training_for_so_many_epochs_gives():
    chosen = plan([0.3, 0.05, 0.1], epochs=6)
    trained = run(chosen, 0, 1, 3, 6)
    along = kept(trained)
    assert along.epochs == (0, 1, 3, 6)
    assert along.present.all()
    assert torch.equal(along.theta[0], starts(3))
    assert along.steps[0].tolist() == [0] * 3
    for place, epochs in enumerate(along.epochs[1:], 1):
        anew = run(replace(chosen, epochs=epochs))
        assert relative_error(along.theta[place], anew.theta) < 1e-12
        assert torch.equal(along.steps[place], anew.steps)
        assert torch.allclose(along.training_time[place], anew.training_time, rtol=1e-14)
    assert torch.equal(along.theta[-1], trained.theta)


def test_the_trajectory_is_that_of_a_training_which_ends_there():
    chosen = plan([0.3, 0.05, 0.1], epochs=9, keep_trajectory=True)
    trained = run(chosen, 1, 4, 9)
    along = kept(trained).trajectories
    for place, (epochs, reached) in enumerate([(1, 1), (4, 2), (9, 3)]):
        anew = run(replace(chosen, epochs=epochs))
        assert anew.trajectory is not None
        for m in range(3):
            found, wanted = along[epochs][m], anew.trajectory[m]
            assert relative_error(found.mean_residuals, wanted.mean_residuals) < 1e-12
            windows = found.windows()
            assert len(windows) == reached
            assert torch.equal(windows[-1].parameters, kept(trained).theta[place, m])
            assert float(found.time.sum()) == pytest.approx(float(anew.training_time[m]))
    assert trained.trajectory is not None
    for name, tensor in trained.trajectory.tensors().items():
        assert torch.equal(along[9].tensors()[name], tensor)


def test_no_trajectory_is_kept_unless_asked_for():
    assert kept(run(plan([0.1], epochs=2), 1, 2)).trajectories == {}


def test_keeping_changes_nothing():
    chosen = plan([0.3, 0.05], stop_at_loss=0.9)
    assert run(chosen).snapshots is None
    assert torch.equal(run(chosen).theta, run(chosen, 0, 2, 4).theta)


def test_a_stack_keeps_what_its_models_keep_alone():
    chosen = plan([0.3, 1e6, 0.01, 0.5], epochs=12, stop_at_loss=0.6)
    together = kept(run(chosen, 0, 2, 8, 12))
    for m in range(4):
        own = {
            name: getattr(chosen, name)[m : m + 1]
            for name in ("learning_rate", "momentum", "weight_decay")
        }
        alone = kept(run(replace(chosen, **own), 0, 2, 8, 12, first=m, count=4))
        assert torch.equal(alone.present[:, 0], together.present[:, m])
        here = together.present[:, m]
        assert relative_error(together.theta[here, m], alone.theta[here, 0]) < 1e-10
        assert torch.equal(together.steps[:, m], alone.steps[:, 0])


def test_trap_17_a_model_that_has_ended_is_absent_and_harms_nobody():
    chosen = plan([0.2, 1e200, 1e-3], epochs=30, stop_at_loss=0.6)
    trained = run(chosen, 0, 1, 5, 30)
    assert trained.outcomes == ("target", "diverged", "finished")
    along = kept(trained)
    last = [int(curve.isfinite().sum()) - 1 for curve in trained.curve.T]
    assert last[:2] == [pytest.approx(11, abs=4), 0]
    expected = [[epoch <= end for end in last] for epoch in along.epochs]
    assert along.present.tolist() == expected
    assert along.theta.isfinite().all(-1).tolist() == expected
    assert (along.steps[~along.present] == 0).all()


def test_a_model_is_there_at_the_epoch_in_which_it_reaches_its_target():
    chosen = plan([0.2, 1e-3], epochs=30, stop_at_loss=0.6)
    reached = int(run(chosen).curve[:, 0].isfinite().sum()) - 1
    along = kept(run(chosen, reached, reached + 1))
    assert along.present.tolist() == [[True, True], [False, True]]
    assert torch.equal(along.theta[0, 0], run(chosen).theta[0])


def test_a_model_that_goes_back_was_never_at_later_epochs():
    rule = CurvatureRule(ratio=1.0001, window=1, lag=2, start=0)
    chosen = plan([0.5, 1e-6], epochs=10, stop_at_curvature=rule)
    end = int(run(chosen).curve[:, 0].isfinite().sum()) - 1
    along = kept(run(chosen, end, end + 1, end + 2))
    assert run(chosen).outcomes[0] == "curvature"
    assert along.present.tolist() == [[True, True], [False, True], [False, True]]
    assert torch.equal(along.theta[0, 0], run(chosen).theta[0])
    assert along.theta[1:, 0].isnan().all()


def test_trap_1_running_statistics_are_those_of_the_epoch():
    nets = [build("resnet", OPTIONS, seed) for seed in range(2)]
    theta, still = torch.stack([flatten(net) for net in nets]), torch.zeros(2).double()

    def trained(epochs: int, *checkpoints: int) -> Trained:
        orders = [generator("order", m) for m in range(2)]
        settings = Plan(epochs, 4, still + 0.05, still, still)
        loss = losses.cross_entropy
        return train(nets[0], loss, theta, images(), settings, orders, checkpoints=checkpoints)

    along, anew = kept(trained(3, 1, 2)), trained(2)
    assert set(along.statistics) == set(anew.statistics) != set()
    for name, found in anew.statistics.items():
        assert relative_error(along.statistics[name][1].double(), found.double()) < 1e-12
        assert not torch.equal(along.statistics[name][0], found)


@pytest.mark.parametrize("epochs", [(1, 1), (2, 1), (-1,), (5,)])
def test_epochs_that_cannot_be_kept_are_refused(epochs: tuple[int, ...]):
    with pytest.raises(InputError, match="expected rising epochs between 0 and 4; correct them"):
        run(plan([0.1], epochs=4), *epochs)


def test_trap_39_what_cannot_fit_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch):
    needed = 2 * 3 * 100 * 8
    monkeypatch.setattr(module, "MAX_MEMORY", needed)
    run(plan([0.1] * 3), 1, 2)
    monkeypatch.setattr(module, "MAX_MEMORY", needed - 1)
    with pytest.raises(InputError, match=r"2 checkpoints .* ask for fewer checkpoints, or for a s"):
        run(plan([0.1] * 3), 1, 2)
    windows, examples, outputs = 3, len(split()), 3
    needed += 2 * 3 * windows * (1 + examples * (outputs + 1) + 100) * 8
    monkeypatch.setattr(module, "MAX_MEMORY", needed)
    run(plan([0.1] * 3, keep_trajectory=True), 1, 2)
    monkeypatch.setattr(module, "MAX_MEMORY", needed - 1)
    with pytest.raises(InputError, match=r"2 checkpoints .* ask for fewer checkpoints, or for a s"):
        run(plan([0.1] * 3, keep_trajectory=True), 1, 2)
