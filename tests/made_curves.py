"""Learning curves of known truth."""

import numpy as np
import pandas as pd

from gentheory.pruner_benchmark.curves import Curves

HYPER = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 32}
SMALL = ["test_loss", "test_error", "validation_loss", "train_loss"]


def setting(
    label: str = "net",
    *,
    regime: str = "lazy",
    configs: int = 12,
    seeds: int = 2,
    epochs: int = 9,
    kinds: tuple[str, ...] = ("training", "all"),
    gain: float = 0.05,
    noise: tuple[float, float] = (0.3, 0.05),
    seed: int = 0,
) -> pd.DataFrame:
    """Curves that fall to a final test loss; `noise` is that of the validation loss and of `tic`.

    Models on all data are better by `gain`, and their epochs take 1.1 s instead of 1 s. A pass
    over the validation examples takes 0.1 s, the criterion 0.2 s.
    """
    random = np.random.default_rng(seed)
    final = random.uniform(0.2, 1.0, (configs, seeds, 1))
    speed = random.uniform(1.0, 3.0, (configs, 1, 1))
    time = np.arange(1, epochs + 1.0)
    frames: list[pd.DataFrame] = []
    for kind in kinds:
        test = final + np.exp(-time / speed) - (gain if kind == "all" else 0.0)
        noisy = [test + size * random.normal(size=test.shape) for size in noise]
        index = np.indices(test.shape).reshape(3, -1)
        columns = {
            "config": [f"c{place:03d}" for place in index[0]],
            "seed": index[1],
            "epoch": index[2] + 1,
            "train_loss": 0.6 * test.ravel(),
            "validation_loss": noisy[0].ravel() if kind == "training" else np.nan,
            "test_loss": test.ravel(),
            "test_error": test.ravel() / 4,
            "training_time": (index[2] + 1) * (1.0 + index[0] % 5),
            "epoch_seconds": 1.1 if kind == "all" else 1.0,
            "validation_seconds": 0.1,
            "tic": noisy[1].ravel(),
            "tic seconds": 0.2,
        }
        about = {"setting": label, "regime": regime, "params_per_example": 10.0, "data": kind}
        frames.append(pd.DataFrame(about | columns | HYPER))
    return pd.concat(frames, ignore_index=True)


def two_settings(**options: int) -> Curves:
    """One in each regime."""
    lazy, rich = setting("wide", **options), setting("narrow", regime="rich", seed=1, **options)
    return Curves(pd.concat([lazy, rich], ignore_index=True))
