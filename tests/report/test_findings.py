import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gentheory.report.findings import findings, standing

FAST = {"num_resamples": 200}


def test_standing_follows_the_paired_interval():
    cases = {(0.1, 0.2): "ahead of", (-0.2, -0.1): "behind", (-0.1, 0.2): "no better than"}
    for (low, high), words in cases.items():
        assert standing({"lead.low": low, "lead.high": high}) == words
    assert standing({"lead.low": np.nan, "lead.high": np.nan}) == "no better than"


def test_a_perfect_tic(make_models, make_tables):
    models = make_models(30)
    gap, loss, size = findings(make_tables(models, {"tic.exact": models["gap"]}), **FAST)
    assert "tic.exact ranks the gap of 30 models with Kendall τ = 1.00 [1.00, 1.00]" in gap
    assert ", ahead of the better trivial baseline (" in gap
    assert "a partial τ of 1.00 [1.00, 1.00] given the training loss" in gap
    assert "backwards" not in gap
    tau = stats.kendalltau(models["train_loss"], models["test_loss"])[0]
    assert "ranks the test loss better than the training loss alone" in loss
    assert f"τ = 1.00 [1.00, 1.00] against {tau:.2f} [" in loss
    assert size == "The median of tic.exact is 1.0 [1.0, 1.0] times the median gap."


def test_noise_is_no_better_and_says_so(make_models, make_tables):
    models = make_models(40, seed=3)
    noise = np.random.default_rng(10).uniform(1e-6, 2e-6, 40)
    gap, loss, _ = findings(make_tables(models, {"tic.exact": noise}), **FAST)
    assert ", no better than the better trivial baseline (" in gap
    assert "ranks the test loss no better than the training loss alone" in loss


def test_a_better_baseline_puts_tic_behind(make_models, make_tables):
    models = make_models(30)
    models["training_time"] = models["gap"]
    noise = np.random.default_rng(1).normal(size=30)
    gap, _, _ = findings(make_tables(models, {"tic.exact": noise}), **FAST)
    rival = "behind the better trivial baseline (learning-rate time T, 1.00 [1.00, 1.00])"
    assert rival in gap


def two_settings(make_models, make_tables, factors):
    """TIC is the gap in the first setting and runs against it in the second."""
    first = make_models(20, seed=1, architecture="3-LNN")
    losses = np.linspace(0.003, 0.005, 20)
    second = make_models(20, seed=2, train_loss=losses, gap=0.001 / losses)
    tic = np.concatenate([factors[0] * first["gap"], factors[1] / second["gap"]])
    return make_tables(pd.concat([first, second], ignore_index=True), {"tic.exact": tic})


def test_a_reversed_setting_is_named_with_what_tic_follows_there(make_models, make_tables):
    gap, _, size = findings(two_settings(make_models, make_tables, (0.5, 0.01)), **FAST)
    assert (
        "it ranks backwards in 3-NN (τ = −1.00), where it falls with the training loss, as the "
        "residuals it is built from vanish (τ with it 1.00)."
    ) in gap
    assert "3-LNN (τ" not in gap
    assert "within settings it is ahead of their better baseline in 1 of 2 and behind in 1" in gap
    assert "0.50 [0.50, 0.50] (3-LNN)" in size


def test_a_single_reversed_setting_is_named_too(make_models, make_tables):
    losses = np.linspace(0.1, 0.2, 20)
    models = make_models(20, train_loss=losses, gap=losses)
    gap, _, _ = findings(make_tables(models, {"tic.exact": 1 / models["gap"]}), **FAST)
    # TIC rises here while the training loss falls: vanishing residuals explain nothing.
    assert gap.endswith("it ranks backwards in 3-NN (τ = −1.00).")
    assert "within settings" not in gap


def test_the_first_tic_stands_in_for_the_exact_one(make_models, make_tables):
    models = make_models(10)
    tables = make_tables(models, {"norms.x": models["gap"], "tic.diagonal": models["gap"]})
    assert all("tic.diagonal" in sentence for sentence in findings(tables, **FAST))


def test_without_tic_the_baselines_speak(make_models, make_tables):
    models = make_models(20)
    models["training_time"] = models["gap"]
    gap, loss, size = findings(make_tables(models, {"norms.x": models["gap"]}), **FAST)
    assert "learning-rate time T, ranks it with Kendall τ = 1.00" in gap
    tau = stats.kendalltau(models["train_loss"], models["test_loss"])[0]
    assert f"alone ranks the test loss with Kendall τ = {tau:.2f} [" in loss
    assert "no predicted gap" in size


@pytest.mark.parametrize("measure", ["tic.exact", "norms.x"])
def test_too_few_models_give_no_number(make_models, make_tables, measure):
    models = make_models(4)
    found = findings(make_tables(models, {measure: models["gap"]}), **FAST)
    assert len(found) == 3
    assert "[" not in "".join(found)
    if measure == "tic.exact":
        assert all("a number for 4 ranked models, and 5 are needed" in text for text in found)


def test_a_gap_that_is_not_positive_has_no_size(make_models, make_tables):
    models = make_models(10, gap=np.linspace(-0.3, -0.1, 10))
    size = findings(make_tables(models, {"tic.exact": models["gap"]}), **FAST)[2]
    assert "the median gap is −0.20, not positive" in size


def test_the_same_tables_give_the_same_sentences(study):
    assert findings(study, **FAST) == findings(study, **FAST)
    assert len(findings(study, **FAST)) == 3
