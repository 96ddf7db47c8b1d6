"""SAF against a loop over one plain torch module that keeps every epoch's outputs."""

import pytest
import torch
from oracle import relative_error
from torch import Tensor
from torch.nn import functional as F
from training_loops import BATCH, N, alone, plan, run, split, starts

from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training import saf
from gentheory.training.plan import Plan

WEIGHT, TEMPERATURE = [0.3, 2.0, 0.0], [5.0, 1.0, 2.0]


def chosen(*, epochs: int = 8, start: int = 2, delay: int = 3) -> Plan:
    own = {
        "saf_weight": torch.tensor(WEIGHT, dtype=torch.float64),
        "saf_temperature": torch.tensor(TEMPERATURE, dtype=torch.float64),
    }
    settings = {"epochs": epochs, "saf_start": start, "saf_delay": delay}
    return plan([0.1, 0.05, 0.2], optimizer="saf", own=own, **settings)


@pytest.mark.parametrize(("start", "delay"), [(2, 3), (5, 1), (1, 2)])
def test_a_stack_goes_as_a_plain_loop_does(start: int, delay: int):
    theta, settings = starts(3), chosen(start=start, delay=delay)
    trained = run(theta, settings)
    for m in range(3):
        assert relative_error(trained.theta[m], by_hand(theta[m], settings, m)) < 1e-10


def by_hand(theta: Tensor, settings: Plan, m: int) -> Tensor:
    net = alone(theta)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=float(settings.learning_rate[m]),
        momentum=float(settings.momentum[m]),
        weight_decay=float(settings.weight_decay[m]),
    )
    data, order, tau = split(), generator("order", m), TEMPERATURE[m]
    history: list[dict[int, Tensor]] = []
    for epoch in range(1, settings.epochs + 1):
        history.append({})
        for index in torch.randperm(N, generator=order).split(BATCH):
            outputs = net(data.inputs[index].double())
            loss = F.cross_entropy(outputs, data.targets[index])
            if epoch > max(settings.saf_start, settings.saf_delay):
                seen = history[epoch - 1 - settings.saf_delay]
                old = torch.stack([seen[i] for i in index.tolist()])
                logs = [F.log_softmax(each / tau, dim=1) for each in (outputs, old)]
                gap = F.kl_div(*logs, reduction="batchmean", log_target=True)
                loss = loss + WEIGHT[m] * gap
            history[-1] |= dict(zip(index.tolist(), outputs.detach(), strict=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return flatten(net)


def test_before_its_start_saf_is_sgd():
    theta = starts(3)
    found, reference = run(theta, chosen(epochs=3)), run(theta, plan([0.1, 0.05, 0.2], epochs=3))
    assert relative_error(found.theta, reference.theta) < 1e-12


def test_extreme_outputs_have_a_finite_divergence():
    """Where the softmax is 0 in float64, its logarithm is not taken."""
    far = torch.tensor([[2000.0, 0.0, -2000.0]], dtype=torch.float64)
    near = far.flip(1).requires_grad_()
    value = saf.divergence(far, near, 1.0)
    (slope,) = torch.autograd.grad(value, near)
    assert value.item() == 4000
    assert slope.tolist() == [[-1.0, 0.0, 1.0]]


def test_memory_is_refused_before_it_is_taken():
    one = torch.ones(2, 1)
    message = r"optimizer saf: found 8\.9 GiB of outputs .* at most 4 GiB; choose smaller stacks"
    with pytest.raises(InputError, match=message):
        saf.Memory.of((3, 2, 400_000_000, 1), 5, one, one)


def test_a_model_that_leaves_does_not_mix_up_the_memories():
    """The first diverges at once: the others' outputs are found where they were put."""
    theta, settings = starts(3), chosen(epochs=6)
    sick = theta.clone()
    sick[0] = torch.nan
    found, healthy = run(sick, settings), run(theta, settings)
    assert found.outcomes == ("diverged", "finished", "finished")
    assert relative_error(found.theta[1:], healthy.theta[1:]) < 1e-12
