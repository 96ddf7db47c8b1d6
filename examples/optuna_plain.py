"""Prune trials of a plain training loop by training loss + TIC: no validation split is needed."""

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from gentheory.optuna import TIC, TICPruner

EPOCHS = 9


def digits() -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Training and test examples."""
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    return (inputs[:500], targets[:500]), (inputs[1000:], targets[1000:])


train, test = digits()
tic = TIC("tic.kfac", loss="cross_entropy", data=train)


def train_one_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    inputs, targets = train
    for chosen in torch.randperm(len(inputs)).split(50):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()


def objective(trial: optuna.Trial) -> float:
    torch.manual_seed(trial.number)
    width = trial.suggest_int("width", 8, 64, log=True)
    rate = trial.suggest_float("learning_rate", 1e-3, 3.0, log=True)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for epoch in range(1, EPOCHS + 1):
        train_one_epoch(model, optimizer)
        if tic.should_prune(trial, model, step=epoch):
            raise optuna.TrialPruned()
    return tic.criterion(model, step=EPOCHS)  # what is minimized needs no held-out data either


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
