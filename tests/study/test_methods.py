"""Every optimizer, loss, schedule and rule through a study; settings that nothing would read."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny

from gentheory import checkpoint

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
