from gentheory.optuna import TIC, TICPruner

__all__ = ["TIC", "TICPruner"]
