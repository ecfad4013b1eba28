"""A comparison's result, and its forms: terminal, JSON, page, figures, JUnit, Markdown, CSV."""

from common.report.page import PAGE, write_page
from common.report.report import Report
from common.report.terminal import print_report

__all__ = ["PAGE", "Report", "print_report", "write_page"]
