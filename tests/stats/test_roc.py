import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from gentheory.errors import InputError
from gentheory.stats.roc import auroc, youden


def columns(seed, *, ties):
    random = np.random.default_rng(seed)
    positive = random.random(60) < 0.4
    score = random.normal(size=60) + positive
    return (np.round(score) if ties else score), positive


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_that_of_scikit_learn(seed, ties):
    score, positive = columns(seed, ties=ties)
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_cut_has_a_larger_j(seed, ties):
    score, positive = columns(seed, ties=ties)
    false, true, _ = roc_curve(positive, score, drop_intermediate=False)
    above = score > youden(score, positive)
    assert above[positive].mean() - above[~positive].mean() == pytest.approx((true - false).max())


def test_a_separable_score_is_cut_half_way():
    assert youden([4.0, 1.0, 3.0, 2.0], [True, False, True, False]) == 2.5
    assert auroc([4.0, 1.0, 3.0, 2.0], [True, False, True, False]) == 1.0


@pytest.mark.parametrize(("score", "positive"), [([1.0, 2.0], [True, True]), ([], [])])
def test_one_kind_alone_has_no_curve(score, positive):
    assert math.isnan(auroc(score, positive))
    assert math.isnan(youden(score, positive))


def test_one_score_alone_tells_nothing():
    assert auroc([1.0, 1.0], [True, False]) == 0.5
    assert math.isnan(youden([1.0, 1.0], [True, False]))


@pytest.mark.parametrize("statistic", [auroc, youden])
def test_bad_columns(statistic):
    with pytest.raises(InputError, match=r"score\[1\]: found nan, expected a finite number"):
        statistic([1.0, math.nan], [True, False])
    with pytest.raises(InputError, match=r"positive: found 1 entries, expected 2 as in score"):
        statistic([1.0, 2.0], [True])
