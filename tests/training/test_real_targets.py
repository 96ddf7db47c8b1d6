"""Training and evaluation of stacks on real targets, against loops."""

import torch
from torch.nn import functional as F
from training_loops import plan

from gentheory import losses, models
from gentheory.data import polynomial
from gentheory.params import flatten, load_flat
from gentheory.seeds import generator
from gentheory.training.evaluate import evaluate, example_losses
from gentheory.training.loop import train

TRAIN, TEST = polynomial(num_train=20, num_test=9, num_features=4, seed=0)
NET = models.build("committee", shape=(4,), num_classes=1, seed=0, options={"width": 6}).double()
START = torch.stack([flatten(NET), 0.5 * flatten(NET)])


def test_a_stack_learns_as_a_loop_over_its_models_does():
    chosen = plan([0.3, 0.1], epochs=3, batch_size=20, weight_decay=torch.zeros(2))
    orders = [generator(m) for m in range(2)]
    found = train(NET, losses.mse, START, TRAIN, chosen, orders)
    x, y = TRAIN.inputs.double(), TRAIN.targets.double()
    for m, momentum in enumerate((0.0, 0.9)):
        load_flat(NET, START[m])
        rate = float(chosen.learning_rate[m])
        optimizer = torch.optim.SGD(NET.parameters(), lr=rate, momentum=momentum)
        for epoch in range(3):
            loss = F.mse_loss(NET(x), y)
            torch.testing.assert_close(found.curve[epoch, m], loss.detach(), rtol=1e-6, atol=0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(found.theta[m], flatten(NET), rtol=1e-6, atol=1e-8)
    load_flat(NET, START[0])


def test_losses_are_means_of_squares_and_there_is_no_accuracy():
    found = evaluate(NET, losses.mse, START, TRAIN, TEST)
    for m, theta in enumerate(START):
        load_flat(NET, theta)
        for split, value in ((TRAIN, found.train_loss), (TEST, found.test_loss)):
            expected = F.mse_loss(NET(split.inputs.double()), split.targets.double()).detach()
            torch.testing.assert_close(value[m], expected, rtol=1e-6, atol=0)
    assert found.train_accuracy.isnan().all()
    assert found.test_accuracy.isnan().all()
    load_flat(NET, START[0])


def test_rows_take_the_targets_with_them():
    rows = torch.tensor([[3, 1], [0, 7]])
    data = (TRAIN.inputs, TRAIN.targets)
    whole, _ = example_losses(NET, losses.mse, START, *data)
    own, _ = example_losses(NET, losses.mse, START, *data, rows)
    torch.testing.assert_close(own, whole.gather(1, rows))


def test_a_trajectory_of_real_targets_has_residuals_and_no_margins():
    chosen = plan([0.1, 0.1], epochs=2, keep_trajectory=True)
    found = train(NET, losses.mse, START, TRAIN, chosen, [generator(m) for m in range(2)])
    assert found.trajectory is not None
    assert found.trajectory.margins is None
    assert found.trajectory.residuals.shape == (2, 2, 20, 1)
    assert found.trajectory.residuals.isfinite().all()
