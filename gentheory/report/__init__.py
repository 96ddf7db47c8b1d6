"""A study's tables as one self-contained page: what was found, with figures and intervals."""

from gentheory.report.analysis import Analysis, analyse
from gentheory.report.findings import findings
from gentheory.report.page import Report, write_report

__all__ = ["Analysis", "Report", "analyse", "findings", "write_report"]
