"""Probes: what they are made of, their covariance, and whose randomness they use."""

import pytest
import torch
from cases import operator_of

from gentheory.linalg import gaussian, rademacher
from gentheory.seeds import generator

LIKE = operator_of(torch.eye(6, dtype=torch.float64))
SINGLE = operator_of(torch.eye(6))


def test_rademacher_entries_are_signs():
    z = rademacher(50, LIKE, generator(0))
    assert z.shape == (50, 6)
    assert z.dtype == torch.float64
    assert z.unique().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("draw", [rademacher, gaussian])
def test_their_covariance_is_the_identity(draw):
    count = 20_000
    z = draw(count, LIKE, generator("covariance", draw.__name__))
    assert (z.mean(0) * count**0.5).abs().max() < 3.5
    products = z.T @ z / count - torch.eye(6, dtype=torch.float64)
    # Entries off the diagonal have a variance of 1, those on it of at most 2.
    assert (products * count**0.5).abs().max() < 4 * 2**0.5


@pytest.mark.parametrize("draw", [rademacher, gaussian])
def test_the_generator_alone_decides(draw):
    state = torch.get_rng_state()
    first, again = draw(3, LIKE, generator(1)), draw(3, LIKE, generator(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, draw(3, LIKE, generator(2)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("draw", [rademacher, gaussian])
def test_float32_probes_are_the_float64_ones_rounded(draw):
    single = draw(3, SINGLE, generator(1))
    assert single.dtype == torch.float32
    assert torch.equal(single, draw(3, LIKE, generator(1)).float())
