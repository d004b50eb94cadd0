"""Many runs and their summary: a grid of ranks, learning rates and seeds, with the uncertainty of what it shows."""

from __future__ import annotations

from glowgenius.experiments.cell import Cell, SweepCell
from glowgenius.experiments.point import SweepPoint
from glowgenius.experiments.result import SweepResult
from glowgenius.experiments.sweep import sweep

__all__ = ["Cell", "SweepCell", "SweepPoint", "SweepResult", "sweep"]
