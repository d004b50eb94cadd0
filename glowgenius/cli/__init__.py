"""The command line: `glowgenius`, and `python -m glowgenius`."""

from __future__ import annotations

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

    app(prog_name="glowgenius")
