"""The callback for Lightning: epochs, pruning, and several processes."""

import logging
import warnings
from types import SimpleNamespace

import optuna
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gentheory.errors import InputError
from gentheory.optuna import TIC, TICPruner
from gentheory.optuna.channel import observations

pl = pytest.importorskip("lightning.pytorch")
from gentheory.optuna.lightning import TICPruningCallback  # noqa: E402

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
DATA = TensorDataset(
    torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
)


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        self.log("loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(callback: TICPruningCallback, module: Module, epochs: int = 3) -> None:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(DATA, batch_size=5)
    trainer.fit(module, loader, loader)


def tic(**options) -> TIC:
    return TIC("tic.leave_one_out", loss="cross_entropy", data=DATA, **options)


def study() -> optuna.Study:
    return optuna.create_study(pruner=TICPruner(optuna.pruners.MedianPruner(n_startup_trials=1)))


@pytest.fixture(autouse=True)
def quiet(recwarn: pytest.WarningsRecorder):
    """Lightning warns of the number of workers and the like."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_every_epoch_of_training_is_observed_from_the_first():
    trial, module = study().ask(), Module()
    fit(TICPruningCallback(trial, tic(damping="training", residuals="training")), module)
    seen = observations(trial.study.trials[0])
    assert list(seen) == [1, 2, 3]  # no sanity check, no validation
    assert all(each.state == "known" for each in seen.values())
    assert seen[3].criterion != seen[1].criterion


def test_a_part_of_the_module_can_be_measured():
    trial, module = study().ask(), Module()
    asked = tic()
    fit(TICPruningCallback(trial, asked, network=lambda module: module.net), module, 1)
    assert observations(trial.study.trials[0])[1].criterion == asked.criterion(module.net, step=1)


def test_a_pruned_trial_ends():
    of, asked = study(), tic()
    first = of.ask()
    fit(TICPruningCallback(first, asked), Module())
    of.tell(first, 0.0)
    worse = Module()
    with torch.no_grad():
        worse.net.weight.copy_(torch.tensor([[-9.0, 9.0, 9.0], [9.0, -9.0, -9.0]]))
    trial = of.ask()
    with pytest.raises(optuna.TrialPruned, match="Pruned after epoch 1"):
        fit(TICPruningCallback(trial, asked), worse)


@pytest.mark.parametrize("pruned", [True, False])
def test_other_processes_do_as_the_first_one_says(pruned: bool):
    callback = TICPruningCallback(None, tic())
    heard = SimpleNamespace(broadcast=lambda own: pruned if own is False else own)
    trainer = SimpleNamespace(is_global_zero=False, strategy=heard, current_epoch=4)
    if not pruned:
        assert callback.on_train_epoch_end(trainer, Module()) is None
        return
    with pytest.raises(optuna.TrialPruned, match="Pruned after epoch 5"):
        callback.on_train_epoch_end(trainer, Module())


def test_the_first_process_needs_the_trial():
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=0)
    with pytest.raises(InputError, match="found no trial in the first process"):
        TICPruningCallback(None, tic()).on_train_epoch_end(trainer, Module())
