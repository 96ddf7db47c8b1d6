"""Schedules against torch's schedulers and by hand."""

import pytest
import torch
from torch.optim import lr_scheduler as torch_s

from gentheory.training.schedule import Schedule, factors

TOTAL = 20


def by_torch(make: object, total: int = TOTAL) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)  # pyright: ignore
    found: list[float] = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("constant", lambda o: torch_s.ConstantLR(o, 1.0)),
        ("cosine", lambda o: torch_s.CosineAnnealingLR(o, TOTAL)),
        ("linear", lambda o: torch_s.LinearLR(o, 1.0, 0.0, TOTAL)),
        ("step", lambda o: torch_s.MultiStepLR(o, [6, 14], 0.2)),
    ],
)
def test_parity_with_torch(schedule: Schedule, make: object):
    found = factors(schedule, TOTAL, step_factor=0.2, step_shares=(0.3, 0.7))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(by_torch(make), rel=1e-12)


def test_warm_up_comes_first_and_the_schedule_has_the_rest():
    found = factors("cosine", TOTAL, warm_up=4)

    def make(o: torch.optim.Optimizer) -> torch_s.LRScheduler:
        rising = torch_s.LinearLR(o, 1 / 4, 1.0, 3)
        falling = torch_s.CosineAnnealingLR(o, TOTAL - 4)
        return torch_s.SequentialLR(o, [rising, falling], [4])

    assert found.tolist() == pytest.approx(by_torch(make), rel=1e-12)
    assert found[:5].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_nothing_but_warm_up():
    assert factors("linear", 3, warm_up=3).tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_a_step_by_hand():
    found = factors("step", 10, step_factor=0.5, step_shares=(0.3, 0.3, 0.9))
    assert found.tolist() == [1.0] * 3 + [0.25] * 6 + [0.125]
