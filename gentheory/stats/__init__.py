"""Correlation of columns, and how well one orders another: numpy and scipy only."""

from gentheory.stats.attenuation import disattenuated_kendall, disattenuated_pearson, reliability
from gentheory.stats.correlation import correlate, kendall_interval
from gentheory.stats.granulated import Granulated, granulated_kendall
from gentheory.stats.information import Information, conditional_information
from gentheory.stats.multiplicity import benjamini_hochberg, holm, p_values
from gentheory.stats.rank import (
    kendall,
    partial_kendall,
    partial_pearson,
    partial_spearman,
    pearson,
    spearman,
)
from gentheory.stats.resample import Interval, bootstrap
from gentheory.stats.sign_error import SignErrors, sign_errors
from gentheory.stats.within import kendall_within, mean_interval

__all__ = [
    "Granulated",
    "Information",
    "Interval",
    "SignErrors",
    "benjamini_hochberg",
    "bootstrap",
    "conditional_information",
    "correlate",
    "disattenuated_kendall",
    "disattenuated_pearson",
    "granulated_kendall",
    "holm",
    "kendall",
    "kendall_interval",
    "kendall_within",
    "mean_interval",
    "p_values",
    "partial_kendall",
    "partial_pearson",
    "partial_spearman",
    "pearson",
    "reliability",
    "sign_errors",
    "spearman",
]
