"""The command line: `glowgenius`, and `python -m glowgenius`."""

from __future__ import annotations

import io
import os
import sys

from glowgenius._lazy import require
from glowgenius.errors import MissingDependencyError


def main() -> None:
    """Run the command line; without its library, say which extra brings it."""
    try:
        require("typer", extra="cli", purpose="the command line")
    except MissingDependencyError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    from glowgenius.cli.app import app
    from glowgenius.cli.common import INTERRUPTED

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console of another encoding (a pipe on Windows, say) shows ? for an arrow, and does not end the run.
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="glowgenius")
    except SystemExit as left:
        if left.code == INTERRUPTED:
            # The second Ctrl-C leaves at once; Python would wait for the pass that an engine is in the middle of.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
