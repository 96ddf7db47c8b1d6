"""Every optimizer, loss, schedule and rule through a study; settings that nothing would read."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny

from gentheory import checkpoint, losses
from gentheory.errors import InputError
from gentheory.study import plan
from gentheory.study.conditions import LOSS_OPTIONS, READERS, resolved
from gentheory.study.settings import Settings
from gentheory.study.spec import Study, parse
from gentheory.study.store import Store

METHODS: dict[str, dict[str, Any]] = {
    "nesterov": {"momentum": 0.9, "nesterov": True, "learning_rate": 0.02},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.005, "momentum": 0.5},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "beta2": 0.99},
    "sam": {"optimizer": "sam", "momentum": 0.5},
    "asam": {"optimizer": "asam", "rho": 0.2},
    "saf": {"optimizer": "saf", "saf_start": 1, "saf_delay": 2},
    "fad": {"optimizer": "fad"},
    "squentropy": {"loss": "squentropy", "rescale": 0.5},
    "smoothing": {"label_smoothing": 0.1},
    "max sup": {"max_sup": 0.1},
    "supervised contrastive": {"loss": "supervised_contrastive", "temperature": 0.5},
    "step": {"schedule": "step", "step_shares": [0.3], "warm_up": 1},
    "linear": {"schedule": "linear"},
    "gradient": {"stop_at_gradient_norm": 1e3},
    "curvature": {"stop_at_curvature": 1.01, **{"curvature_window": 1, "curvature_lag": 1}}
    | {"curvature_start": 0},
    "balanced": {"class_balance": 0.99, "imbalance": "step", "imbalance_ratio": 4.0}
    | {"balance_after": 2},
    "two decays": {"weight_decay": 0.001, "classifier_decay": 0.01},
    "pof": {"pof_epochs": 2, "pof_learning_rate": 0.05},
}


def study(**settings: Any) -> dict[str, Any]:
    training = tiny.training(**{"epochs": 6, "learning_rate": 0.1, **settings})
    return tiny.study(training=training, grid={"seed": [0, 1]})


@pytest.mark.parametrize("method", METHODS)
def test_a_study_trains_with_it(method: str, tmp_path: Path) -> None:
    store = tiny.done(tmp_path / "out", study(**METHODS[method]))
    models = store.table("models")
    assert (models["train_loss"] < [first_loss(store, m) for m in models["model"]]).all()
    for name, value in METHODS[method].items():
        if name in models.columns:
            assert (models[name] == value).all()
    expected = method if method in ("gradient", "curvature") else "finished"
    if method != "curvature":
        assert set(models["outcome"]) == {expected}
    saved = next(store.path.glob("shards/*/weights.safetensors"))
    subject = checkpoint.load(saved)
    if method != "supervised contrastive":
        assert float(subject.risk.example_losses().mean()) == pytest.approx(
            models["train_loss"][models["position"] == 0].iloc[0], rel=1e-5
        )


def first_loss(store: Any, model: str) -> float:
    curves: pd.DataFrame = store.table("curves")
    return float(curves[(curves["model"] == model) & (curves["epoch"] == 0)]["train_loss"].iloc[0])


def refusal(message: str, grid: dict[str, Any] | None = None, **settings: Any) -> None:
    raw = study(**settings) | ({"grid": grid} if grid else {})
    with pytest.raises(InputError, match=message):
        parse(raw, place="it")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"rho": 0.1},
            r"training\.rho: 0\.1 is read with optimizer sam, asam or fad alone, and optimizer is "
            r"'sgd'; drop it, or choose such",
        ),
        ({"optimizer": "adam", "momentum": 0.9}, r"training\.momentum: 0\.9 is read with optim"),
        ({"optimizer": "adamw", "nesterov": True}, r"training\.nesterov: True is read with opt"),
        ({"optimizer": "rmsprop", "beta1": 0.9}, r"beta1: 0\.9 is read with optimizer adam or ad"),
        ({"optimizer": "sam", "eta": 0.01}, r"eta: 0\.01 is read with optimizer asam alone, and"),
        ({"saf_delay": 2}, "saf_delay: 2 is read with optimizer saf alone, and optimizer is 'sgd'"),
        ({"loss": "mse", "label_smoothing": 0.1}, "read with loss cross_entropy alone, and loss"),
        ({"temperature": 0.1}, "temperature: 0.1 is read with loss supervised_contrastive alone"),
        (
            {"step_shares": [0.5]},
            r"step_shares: \[0\.5\] is read with schedule step alone",
        ),
        (
            {"curvature_lag": 2},
            "curvature_lag: 2 is read with stop_at_curvature alone",
        ),
        ({"pof_reach": 1.0}, "pof_reach: 1.0 is read with pof_epochs alone, and pof_epochs is 0"),
        ({"nesterov": True}, "nesterov: true does nothing at momentum 0; raise the momentum or"),
        ({"label_smoothing": 0.1, "max_sup": 0.1}, "label_smoothing and max_sup stand together"),
        ({"warm_up": 6}, "warm_up: 6 of 6 epochs leave none; choose fewer"),
        (
            {"optimizer": "saf", "loss": "mse", "saf_start": 1},
            "saf compares probabilities",
        ),
        ({"optimizer": "saf", "saf_start": 6}, "sets in after 6 epochs, and there are 6; lower"),
        ({"stop_at_curvature": 1.3}, "it looks first after 16 epochs, and there are 6; lower curv"),
        (
            {"pof_epochs": 1, "keep_trajectory": True},
            "keep_trajectory: with pof_epochs a model",
        ),
        (
            {"loss": "supervised_contrastive", "keep_trajectory": True},
            "loss supervised_contrastive has no residuals; drop one",
        ),
        (
            {"loss": "supervised_contrastive", "batch_size": 1},
            "batch_size: 1 leaves nothing",
        ),
        ({"balance_after": 2}, "balance_after: 2 is read with class_balance alone"),
        (
            {"class_balance": 0.9, "balance_after": 6},
            "balance_after: 6 of 6 epochs leave none to balance",
        ),
        ({"class_balance": 0.9, "mixup": 1.0}, "class_balance: mixup is for examples of equal"),
        (
            {"class_balance": 0.9, "optimizer": "saf", "saf_start": 1},
            "class_balance: optimizer saf is for examples of equal weight",
        ),
        (
            {"class_balance": 0.9, "loss": "supervised_contrastive"},
            "class_balance: loss supervised_contrastive is for",
        ),
        (
            {"classifier_decay": 0.1, "keep_trajectory": True},
            "classifier_decay: keep_trajectory knows one weight decay",
        ),
        ({"optimizer": "lion"}, r"training\.optimizer = \"lion\" \(Input should be 'sgd', 'rms"),
        ({"stop_at_curvature": 1.0}, "Input should be greater than 1"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    refusal(message, **settings)


def test_an_axis_that_nothing_reads_is_refused_too() -> None:
    refusal(r"grid\.rho: \[0\.1, 0\.2\] is read with optimizer", {"rho": [0.1, 0.2]})
    refusal(
        r"optimizer is 'sgd' and 'adam'; drop it",
        {"rho": [0.1, 0.2], "optimizer": ["sgd", "adam"]},
    )


def points(grid: dict[str, Any], **settings: Any) -> list[plan.Point]:
    part = {"grid": {**grid, "seed": [0]}}
    found: Study = parse(study(**settings) | part, place="it")
    return plan.points(found)


def test_an_axis_counts_only_where_it_is_read() -> None:
    """Two radii of SAM and of ASAM, and one SGD, which has none."""
    found = points({"optimizer": ["sgd", "sam", "asam", "adam"], "rho": [0.1, 0.2]}, momentum=0.5)
    trained = [(p.settings["optimizer"], p.settings["rho"]) for p in found]
    sharp = [(name, rho) for name in ("sam", "asam") for rho in (0.1, 0.2)]
    assert sorted(trained, key=str) == sorted([("sgd", None), ("adam", None), *sharp], key=str)
    assert len({p.id for p in found}) == 6
    momenta = {p.settings["optimizer"]: p.settings["momentum"] for p in found}
    assert momenta == {"sgd": 0.5, "sam": 0.5, "asam": 0.5, "adam": 0.0}


def test_published_values_stand_in_the_settings() -> None:
    (adam,) = points({}, optimizer="adam")
    names = ("beta1", "beta2", "epsilon", "rho")
    assert [adam.settings[name] for name in names] == [0.9, 0.999, 1e-8, None]
    (asam,) = points({}, optimizer="asam")
    assert [asam.settings[name] for name in ("rho", "eta")] == [0.5, 0.01]
    (step,) = points({}, schedule="step")
    assert [step.settings[name] for name in ("step_factor", "step_shares")] == [0.1, [0.5, 0.75]]


def test_resolving_twice_changes_nothing() -> None:
    for method in METHODS.values():
        once = resolved(Settings(**method).model_dump())
        assert resolved(once) == once


def test_every_conditional_setting_and_loss_option_has_a_reader() -> None:
    optional = {name for name, field in Settings.model_fields.items() if field.default is None}
    rules = {
        "n_train",
        "classifier_decay",
        "stop_at_loss",
        "stop_at_gradient_norm",
        "stop_at_curvature",
    }
    assert optional - rules <= set(READERS)
    of_losses = {option for options in losses.OPTIONS.values() for option in options}
    assert set(LOSS_OPTIONS) == of_losses
    for loss, options in losses.OPTIONS.items():
        assert {n for n in LOSS_OPTIONS if READERS[n].reads({"loss": loss})} == set(options)


def test_models_of_a_stack_share_their_method_and_have_their_own_radii(tmp_path: Path) -> None:
    grid = {"optimizer": ["sgd", "sam"], "rho": [0.05, 0.5], "seed": [0]}
    store = tiny.done(tmp_path / "out", study() | {"grid": grid, "stack": 8})
    models = store.table("models")
    assert len(models) == 3
    assert models.groupby("optimizer")["shard"].nunique().tolist() == [1, 1]
    assert models.groupby("optimizer").size().to_dict() == {"sam": 2, "sgd": 1}
    assert models["train_loss"].nunique() == 3
    assert models.loc[models["optimizer"] == "sgd", "rho"].isna().all()


def test_trap_3_the_objective_of_decoupled_decay_has_none(tmp_path: Path) -> None:
    store = tiny.done(tmp_path / "out", study(optimizer="adamw", weight_decay=0.1))
    saved = next(store.path.glob("shards/*/weights.safetensors"))
    subject = checkpoint.load(saved)
    assert subject.risk.weight_decay == 0
    assert subject.record["settings"]["weight_decay"] == 0.1


def test_trap_3_two_decays_are_no_penalty_of_the_objective(tmp_path: Path) -> None:
    store = tiny.done(tmp_path / "out", study(weight_decay=0.1, classifier_decay=0.2))
    saved = next(store.path.glob("shards/*/weights.safetensors"))
    assert checkpoint.load(saved).risk.weight_decay == 0


def test_the_same_decay_twice_is_one() -> None:
    found = points({"weight_decay": [0.1, 0.2], "classifier_decay": [0.1, 0.2]})
    pairs = {(p.settings["weight_decay"], p.settings["classifier_decay"]) for p in found}
    assert pairs == {(0.1, None), (0.1, 0.2), (0.2, 0.1), (0.2, None)}


def test_rivals_train_with_the_same_method(tmp_path: Path) -> None:
    raw = study(optimizer="saf", saf_start=1, pof_epochs=1, momentum=0.5, nesterov=True)
    store = tiny.done(tmp_path / "out", raw | {"rivals": {"validation": [0.2], "folds": 3}})
    rivals = store.table("measures").query("measure.str.contains(':')", engine="python")
    assert set(rivals["measure"]) == {"validation:0.2", "cross_validation:3"}
    assert (rivals["status"] == "ok").all()


def test_nesterov_counts_only_with_momentum() -> None:
    found = points({"nesterov": [False, True], "momentum": [0.0, 0.9]})
    pairs = [(p.settings["momentum"], p.settings["nesterov"]) for p in found]
    assert sorted(pairs) == [(0.0, False), (0.9, False), (0.9, True)]


def test_the_command_line_runs_methods_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part each, from a file of TOML."""
    chosen = ("nesterov", "adam", "fad", "squentropy", "step")
    settings = {name: tiny.training(epochs=3, **METHODS[name]) for name in chosen}
    raw = study() | {"parts": [{"training": settings[name]} for name in chosen]}
    del raw["training"]
    file, out = tiny.write(tmp_path / "methods.toml", raw), tmp_path / "out"
    ended = tiny.main(capsys, "run", file, "--out", out, "--engine", "serial")
    assert ended.code == 0, ended.err
    models = Store.open(out).table("models").set_index("part")
    for part, name in enumerate(chosen):
        for key in set(METHODS[name]) & set(models.columns):
            assert set(models.loc[part, key]) == {METHODS[name][key]}
