"""A callback that prunes a trial trained by Lightning; needs the extra `lightning`."""

from collections.abc import Callable
from typing import Unpack

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.trial import BaseTrial
from torch import nn

from gentheory.errors import InputError
from gentheory.optuna.tic import TIC
from gentheory.pruning.criterion import Hints


class TICPruningCallback(Callback):
    """Asks `tic.should_prune` after each epoch of training, and ends the trial where it says so.

        trainer = Trainer(max_epochs=27, callbacks=[TICPruningCallback(trial, tic)])
        trainer.fit(module, train_loader)  # raises optuna.TrialPruned

    Epochs count from 1. No validation is needed, and the sanity check is no epoch.

    With several processes (DDP) the first one decides and tells the others, and all raise
    `optuna.TrialPruned` after the same epoch. It alone needs the trial and measures; the others
    may hand in None. Start them with `torchrun`, each with the trial's own hyperparameters: those
    that Lightning spawns (`ddp_spawn`, `ddp_fork`) cannot hand the exception on. Sharded models
    (FSDP) are not supported: no process holds a whole one.

    **Arguments:**

    - `trial`: of a study with a `TICPruner`; None in the other processes.
    - `tic`: made before training.
    - `network`: what of the module maps inputs to outputs; by default its `forward`.
    - `hints`: as for `TIC.should_prune`; its optimizer is by default the one that steps the
      network.
    """

    def __init__(
        self,
        trial: BaseTrial | None,
        tic: TIC,
        *,
        network: Callable[[LightningModule], nn.Module] | None = None,
        **hints: Unpack[Hints],
    ) -> None:
        super().__init__()
        self._trial, self._tic, self._network, self._hints = trial, tic, network, hints

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises `optuna.TrialPruned` in every process, or in none."""
        pruned = trainer.is_global_zero and self._says_so(trainer, pl_module)
        if trainer.strategy.broadcast(pruned):
            raise optuna.TrialPruned(f"Pruned after epoch {trainer.current_epoch + 1}.")

    def _says_so(self, trainer: Trainer, module: LightningModule) -> bool:
        if self._trial is None:
            cure = "hand it in where the rank is 0"
            raise InputError("TICPruningCallback", "no trial in the first process", "one", cure)
        network = module if self._network is None else self._network(module)
        step = trainer.current_epoch + 1
        return self._tic.should_prune(self._trial, network, step=step, **self._hints)
