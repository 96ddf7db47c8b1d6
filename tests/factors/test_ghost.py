"""Inner products of per-example gradients against gradients from a loop."""

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error

import gentheory as gt
from gentheory.factors import example_grams, gradient_norms
from gentheory.factors.capture import Factor, capture, explain
from gentheory.factors.ghost import factor_gram
from gentheory.factors.passes import output_captures
from gentheory.seeds import generator


def test_ghost_norms_are_those_of_looped_gradients(case: Case):
    dense = truth(case.name)
    data_part = dense.gradients - case.weight_decay * dense.theta
    found = gradient_norms(case.risk())
    assert found.dtype == torch.float64
    assert relative_error(found, data_part.square().sum(1)) < 1e-10


def test_grams_are_products_of_looped_jacobians(case: Case):
    grams = torch.cat([example_grams(captured) for _, captured in output_captures(case.risk())])
    jacobians = truth(case.name).jacobians
    assert relative_error(grams, jacobians @ jacobians.mT) < 1e-10


@pytest.mark.parametrize("positions", [1, 2, 50])
@pytest.mark.parametrize("groups", [1, 3])
def test_both_ways_of_a_gram_agree(positions: int, groups: int):
    """Few positions: products of positions. Many: the gradient itself is smaller."""
    stream, shape = generator("gram", positions, groups), {"dtype": torch.float64}
    a = torch.randn(groups, 4, positions, 6, generator=stream, **shape)
    g = torch.randn(groups, 2, 4, positions, 5, generator=stream, **shape)
    rows = torch.zeros(2, 4, groups * 5 * 6, dtype=torch.float64)
    for k in range(2):
        for b in range(4):
            parts = [
                sum(torch.outer(g[n, k, b, t], a[n, b, t]) for t in range(positions))
                for n in range(groups)
            ]
            rows[k, b] = torch.stack(parts).flatten()
    factor = Factor(a, g)
    assert relative_error(factor.dense(), rows) < 1e-13
    assert relative_error(factor_gram(factor), torch.einsum("kbp,jbp->bkj", rows, rows)) < 1e-13


def test_trap_4_norms_do_not_depend_on_the_batches():
    case = CASES["grouped conv"]
    one, many = (gradient_norms(case.risk(batch_size=b)) for b in (1, 100))
    assert relative_error(one, many) < 1e-12


def test_trap_30_float32_norms_are_summed_in_float64():
    found = gradient_norms(CASES["conv"].risk(dtype=torch.float32))
    expected = truth("conv").gradients.square().sum(1)
    assert found.dtype == torch.float64
    assert relative_error(found, expected) < 1e-5


def test_trap_3_weight_decay_is_left_out_of_the_norms():
    plain, decayed = (gradient_norms(CASES["mlp"].risk(weight_decay=w)) for w in (0.0, 3.0))
    assert torch.equal(plain, decayed)


def test_a_frozen_net_but_for_one_bias():
    net = CASES["mlp"].module.requires_grad_(False)
    net[2].bias.requires_grad_(True)
    risk = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)
    jacobians = truth("mlp").jacobians[:, :, 5 * 7 + 7 + 7 * 5 : 5 * 7 + 7 + 7 * 5 + 5]
    x = CASES["mlp"].data[0]
    eye = torch.eye(3, dtype=torch.float64)[:, None].expand(-1, len(x), -1)
    found = example_grams(capture(risk, x, lambda _: eye, explained=explain(risk, x)))
    assert relative_error(found, jacobians @ jacobians.mT) < 1e-12
