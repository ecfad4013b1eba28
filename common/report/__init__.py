"""A comparison's result, and its forms: terminal, JSON."""

from common.report.report import Report
from common.report.terminal import print_report

__all__ = ["Report", "print_report"]
