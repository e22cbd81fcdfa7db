"""The report: one page with every picture and every face, before and after. Opens offline, prints well."""

from calotype.report.sheet import Sheet

__all__ = ["Sheet"]
