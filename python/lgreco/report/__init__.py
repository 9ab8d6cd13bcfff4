"""Comparison of training runs from their logs. `page` makes the table and the HTML page, `curves`
and `plans` its pictures, on `panels`."""

from lgreco.report.page import Summary, comparison_table, summaries, write_report

__all__ = ["Summary", "comparison_table", "summaries", "write_report"]
