"""The Fisher with sampled targets: one fixed matrix, unbiased over draws."""

import math
from functools import partial

import pytest
import torch
from cases import CASES, truth
from oracle import relative_error
from scipy import stats

from gentheory.curvature import fisher, sampled_fisher
from gentheory.errors import InputError
from gentheory.seeds import generator


@pytest.mark.parametrize("name", ["mlp", "gelu residual"])
def test_sampled_fisher_is_unbiased(name: str):
    case, seeds = CASES[name], 400
    risk, expected = case.risk(weight_decay=0.0, batch_size=12), truth(name).fisher
    expected = expected - case.weight_decay * torch.eye(len(expected), dtype=expected.dtype)
    u = torch.randn(len(expected), generator=generator("direction"), dtype=torch.float64)
    forms = torch.tensor(
        [float(u @ sampled_fisher(risk, generator=generator(name, s))(u)) for s in range(seeds)]
    )
    score = (forms.mean() - u @ expected @ u) / (forms.std() / math.sqrt(seeds))
    assert abs(score) < 3
    # Averages of 40 draws are nearly normal around the exact value.
    groups = forms.reshape(10, 40)
    scores = (groups.mean(1) - u @ expected @ u) / (forms.std() / math.sqrt(40))
    assert stats.kstest(scores.numpy(), "norm").pvalue > 0.01


def test_more_samples_less_variance():
    risk = CASES["mlp"].risk(batch_size=12)
    u = torch.ones(risk.num_params, dtype=torch.float64)
    spread = {
        m: torch.tensor(
            [
                float(u @ sampled_fisher(risk, num_samples=m, generator=generator(m, s))(u))
                for s in range(150)
            ]
        ).var()
        for m in (1, 8)
    }
    # The ratio of two sample variances over 150 draws; an F test at the 1 % level around 8.
    assert 8 / 1.6 < float(spread[1] / spread[8]) < 8 * 1.6


def test_one_operator_sees_one_draw():
    risk, stream = CASES["mlp"].risk(), generator(0)
    operator = sampled_fisher(risk, generator=stream)
    v = torch.ones(risk.num_params, dtype=torch.float64)
    first = operator(v)
    assert torch.equal(first, operator(v))
    assert torch.allclose(operator.dense() @ v, first, rtol=1e-12)
    assert relative_error(sampled_fisher(risk, generator=stream)(v), first) > 1e-3
    assert torch.equal(sampled_fisher(risk, generator=generator(0))(v), first)


def test_trap_7_one_draw_has_a_lower_rank_than_the_expectation():
    risk = CASES["mlp"].risk()
    ranks = [
        int(torch.linalg.matrix_rank(operator.dense(), hermitian=True))
        for operator in (sampled_fisher(risk, generator=generator(0)), fisher(risk))
    ]
    assert ranks == [12, 24]  # N gradients; N (C - 1) directions


def test_trap_3_the_ridge_is_not_sampled():
    plain, decayed = (
        sampled_fisher(CASES["mlp"].risk(weight_decay=w), generator=generator(0)).dense()
        for w in (0.0, 0.3)
    )
    assert relative_error(decayed - plain, 0.3 * torch.eye(100).double()) < 1e-12


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_sample_is_refused(num_samples: int):
    with pytest.raises(InputError, match=f"num_samples: found {num_samples}, expected at least 1"):
        sampled_fisher(CASES["mlp"].risk(), num_samples=num_samples, generator=generator(0))


@pytest.mark.parametrize("sampled", [True, False])
def test_a_callable_loss_has_no_fisher(sampled: bool):
    risk = CASES["twice"].risk()
    build = partial(sampled_fisher, generator=generator(0)) if sampled else fisher
    with pytest.raises(InputError, match="loss 'smoothed': found a callable without a likelihood"):
        build(risk)(risk.theta)
