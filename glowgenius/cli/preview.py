"""`glowgenius preview`: what a model will be trained on, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import attrs
import typer

from glowgenius.cli.common import DEFAULT_MODEL, DataFile, JSONOption, ModelOption, print_json, say, verb
from glowgenius.cli.settings import Options, read_rows, renderer_of, takes
from glowgenius.rendering.renderer import TrainOn


@verb
@takes("data")
def preview(
    data: DataFile,
    *,
    model: ModelOption = DEFAULT_MODEL,
    rows: Annotated[int, typer.Option("--rows", "-n", help="How many rows to show.")] = 3,
    train_on: Annotated[TrainOn, typer.Option(help="Which messages are trained.")] = TrainOn.LAST_ASSISTANT_MESSAGE,
    max_length: Annotated[int | None, typer.Option(help="Mark what lies beyond this many tokens.")] = None,
    today: Annotated[
        str | None, typer.Option(help="The date, as 2026-01-31, for chat templates that write today's.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write it as a page into this HTML file.")] = None,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Show the tokens of the first rows, with the trained ones marked.

    Needs the tokenizer of the model, and neither torch nor a key.

    Example: `glowgenius preview train.jsonl --rows 2`
    """
    from markupsafe import Markup

    from glowgenius._files import make_folder, write_whole
    from glowgenius.markup.html import page
    from glowgenius.rendering.preview import preview as make_preview

    dataset = read_rows(data, options)
    renderer = renderer_of(model, today)
    shown = make_preview(dataset, renderer, rows=rows, train_on=train_on, max_length=max_length)
    if html is not None:
        html = html.expanduser()
        make_folder(html.parent)
        write_whole(html, page(f"Preview of {data.name}", [Markup(shown.to_html())]))  # noqa: S704 - its texts are escaped
        say(f"written: {html}", as_json=as_json)
    if as_json:
        plain: dict[str, Any] = attrs.asdict(shown)
        plain.pop("color", None)
        print_json(plain)
    elif html is None:
        say(shown, as_json=False, styled=True)
    return 0
