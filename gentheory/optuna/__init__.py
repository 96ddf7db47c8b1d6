"""The plug-in for Optuna: prune trials by a criterion that needs no validation split."""
