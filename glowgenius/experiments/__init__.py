"""Many runs and their summary: a grid of ranks, learning rates and seeds, with the uncertainty of what it shows."""

from __future__ import annotations

from glowgenius.experiments.cell import Cell, SweepCell, SweepPoint
from glowgenius.experiments.sweep import sweep
from glowgenius.experiments.sweep_result import SweepResult

__all__ = ["Cell", "SweepCell", "SweepPoint", "SweepResult", "sweep"]
