"""Prune trials that Lightning trains by training loss + TIC; needs the extra `lightning`."""

import lightning.pytorch as pl
import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gentheory.optuna import TIC, TICPruner
from gentheory.optuna.lightning import TICPruningCallback

EPOCHS = 9

images, labels = load_digits(return_X_y=True)
train = TensorDataset(
    torch.tensor(images / 16, dtype=torch.float32)[:500], torch.tensor(labels)[:500]
)
tic = TIC("tic.kfac", loss="cross_entropy", data=train)


class Classifier(pl.LightningModule):
    """Two layers."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.layers = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.rate)


def objective(trial: optuna.Trial) -> float:
    pl.seed_everything(trial.number, verbose=False)
    width = trial.suggest_int("width", 8, 64, log=True)
    module = Classifier(width, trial.suggest_float("learning_rate", 1e-3, 3.0, log=True))
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[TICPruningCallback(trial, tic)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(train, batch_size=50, shuffle=True))
    return tic.criterion(module, step=EPOCHS)


def main(num_trials: int = 20) -> optuna.Study:
    base = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(pruner=TICPruner(base), sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    return study


if __name__ == "__main__":
    study = main()
    states = [trial.state.name for trial in study.trials]
    print(f"{states.count('PRUNED')} of {len(states)} trials pruned; best: {study.best_params}")
