"""Choose the learning rate and the width of a net for handwritten digits, on all the data."""

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

import optunahub

module = optunahub.load_module(package="pruners/tic")

images, labels = load_digits(return_X_y=True)
inputs = torch.tensor(images, dtype=torch.float32) / 16
targets = torch.tensor(labels)
tic = module.TIC("tic.kfac", loss="cross_entropy", data=(inputs, targets))


def objective(trial: optuna.Trial) -> float:
    torch.manual_seed(trial.number)
    width = trial.suggest_int("width", 8, 64, log=True)
    rate = trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for epoch in range(1, 10):
        for chosen in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
        if tic.should_prune(trial, model, step=epoch):
            raise optuna.TrialPruned()
    return tic.criterion(model)


if __name__ == "__main__":
    pruner = module.TICPruner(optuna.pruners.SuccessiveHalvingPruner(1, reduction_factor=3))
    study = optuna.create_study(pruner=pruner)
    study.optimize(objective, n_trials=20)
    print(study.best_params)
