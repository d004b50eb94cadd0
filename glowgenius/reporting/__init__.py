"""Pages about runs: one file each, to be opened by anybody, anywhere."""

from __future__ import annotations

from glowgenius.reporting.report import write_report

__all__ = ["write_report"]
