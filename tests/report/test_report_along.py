"""What a report says of checkpoints along training, on tables made by hand."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from gentheory.report import write_report
from gentheory.report.along import GAP, MEAN, in_words
from gentheory.report.analysis import analyse
from gentheory.report.grids import along_grids
from gentheory.report.pictures import pictures
from gentheory.stats import kendall, kendall_interval

FAST = {"num_resamples": 50}
EPOCHS = (0, 1, 4, 8)


def with_checkpoints(tables, *, seed=0):
    """Gaps that rise and fall along training, a TIC that follows them but for its scale, which is
    each model's own, and a norm that is noise."""
    generator = np.random.default_rng(seed)
    rows, measured = [], []
    factors = np.exp(tables.models["gap"].fillna(0.0))  # of a model that diverges in the end too
    size = np.ceil(tables.models["n_train"] / tables.models["batch_size"]).astype(int)
    for model, factor, steps in zip(tables.models["model"], factors, size, strict=True):
        gaps = factor * generator.permutation([0.1, 0.2, 0.3, 0.4])
        for epoch, gap in zip(EPOCHS, gaps, strict=True):
            loss = 2.0 / (1 + epoch)
            numbers = {"train_loss": loss, "test_loss": loss + gap, "gap": gap}
            rows.append({"model": model, "epoch": epoch, "outcome": "training", **numbers})
            rows[-1] |= {"steps": steps * epoch, "training_time": 0.1 * epoch * factor}
            for name, value in (
                ("tic.exact", gap**2 / factor**4),
                ("norms.parameters", generator.normal()),
            ):
                own = {"model": model, "epoch": epoch, "steps": steps * epoch, "measure": name}
                measured.append({**own, "value": value, "stderr": 0.0, "status": "ok"})
    along = {"trajectory": pd.DataFrame(rows), "measures_along": pd.DataFrame(measured)}
    return dataclasses.replace(tables, **along)


@pytest.fixture
def followed(study):
    return with_checkpoints(study)


def along_of(tables):
    found = analyse(tables, **FAST).along
    assert found is not None
    return found


def cell(table, **keys):
    kept = np.all([table[name] == value for name, value in keys.items()], axis=0)
    (row,) = table.loc[kept].to_dict(orient="records")
    return row


def test_a_measure_that_follows_the_gap_within_each_model_has_tau_one(followed):
    found = along_of(followed)
    assert (found.unit, found.checkpoints) == ("epoch", EPOCHS)
    assert set(found.within["setting"]) == {"all models", "3-LNN", "3-NN"}
    for setting, count in (("all models", 25), ("3-LNN", 12), ("3-NN", 13)):
        row = cell(found.within, setting=setting, predictor="tic.exact")
        assert [row["kendall"], row["kendall.low"], row["kendall.high"]] == [1.0] * 3
        assert row["count"] == count
        baselines = ("minus training loss", "learning-rate time T")
        taus = {n: cell(found.within, setting=setting, predictor=n)["kendall"] for n in baselines}
        assert taus[baselines[0]] == pytest.approx(taus[baselines[1]])  # both rise with the epoch
        assert row["lead"] == pytest.approx(1 - max(taus.values()))
        assert row["rival"] in taus


def test_the_mean_over_models_is_that_of_their_own_taus(followed):
    row = cell(along_of(followed).within, setting="3-LNN", predictor="norms.parameters")
    joined = followed.trajectory.merge(
        followed.measures_along.query("measure == 'norms.parameters'"), on=["model", "epoch"]
    )
    own = followed.models.loc[followed.models["architecture"] == "3-LNN", "model"]
    taus = [kendall(*joined.loc[joined["model"] == m, ["value", "gap"]].T.to_numpy()) for m in own]
    assert row["kendall"] == pytest.approx(np.mean(taus))


