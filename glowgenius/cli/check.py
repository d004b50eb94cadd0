"""`glowgenius check`: what is wrong with a file of rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from glowgenius.cli.common import PROBLEMS, DataFile, JSONOption, in_shell, print_json, say, verb
from glowgenius.cli.settings import Options, columns_of, read_rows, takes

if TYPE_CHECKING:
    from glowgenius.errors import DatasetError


@verb
@takes("data")
def check(
    data: DataFile,
    *,
    against: Annotated[
        Path | None, typer.Option(help="Rows to test on: look for what DATA would give away of them.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Count tokens as this model does; needs its tokenizer only.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="The most tokens that a row may have; needs --model.")] = None,
    near: Annotated[
        bool | None, typer.Option("--near/--no-near", help="Look for near duplicates; by default where rensa is there.")
    ] = None,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Check rows: duplicates, contradictions, leaks, lengths, and everything that cannot be read.

    Needs neither torch nor a key. Ends with 1 where there are problems.

    Example: `glowgenius check train.jsonl --against test.jsonl`
    """
    from glowgenius.data.check import check_rows, find_leaks
    from glowgenius.data.dataset import Dataset
    from glowgenius.data.loading import read_all, shape_named
    from glowgenius.data.raw_rows import Renaming
    from glowgenius.data.readers import file_rows
    from glowgenius.errors import DatasetError
    from glowgenius.rendering.renderer import Renderer

    name = str(data)
    # What cannot be read is one more thing to report, beside what is wrong with the rows that can.
    read = read_all(
        file_rows(name, Renaming(columns_of(options["columns"]))), path=name, shape=shape_named(options["format"])
    )
    if not read.conversations:
        return _unreadable(DatasetError(read.headline, read.problems), as_json=as_json)
    try:
        tests = None if against is None else read_rows(against, options)
    except DatasetError as error:
        return _unreadable(error, as_json=as_json)
    renderer = None if model is None else Renderer.for_model(model)
    report = check_rows(
        read.conversations,
        name=name,
        format=read.format,
        renderer=renderer,
        max_length=max_length,
        near=near,
        problems=read.problems,
        notes=read.notes,
    )
    leaks = None if tests is None else find_leaks(Dataset(read.conversations), tests, near=near)
    if as_json:
        print_json({**report.to_dict(), **({} if leaks is None else {"leaks": leaks.to_dict()})})
    else:
        say("\n".join(map(_in_shell, str(report).splitlines())), as_json=False)
        if leaks is not None:
            say(f"\n{leaks}", as_json=False)
    return 0 if report.ok and (leaks is None or leaks.ok) else PROBLEMS


def _in_shell(line: str) -> str:
    """A line of the report whose advice names options; texts of rows stay as they are."""
    before, arrow, advice = line.rpartition(" → ")
    if arrow and any(name in advice for name in ("columns={", "dataset.filter(", "max_length", "on_overflow=")):
        return before + arrow + in_shell(advice)
    return in_shell(line) if line.startswith("  kept, not trained: ") else line


def _unreadable(error: DatasetError, *, as_json: bool) -> int:
    """What to say of a file of which no row can be used."""
    if not as_json:
        raise error
    print_json({"ok": False, "message": error.message, "problems": [attrs.asdict(one) for one in error.problems]})
    return PROBLEMS
