"""The application: one command a verb, each in a module of its own."""

from __future__ import annotations

import importlib
from typing import Annotated, Final

import typer

from glowgenius._version import __version__

VERBS: Final = (
    "check",
    "preview",
    "estimate",
    "train",
    "evaluate",
    "compare",
    "sweep",
    "chat",
    "report",
    "export",
    "models",
    "env",
)
"""Every verb, in the order in which they are used; each has a function of its name in the module `<verb>`."""

app = typer.Typer(
    help="Supervised LoRA fine-tuning on Tinker or on this machine, with honest before-and-after numbers.",
    epilog="Exit codes: 0 fine, 1 problems found, 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glowgenius {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Supervised LoRA fine-tuning on Tinker or on this machine, with honest before-and-after numbers."""
    del version


for _verb in VERBS:
    # The modules are thin: what is heavy is imported when the verb runs.
    app.command(_verb)(getattr(importlib.import_module(f"glowgenius.cli.{_verb}"), _verb))