def test_tau_across_models_at_each_checkpoint(make_models, make_tables):
    models = make_models(20, learning_rate=np.repeat(np.linspace(0.01, 0.1, 10), 2))
    tables = with_checkpoints(make_tables(models, {"tic.exact": models["gap"]}))
    found = along_of(tables).across
    assert MEAN not in set(found["setting"])
    joined = tables.trajectory.merge(
        tables.measures_along.query("measure == 'tic.exact'"), on=["model", "epoch"]
    )
    for epoch in EPOCHS:
        rows = joined.loc[joined["epoch"] == epoch]
        clusters = np.repeat(np.arange(10), 2)
        expected = kendall_interval(rows["value"], rows["gap"], clusters=clusters, **FAST)
        row = cell(found, epoch=epoch, predictor="tic.exact")
        assert row["kendall"] == pytest.approx(expected.value)
        assert row["kendall.low"] == pytest.approx(expected.low)
        assert row["kendall.high"] == pytest.approx(expected.high)


def test_the_mean_over_settings_is_that_of_their_taus(followed):
    across = along_of(followed).across
    for epoch in EPOCHS:
        own = {"epoch": epoch, "predictor": "norms.parameters"}
        taus = [cell(across, setting=s, **own)["kendall"] for s in ("3-LNN", "3-NN")]
        assert cell(across, setting=MEAN, **own)["kendall"] == pytest.approx(np.mean(taus))
    constant = cell(across, epoch=1, setting="3-NN", predictor="minus training loss")
    assert constant["note"] == "constant"
    assert np.isnan(constant["kendall"])


def test_means_are_over_the_models_that_are_left(followed):
    gone = (followed.trajectory["epoch"] > 1) & followed.trajectory["model"].isin(
        followed.models["model"][:3]
    )
    numbers = ["train_loss", "test_loss", "gap", "training_time"]
    trajectory = followed.trajectory.assign(
        **{name: followed.trajectory[name].mask(gone) for name in numbers}
    )
    status = np.where(followed.measures_along.index == 0, "refused", "ok")
    measured = followed.measures_along.assign(status=status)
    tables = dataclasses.replace(followed, trajectory=trajectory, measures_along=measured)
    means = along_of(tables).means
    models = followed.models.loc[followed.models["architecture"] == "3-LNN", "model"]
    for epoch, count in ((0, 12), (1, 12), (4, 9), (8, 9)):
        kept = trajectory["model"].isin(models) & (trajectory["epoch"] == epoch)
        row = cell(means, setting="3-LNN", epoch=epoch, series=GAP)
        assert row["count"] == count
        assert row["mean"] == pytest.approx(trajectory.loc[kept, "gap"].mean())
        assert row["mean.low"] < row["mean"] < row["mean.high"]
        tic = cell(means, setting="3-LNN", epoch=epoch, series="tic.exact")
        assert tic["count"] == count - (epoch == 0)
    within = along_of(tables).within
    assert cell(within, setting="3-LNN", predictor="tic.exact")["count"] == 9
    assert "norms.parameters" not in set(means["series"])


def test_settings_of_development_are_left_aside(many):
    tables = with_checkpoints(many)
    analysis = analyse(tables, **FAST)
    assert analysis.along is not None
    tested = set(analysis.population.tested)
    assert set(analysis.along.means["setting"]) == tested
    assert set(analysis.along.across["setting"]) == tested | {MEAN}
    assert set(analysis.along.within["setting"]) == tested | {"all held-out settings"}


def test_figures_and_grids(followed):
    analysis = analyse(followed, **FAST)
    drawn = [p.name for p in pictures(followed, analysis) if p.along]
    assert drawn == ["along_training", "along_training_tau"]
    within, lead, *across = along_grids(analysis)
    assert [c.text.replace("\N{NO-BREAK SPACE}", " ") for c in within.header][1] == "all models"
    (row,) = [row for row in within.rows if row[0].text == "tic.exact"]
    assert [c.text for c in row[1:]] == ["1.00"] * 3
    assert len(lead.rows) == 2  # the measures; the baselines are compared with nothing
    assert [grid.title.split(", ")[-1] for grid in across] == [MEAN, "3-LNN", "3-NN"]
    assert len(across[0].header) == 1 + len(EPOCHS)


