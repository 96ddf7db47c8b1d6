"""Prune trials of a Hugging Face `Trainer` by training loss + TIC.

Needs the extra `hf` and the package `accelerate`, without which there is no `Trainer`.
"""

from tempfile import gettempdir
from typing import Any

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from gentheory.optuna import TIC, TICPruner

EPOCHS = 4

images, labels = load_digits(return_X_y=True)
pixels = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
train = [{"pixel_values": x, "labels": int(y)} for x, y in zip(pixels[:256], labels, strict=False)]
batch = {"pixel_values": pixels[:256], "labels": torch.tensor(labels[:256])}
tic = TIC("tic.kfac", loss="cross_entropy", data=[batch], max_examples=64)


class TICCallback(TrainerCallback):
    """Asks `tic.should_prune` after each epoch, and ends the trial where it says so.

    Where several processes train together, only the first can ask and the others must be told.
    """

    def __init__(self, trial: optuna.Trial, tic: TIC) -> None:
        self.trial, self.tic = trial, tic

    def on_epoch_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        assert model is not None
        if self.tic.should_prune(self.trial, model, step=round(state.epoch or 0)):
            raise optuna.TrialPruned()


def build(trial: optuna.Trial) -> ViTForImageClassification:
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=trial.suggest_categorical("width", [8, 16]),
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=10,
    )
    return ViTForImageClassification(config)


def objective(trial: optuna.Trial) -> float:
    torch.manual_seed(trial.number)
    model = build(trial)
    arguments = TrainingArguments(
        output_dir=gettempdir(),  # where nothing is saved
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=trial.number,
    )
    trainer = Trainer(model, arguments, train_dataset=train, callbacks=[TICCallback(trial, tic)])
    trainer.train()
    return tic.criterion(model, step=EPOCHS)


def main(num_trials: int = 8) -> optuna.Study:
    base = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(pruner=TICPruner(base), sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    return study


if __name__ == "__main__":
    study = main()
    states = [trial.state.name for trial in study.trials]
    print(f"{states.count('PRUNED')} of {len(states)} trials pruned; best: {study.best_params}")
