"""The command line: `glowgenius`, and `python -m glowgenius`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Final

from glowgenius._lazy import require
from glowgenius._output import Output
from glowgenius.errors import MissingDependencyError

INTERRUPTED: Final = (130, 143, 129)
"""Exit codes after Ctrl-C, SIGTERM and SIGHUP."""


def main() -> None:
    """Run the command line; without its library, say which extra brings it."""
    try:
        require("typer", extra="cli", purpose="the command line")
    except MissingDependencyError as error:
        Output(sys.stderr).say(f"error: {error}")
        raise SystemExit(2) from None
    from glowgenius.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console of another encoding (a pipe on Windows, say) shows its code for an arrow, and ends no run.
            stream.reconfigure(errors="backslashreplace")
    _fill_descriptors()
    try:
        app(prog_name="glowgenius")
    except SystemExit as left:
        if left.code in INTERRUPTED:
            # A second one leaves at once; Python would wait for the pass that an engine is in the middle of.
            Output(sys.stdout).flush()
            Output(sys.stderr).flush()
            os._exit(int(left.code or 0))
        raise
    finally:
        # Python flushes them once more at its exit, and a pipe that nobody reads would change the exit code there.
        for stream in (sys.stdout, sys.stderr):
            Output(stream).flush()


def _fill_descriptors() -> None:
    """Open what was closed (`glowgenius … >&-`), or the next file would be what libraries print into."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
