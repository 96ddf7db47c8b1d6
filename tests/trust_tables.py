"""Tables of a made-up study in which it is known when TIC can be trusted."""

import json

import numpy as np
import pandas as pd

from gentheory.study.tables import Tables

MEASURES = (
    "tic.exact",
    "tic.leave_one_out",
    "tic.leave_one_out:time",
    "tic.leave_one_out:training",
    "ntk.distance",
    "ntk.linearization_error",
)


def tables(*, seed=0, points=30, flips=0, **changes):
    """Two settings, `points` models each; TIC is right where the training loss is above 0.3.

    TIC is wrong by e³ elsewhere, in as many models. The training loss tells in all but `flips`
    models, leave-one-out along training in all; nothing else does. `changes` replace
    columns of the models.
    """
    random = np.random.default_rng(seed)
    count = 2 * points
    right = np.arange(count) % 2 == 0
    gap = random.uniform(0.2, 0.6, count)
    tic = gap * np.exp(np.where(right, 0.1, -3.0))
    loss = np.where(right, random.uniform(0.4, 0.9, count), random.uniform(0.01, 0.2, count))
    loss[:flips] = np.where(right[:flips], 0.05, 0.6)
    models = pd.DataFrame(
        {
            "model": [f"{seed:04x}{place:04x}" for place in range(count)],
            "data": "digits",
            "architecture": ["narrow"] * points + ["wide"] * points,
            "num_parameters": 700,
            "n_train": 200,
            "label_noise": 0.0,
            "learning_rate": np.tile(np.geomspace(0.01, 0.3, points), 2),
            "momentum": 0.9,
            "weight_decay": 0.0,
            "batch_size": 20,
            "epochs": 10,
            "outcome": "finished",
            "training_time": 10.0,
            "train_loss": loss,
            "test_loss": loss + gap,
            "gap": gap,
            "gap_stderr": 0.01,
            "train_accuracy": 0.9,
            "test_accuracy": 0.8,
        }
        | changes
    )
    values = {
        "tic.exact": tic,
        "tic.leave_one_out": tic * np.exp(random.normal(size=count)),
        "tic.leave_one_out:time": tic * np.exp(random.normal(size=count)),
        "tic.leave_one_out:training": gap,
        "ntk.distance": random.uniform(size=count),
        "ntk.linearization_error": random.uniform(size=count),
    }
    stats = [
        json.dumps(
            {
                "num_params": 1000,
                "num_examples": 200,
                "newton_decrement": float(random.uniform() * one),
                "gradient_norm": float(random.uniform()),
                "slope_log_damping": float(-random.uniform() * one),
            }
        )
        for one in tic
    ]
    rows = [
        {"model": model, "measure": name, "value": value, "stderr": 0.0, "status": "ok"}
        | {
            "reason": "",
            "warnings": "[]",
            "stats": known if name == "tic.exact" else "{}",
        }
        for name, column in values.items()
        for model, value, known in zip(models["model"], column, stats, strict=True)
    ]
    curves = pd.DataFrame(columns=["model", "epoch", "train_loss"])
    about = (f"made-up-{seed}", "Made up", "")
    return Tables(*about, models, pd.DataFrame(rows), curves, {"commit": f"c0ffee{seed}"})
