"""The page of a run or a sweep, written by a later layer that is found by name: training does not import it."""

from __future__ import annotations

import importlib
from typing import Any

from glowgenius._output import logger

_LOG = logger("glowgenius.training")

RUN, SWEEP = ("glowgenius.reporting.run", "write_run_report"), ("glowgenius.reporting.report", "write_report")
"""Module and function that write a page."""


def write_page(writer: tuple[str, str], *args: Any, **settings: Any) -> None:
    """Call *writer*. A page that cannot be written is said, and fails no run: everything in it is in other files."""
    try:
        module, function = writer
        getattr(importlib.import_module(module), function)(*args, **settings)
    except Exception as error:  # noqa: BLE001 - a run is over and kept by now, whatever is wrong with its page
        _LOG.warning("the page of the run could not be written: %s: %s", type(error).__name__, error)
