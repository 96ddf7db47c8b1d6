"""Margins of a net whose outputs are known."""

import math

import numpy as np
import pytest
import torch
from cases import CASES
from torch import nn

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import margins
from gentheory.seeds import generator


def separated(shift: float) -> Checkpoint:
    """Identity on two inputs: the margin of example i is (i + 1) / 10 + shift."""
    net = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(2 * torch.eye(2))
    sizes = (torch.arange(1, 101, dtype=torch.float64) / 10 + shift) / 2
    inputs = torch.stack([sizes, torch.zeros_like(sizes)], 1)
    return Checkpoint(
        gt.EmpiricalRisk(net, "cross_entropy", (inputs, torch.zeros(100).long()), batch_size=7)
    )


def test_the_value_is_the_tenth_percentile_with_its_sign():
    expected = np.quantile(np.arange(1, 101) / 10, 0.1)
    for shift in (0.0, -5.0):
        estimate = margins.output(separated(shift), generator=generator(0))
        assert estimate.value == pytest.approx(expected + shift)
        # Density 1/10 of a uniform distribution: √(0.1 · 0.9 / 100) / 0.1.
        assert estimate.stderr == pytest.approx(0.3, rel=0.1)
    assert estimate.stats["share_not_positive"] == 0.5
    assert estimate.stats["mean"] == pytest.approx(0.05)
    assert estimate.stats["quantiles"] == sorted(estimate.stats["quantiles"])


def test_another_share():
    estimate = margins.output(separated(0), share=0.5, generator=generator(0))
    assert estimate.value == pytest.approx(5.05)
    with pytest.raises(gt.InputError, match=r"margins\.output\.share: found 1.5"):
        margins.output(separated(0), share=1.5, generator=generator(0))


def test_normalized_by_the_product_of_spectral_norms():
    estimate = margins.normalized(separated(0), generator=generator(0))
    own = margins.output(separated(0), generator=generator(0))
    assert estimate.value == pytest.approx(own.value / 2)
    assert estimate.stderr == pytest.approx(own.stderr / 2)
    assert estimate.stats["quantiles"] == pytest.approx([q / 2 for q in own.stats["quantiles"]])


def test_normalized_margins_do_not_change_with_the_scale_of_a_layer():
    risk = CASES["mlp"].risk()
    scaled = CASES["mlp"].module
    with torch.no_grad():
        for layer in (scaled[0], scaled[2], scaled[4]):
            layer.bias.zero_()
    plain = gt.EmpiricalRisk(scaled, "cross_entropy", CASES["mlp"].data)
    with torch.no_grad():
        scaled[2].weight.mul_(3)
    larger = gt.EmpiricalRisk(scaled, "cross_entropy", CASES["mlp"].data)
    one, other = (
        margins.normalized(Checkpoint(r), generator=generator(0)).value for r in (plain, larger)
    )
    assert one == pytest.approx(other)
    assert risk.num_params == plain.num_params


def test_inverse_square_and_its_error():
    own = margins.output(separated(0), generator=generator(0))
    estimate = margins.inverse_square(separated(0), generator=generator(0))
    assert estimate.value == pytest.approx(own.value**-2)
    assert estimate.stderr == pytest.approx(2 * own.stderr / own.value**3)
    assert estimate.stats["as_reported"] == pytest.approx(math.sqrt(estimate.value / 100))


def test_a_negative_margin_is_not_made_positive():
    with pytest.raises(gt.InputError, match=r"margins\.inverse_square: found a 10th percentile"):
        margins.inverse_square(separated(-5), generator=generator(0))
