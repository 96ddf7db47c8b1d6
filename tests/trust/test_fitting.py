import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from trust_tables import tables

from gentheory.errors import InputError
from gentheory.trust import Thresholds, fit, read
from gentheory.trust.fitting import passes, share_passed
from gentheory.trust.indicators import INDICATORS

TELL = {"training loss", "|log LOO / TIC|, training"}


@pytest.fixture(scope="module")
def thresholds():
    return fit(tables(seed=1), tables(seed=2, flips=6), num_resamples=200)


def test_the_indicators_that_tell_are_found(thresholds):
    judged = {one.name: one for one in thresholds.indicators}
    assert list(judged) == [indicator.name for indicator in INDICATORS]
    assert {name for name, one in judged.items() if one.informative} == TELL
    loss, apart = judged["training loss"], judged["|log LOO / TIC|, training"]
    assert loss.fit.auroc.value == 1.0
    assert loss.high
    assert 0.2 <= loss.threshold.value <= 0.4
    # TIC is e^0.1 times what leave-one-out says where it is right, e^-3 elsewhere.
    assert not apart.high
    assert apart.threshold.value == pytest.approx((0.1 + 3.0) / 2, rel=1e-5)
    assert apart.check.sensitivity.value == apart.check.specificity.value == 1.0


def test_the_check_is_on_the_other_study(thresholds):
    loss = next(one for one in thresholds.indicators if one.name == "training loss")
    # 6 of the 60 models have a training loss of the other kind, 3 of 30 of each.
    assert loss.check.sensitivity.value == loss.check.specificity.value == 0.9
    assert loss.weight == 1.0  # on the study that it was fitted on
    assert loss.check.sensitivity.low < 0.9 < loss.check.sensitivity.high <= 1.0
    assert (thresholds.fit.study, thresholds.check.study) == ("made-up-1", "made-up-2")
    assert (thresholds.fit.commit, thresholds.check.commit) == ("c0ffee1", "c0ffee2")
    assert thresholds.fit.within == thresholds.check.within == 0.5
    assert (thresholds.fit.models, thresholds.fit.left_out, thresholds.fit.settings) == (60, 0, 2)


def test_what_never_changes_tells_nothing(thresholds):
    constant = thresholds.indicators[0]
    assert constant.name == "P / n"
    assert constant.fit.auroc.value == 0.5
    assert constant.threshold.value is None
    assert not passes(constant, 5.0)


def test_one_rule_for_each_choice_of_what_can_be_known(thresholds):
    assert [set(rule.indicators) for rule in thresholds.rules] == [TELL, {"training loss"}]
    whole, alone = thresholds.rules
    assert whole.fit.right.value == alone.fit.right.value == 1.0
    assert alone.check.right.value == 0.9
    assert alone.check.passed.count == alone.check.failed.count == 30
    assert alone.check.passed.right.value == 0.9


@pytest.mark.parametrize(
    ("ranked", "verdicts"),
    [
        (True, ("trust", "trust the rank, not the size")),
        (False, ("trust the size, not the rank", "do not trust")),
    ],
)
def test_the_words_depend_on_the_rank(ranked, verdicts):
    found = fit(_shuffled(seed=1, ranked=ranked), tables(seed=2), num_resamples=200)
    assert found.rules[0].verdicts == verdicts
    tau = found.rules[0].fit.passed.tau
    assert (tau.value == 1.0) if ranked else tau.low < 0


@pytest.mark.parametrize(
    ("power", "verdict"), [(1, "trust the rank, not the size"), (-1, "undecided")]
)
def test_what_the_check_refutes_is_not_said(power, verdict):
    """Every other gap that TIC has right is another one on the check, in its order or not."""
    made = tables(seed=2)
    gap = made.models["gap"].to_numpy()
    far = np.where(np.arange(60) % 4 == 0, 20 * gap**power, gap)
    refuting = dataclasses.replace(made, models=made.models.assign(gap=far))
    rule = fit(tables(seed=1), refuting, num_resamples=200).rules[0]
    assert rule.fit.passed.right.value == 1.0
    assert rule.check.passed.right.value == 0.5
    assert rule.verdicts[0] == verdict


def _shuffled(*, seed, ranked):
    """Where TIC is right but for a factor that has nothing to do with the gap."""
    made = tables(seed=seed)
    if ranked:
        return made
    gap, random = made.models["gap"].to_numpy(), np.random.default_rng(0)
    right = np.arange(len(gap)) % 2 == 0
    tic = np.where(right, 0.35, 0.02) * np.exp(random.uniform(-0.05, 0.05, len(gap)))
    gap = np.exp(random.uniform(-0.4, 0.4, len(gap))) * 0.35
    models = made.models.assign(gap=gap, test_loss=made.models["train_loss"] + gap)
    measures = made.measures.copy()
    measures.loc[measures["measure"] == "tic.exact", "value"] = tic
    return dataclasses.replace(made, models=models, measures=measures)


