"""The one HTML report builder: plots, tables, samples and code in a single file."""

from prefkit.report.page import Report, Sample
from prefkit.report.plots import Bar

__all__ = ["Bar", "Report", "Sample"]
