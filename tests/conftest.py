import math

import pytest
import torch
from cases import CASES, Case

from gentheory.curvature import linearized

torch.set_num_threads(1)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the tiny nets in turn."""
    return CASES[request.param]


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing costs more than all the products of so small a net."""
    monkeypatch.setattr(linearized, "_TRACING", math.inf)