def test_models_whose_gap_is_noise_are_left_out():
    noisy = np.where(np.arange(60) < 10, 0.5, 0.01)
    found = fit(tables(seed=1, gap_stderr=noisy), tables(seed=2), num_resamples=20)
    assert (found.fit.models, found.fit.left_out) == (50, 10)


def test_the_same_tables_give_the_same_thresholds(thresholds):
    again = fit(tables(seed=1), tables(seed=2, flips=6), num_resamples=200)
    assert again == thresholds
    assert Thresholds.model_validate_json(thresholds.model_dump_json()) == thresholds


def test_intervals_are_over_hyper_parameter_points():
    """A study that holds every model twice says no more than one that holds it once."""
    once = tables(seed=1, points=40, flips=12)
    doubled = tables(seed=1, points=40, flips=12)
    copy = {name: f"{name}x" for name in doubled.models["model"]}
    models = doubled.models.assign(model=doubled.models["model"].map(copy), architecture="again")
    measures = doubled.measures.assign(model=doubled.measures["model"].map(copy))
    both = dataclasses.replace(
        once,
        models=_joined(once.models, models),
        measures=_joined(once.measures, measures),
    )
    loss = [
        next(one for one in fit(t, tables(seed=2)).indicators if one.name == "training loss")
        for t in (once, both)
    ]
    widths = [one.fit.sensitivity.high - one.fit.sensitivity.low for one in loss]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def _joined(*frames):
    return pd.concat(frames, ignore_index=True)


def test_the_share_is_of_what_is_known(thresholds):
    two = [one for one in thresholds.indicators if one.informative]
    loss, apart = (one.name for one in two)
    assert share_passed(two, {loss: 0.8, apart: 9.0}) == 0.5
    halved = [two[0], two[1].model_copy(update={"weight": 0.5})]
    assert share_passed(halved, {loss: 0.8, apart: 9.0}) == pytest.approx(2 / 3)
    assert share_passed(two, {loss: 0.8, apart: math.nan}) == 1.0
    assert math.isnan(share_passed(two, {loss: math.nan, apart: math.nan}))


def test_a_study_without_a_measure_of_the_indicators():
    made = tables(seed=1)
    kept = made.measures[~made.measures["measure"].str.startswith("ntk")]
    with pytest.raises(InputError, match=r"no ntk\.distance, ntk\.linearization_error, expected"):
        fit(dataclasses.replace(made, measures=kept), tables(seed=2))


def test_a_study_of_one_kind_alone():
    made = tables(seed=1)
    kept = made.models.iloc[::2].reset_index(drop=True)
    with pytest.raises(InputError, match=r"in 30 of 30, expected models of both kinds"):
        fit(dataclasses.replace(made, models=kept), tables(seed=2))


def test_a_study_that_tells_nothing():
    made = tables(seed=1, train_loss=0.5)
    same = made.measures["measure"] == "tic.leave_one_out:training"
    measures = made.measures.assign(value=made.measures["value"].mask(same, 0.3))
    measures["value"] = measures["value"].mask(measures["measure"].str.startswith("tic.l"), 0.0)
    with pytest.raises(InputError, match=r"no informative indicator, expected one whose AUROC"):
        fit(dataclasses.replace(made, measures=measures), tables(seed=2), num_resamples=50)


def test_the_thresholds_of_the_package_say_where_they_are_from():
    shipped = read()
    assert (shipped.fit.study, shipped.check.study) == ("regime", "trust")
    assert (shipped.factor, shipped.loss) == (2.0, "cross_entropy")
    for source in (shipped.fit, shipped.check):
        assert len(source.commit.removesuffix("+changes")) == 12
        assert source.models + source.left_out >= 36
        assert 0 < source.within < 1
    assert [one.name for one in shipped.indicators] == [one.name for one in INDICATORS]
    informative = {one.name for one in shipped.indicators if one.informative}
    assert set(shipped.rules[0].indicators) == informative
    for judged in shipped.indicators:
        assert judged.informative == (judged.fit.auroc.low > 0.5)
        assert judged.check.count <= shipped.check.models
        assert judged.threshold.value is not None


def test_thresholds_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: found no such file, expected thresholds"):
        read(tmp_path / "none.json")
    file = tmp_path / "half.json"
    file.write_text('{"factor": 2.0}')
    with pytest.raises(InputError, match=r"half\.json: found \d mistakes, the first at \('loss'"):
        read(file)
    file.write_text("not json")
    with pytest.raises(InputError, match=r"half\.json: found 1 mistakes"):
        read(file)


def test_records_cannot_be_changed(thresholds):
    with pytest.raises(ValidationError, match="frozen"):
        thresholds.factor = 3.0
