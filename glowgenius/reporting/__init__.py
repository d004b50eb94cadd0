"""HTML reports of runs, comparisons and sweeps, each a single self-contained file."""

from __future__ import annotations

from glowgenius.reporting.run_page import write_report, write_run_report
from glowgenius.reporting.saved_run import Run, open_run

__all__ = ["Run", "open_run", "write_report", "write_run_report"]
