"""A comparison's result, and its forms: terminal, JSON, JUnit, Markdown, CSV."""

from common.report.report import Report
from common.report.terminal import print_report

__all__ = ["Report", "print_report"]
