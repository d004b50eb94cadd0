"""Pages about runs: one file each, to be opened by anybody, anywhere."""

from __future__ import annotations

from glowgenius.reporting.report import write_report
from glowgenius.reporting.run import write_run_report

__all__ = ["write_report", "write_run_report"]
