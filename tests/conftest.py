import pytest
import torch
from cases import CASES, Case

torch.set_num_threads(1)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each of the tiny nets in turn."""
    return CASES[request.param]
