"""Comparison of training runs from their logs.

`summary` makes figures and tables, `curves`, `times` and `plans` the plots, on `charts`, `about`
what runs were made with, and `page` the HTML.
"""

from lgreco.report.page import write_report
from lgreco.report.summary import Summary, comparison_table, summaries

__all__ = ["Summary", "comparison_table", "summaries", "write_report"]