def test_the_page_has_a_section_where_the_study_has_checkpoints(followed, study, tmp_path):
    write_report(followed, tmp_path / "with", **FAST)
    write_report(study, tmp_path / "without", **FAST)
    page, plain = ((tmp_path / n / "index.html").read_text("utf-8") for n in ("with", "without"))
    assert page.count('id="along"') == 1
    assert "after the epochs 0, 1, 4, 8 too, each until it ended. In the mean over 25" in page
    assert page.count("figures/along_training.svg") == 2  # the figure's link and its caption's
    assert 'id="across-2-kendall"' in page
    results, others = (
        json.loads((tmp_path / n / "results.json").read_text()) for n in ("with", "without")
    )
    assert len(results["along_within"]) == 3 * 4
    assert len(results["along_across"]) == len(EPOCHS) * 3 * 4
    assert set(results) - set(others) == {"along_means", "along_within", "along_across"}
    assert "Along training" not in plain
    assert analyse(study, **FAST).along is None


def test_the_main_predicted_gap_is_said_in_words(followed):
    found = along_of(followed)
    said = in_words(found, "tic.exact")
    assert said.startswith("In the mean over 25 models, tic.exact follows the gap within a model's")
    assert "Kendall τ = 1.00 [1.00, 1.00], ahead of " in said
    rival = cell(found.within, setting="all models", predictor="tic.exact")["rival"]
    assert f"ahead of {rival} (" in said
    noise = in_words(found, "norms.parameters")
    lead = cell(found.within, setting="all models", predictor="norms.parameters")
    assert lead["lead.low"] < 0 < lead["lead.high"]
    assert f", beside {lead['rival']} (" in noise
    turned = followed.measures_along.assign(value=-followed.measures_along["value"])
    backwards = along_of(dataclasses.replace(followed, measures_along=turned))
    assert "τ = −1.00 [−1.00, −1.00], behind " in in_words(backwards, "tic.exact")
    assert in_words(found, "tic.diagonal") == in_words(found, None) == ""


def test_losses_alone_give_the_baselines(followed):
    empty = followed.measures_along.iloc[:0]
    tables = dataclasses.replace(followed, measures_along=empty)
    found = along_of(tables)
    assert set(found.within["kind"]) == {"baseline"}
    assert set(found.means["series"]) == {GAP}
    assert [p.name for p in pictures(tables, analyse(tables, **FAST)) if p.along]


def test_checkpoints_inside_an_epoch_are_told_apart_by_their_steps(followed, tmp_path):
    steps = dict(zip(EPOCHS, (0, 1, 7, 10), strict=True))

    def moved(table):
        own = table.assign(steps=table["epoch"].map(steps))
        return own.assign(epoch=own["steps"] // 10)

    changed = {name: moved(getattr(followed, name)) for name in ("trajectory", "measures_along")}
    tables = dataclasses.replace(followed, **changed)
    found, usual = along_of(tables), along_of(followed)
    assert (found.unit, found.checkpoints) == ("steps", (0, 1, 7, 10))
    pd.testing.assert_frame_equal(found.within, usual.within)
    for name in ("means", "across"):
        expected = getattr(usual, name).rename(columns={"epoch": "steps"})
        expected["steps"] = expected["steps"].map(steps)
        pd.testing.assert_frame_equal(getattr(found, name), expected)
    grids = along_grids(analyse(tables, **FAST))
    header = [cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in grids[-1].header]
    assert header[1:] == ["step 0", "step 1", "step 7", "step 10"]
    write_report(tables, tmp_path, **FAST)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "after the steps of the optimizer 0, 1, 7, 10 too, each until it ended." in page
