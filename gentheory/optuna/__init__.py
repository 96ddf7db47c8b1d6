"""The plug-in for Optuna: prune trials by a criterion that needs no validation split."""

from gentheory.optuna.channel import resumed as resumed
from gentheory.optuna.pruner import TICPruner as TICPruner
from gentheory.optuna.tic import TIC as TIC
