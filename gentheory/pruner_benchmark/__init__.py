"""Every pruner of Optuna replayed on a table of learning curves, signal against signal."""
