"""Correlation of columns of numbers, with bootstrap intervals: numpy and scipy only."""

from gentheory.stats.correlation import correlate, kendall_interval
from gentheory.stats.rank import kendall, partial_kendall, pearson, spearman
from gentheory.stats.resample import Interval, bootstrap

__all__ = [
    "Interval",
    "bootstrap",
    "correlate",
    "kendall",
    "kendall_interval",
    "partial_kendall",
    "pearson",
    "spearman",
]
