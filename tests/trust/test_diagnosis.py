import dataclasses
import json
import math

import pytest
import tiny
import torch
from torch import nn
from trust_tables import MEASURES, tables

import gentheory as gt
from gentheory.checkpoint import Checkpoint, load
from gentheory.trust import diagnose, fit
from gentheory.trust.cases import Cases
from gentheory.trust.indicators import INDICATORS, names_of

LOSS, TRAINING = "training loss", "|log LOO / TIC|, training"


@pytest.fixture(scope="module")
def thresholds():
    """Training loss above about 0.3, leave-one-out along training within e^1.55 of TIC."""
    return fit(tables(seed=1), tables(seed=2, flips=6), num_resamples=50)


def risk_of(scale, *, loss="cross_entropy", count=30):
    """A linear net on two well separated classes; the larger the scale, the less the loss."""
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 2
    inputs = torch.randn(count, 3, generator=random) * 0.1 + (2.0 * targets - 1)[:, None]
    net = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(scale * torch.tensor([[-1.0] * 3, [1.0] * 3]))
    if loss == "mse":
        targets = nn.functional.one_hot(targets).double()
    return gt.EmpiricalRisk(net, loss, (inputs.double(), targets), dtype=torch.float64)


def answers(found):
    return {answer.name: answer for answer in found.answers}


@pytest.mark.parametrize(("scale", "verdict"), [(0.05, 0), (5.0, 1)])
def test_interpolation_is_not_to_be_trusted(thresholds, scale, verdict):
    found = diagnose(risk_of(scale), thresholds=thresholds)
    assert found.verdict == found.rule.verdicts[verdict]
    assert found.rule.indicators == (LOSS,)
    loss = answers(found)[LOSS]
    assert loss.counts
    assert loss.passed is (verdict == 0)
    assert loss.value == pytest.approx(risk_of(scale).example_losses().mean().item())
    assert found.sentences[0] == (
        f"Verdict: {found.verdict}. {1 - verdict} of 1 indicators speak for TIC, "
        f"{100 * (1 - verdict)} % by weight; more than 50 % have to."
    )


def test_the_sentence_says_how_often_such_verdicts_were_right(thresholds):
    sentence = diagnose(risk_of(5.0), thresholds=thresholds).sentences[1]
    assert "the study made-up-2 (60 models, none of them used for the thresholds)" in sentence
    assert "this cut was right for 90 % [" in sentence
    assert "Of the 30 that were judged like this one TIC was not within a factor of 2" in sentence


def test_what_is_unknown_is_said_and_does_not_count(thresholds):
    found = answers(diagnose(risk_of(0.05), thresholds=thresholds))
    for name in ("kernel distance", "linearization error"):
        assert found[name].passed is None
        assert not found[name].counts
        assert "initial" in found[name].note
    for name in ("|log LOO / TIC|, λ = 1/T", TRAINING):
        assert "a checkpoint without training time" in found[name].note
    assert found["P / n"].passed is not None
    assert found["P / n"].note.startswith("does not tell: AUROC 0.50")


def test_the_loss_is_that_of_the_thresholds(thresholds):
    found = diagnose(risk_of(0.05, loss="mse"), thresholds=thresholds)
    assert found.verdict == "unknown"
    assert math.isnan(found.share)
    assert answers(found)[LOSS].note == "its threshold is for cross_entropy"
    assert found.sentences == [
        "Whether TIC can be trusted is unknown: no indicator that counts is known.",
        "The thresholds were fitted with cross_entropy, not this loss.",
    ]
    assert json.loads(found.to_json())["share_passed"] is None


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A study that measures all that the indicators need, of models with histories."""
    options = {
        "tic.leave_one_out:time": {"damping": "training"},
        "tic.leave_one_out:training": {"damping": "training", "residuals": "training"},
    }
    raw = tiny.study(
        training=tiny.training(epochs=30, keep_trajectory=True),
        grid={"learning_rate": [0.003, 0.3], "seed": [0, 1]},
        measures={"names": list(MEASURES), "options": options},
    )
    return tiny.done(tmp_path_factory.mktemp("trust") / "tiny", raw)


def test_a_checkpoint_has_the_numbers_that_the_study_was_fitted_with(stored, thresholds):
    from gentheory.study.tables import read_tables

    made = read_tables(stored)
    # Two made-up gaps, so that there are models of both kinds, whatever these nets have learned.
    tic = made.wide()["tic.exact"]
    factors = [1.0 if place < 2 else 9.0 for place in range(4)]
    models = made.models.assign(gap=tic * factors, gap_stderr=0.0)
    cases = Cases.of(dataclasses.replace(made, models=models))
    assert cases.within.tolist() == [True, True, False, False]
    for place, (shard, position) in enumerate(
        zip(models["shard"], models["position"], strict=True)
    ):
        file = stored.path / "shards" / shard / "weights.safetensors"
        found = diagnose(load(file, position), thresholds=thresholds)
        assert found.tic == "tic.exact"
        assert found.rule == thresholds.rules[0]
        for answer in found.answers:
            assert answer.value == pytest.approx(cases.values[answer.name][place], rel=1e-5)


def test_the_rung_is_the_one_that_fits():
    assert names_of(Checkpoint(risk_of(1.0)))[0] == "tic.exact"
    assert names_of(Checkpoint(_wide(600, 10)))[0] == "tic.kernel"
    assert names_of(Checkpoint(_wide(600, 4000)))[0] == "tic.exact"
    tic, names = names_of(Checkpoint(_wide(3000, 4000)))
    assert tic == names[0] == "tic.kfac"
    assert {indicator.measure for indicator in INDICATORS} <= {"tic", *names}


def _wide(width, count):
    data = torch.zeros(count, width), torch.zeros(count, dtype=torch.long)
    return gt.EmpiricalRisk(nn.Linear(width, 2), "cross_entropy", data)


def test_a_net_too_large_for_the_exact_numbers(thresholds, monkeypatch):
    for name in ("_EXACT", "MAX_SIZE"):
        monkeypatch.setattr(f"gentheory.trust.indicators.{name}", 1)
    found = diagnose(risk_of(5.0), thresholds=thresholds)
    assert found.tic == "tic.kfac"
    assert found.verdict == thresholds.rules[1].verdicts[1]
    assert "TIC is that of Kronecker factors" in found.sentences[-1]


def test_without_tic_itself_little_is_known(thresholds):
    """A loss that does not bend has no curvature."""
    risk = gt.EmpiricalRisk(
        nn.Linear(1, 1, bias=False), _flat, (torch.ones(4, 1), torch.ones(4, 1))
    )
    found = diagnose(risk, thresholds=thresholds)
    assert found.verdict == "unknown"
    assert "zero everywhere" in answers(found)["P / n"].note


def _flat(outputs, targets):
    return (outputs - targets)[:, 0]


def test_the_json_holds_everything(thresholds):
    found = diagnose(risk_of(0.05), thresholds=thresholds)
    told = json.loads(found.to_json())
    assert told["verdict"] == found.verdict
    assert [row["name"] for row in told["indicators"]] == [i.name for i in INDICATORS]
    assert told["indicators"][1]["value"] is None
    assert told["measures"]["tic.exact"]["value"] == found.results["tic.exact"].value
    assert told["thresholds"]["check"]["study"] == "made-up-2"
    assert told["rule"]["indicators"] == [LOSS]
