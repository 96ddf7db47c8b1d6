"""A study of nets with running statistics: trained, kept, measured with each model's own."""

from pathlib import Path

import pytest
from tiny import done, net, study, training

from gentheory.checkpoint import load


def test_trap_1_measures_see_each_model_s_running_statistics(tmp_path: Path):
    options = {"width": 1, "norm": "batch"}
    raw = study(
        architectures=[net(model="resnet", options=options)],
        training=training(n_train=20, epochs=1, dtype="float64"),
        grid={"seed": [0, 1]},
        measures={"names": ["baselines.training_loss"]},
        rivals={"validation": [0.25]},
    )
    store = done(tmp_path / "study", raw)
    table = store.table("models").set_index("model")
    measured = store.table("measures")
    own = measured[measured["measure"] == "baselines.training_loss"].set_index("model")["value"]
    (weights,) = store.path.glob("shards/*/weights.safetensors")
    for row in table.itertuples():
        risk = load(weights, row.position).risk
        assert float(risk.value()) == pytest.approx(row.train_loss, rel=1e-10)
        assert abs(own[row.Index]) == pytest.approx(row.train_loss, rel=1e-10)
    assert (measured["status"] == "ok").all()
