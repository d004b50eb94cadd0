"""What a model will be trained on, to look at before a run: tokens with the trained ones marked."""

from __future__ import annotations

import html
import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Final, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._validators import is_integer
from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError
from glowgenius.rendering.train_on import TrainOn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.example import RenderedExample
    from glowgenius.rendering.renderer import Renderer

_TRAINED: Final = "\x1b[1;32m"
_CONTEXT: Final = "\x1b[2m"
_CUT: Final = "\x1b[1;31m"
_RESET: Final = "\x1b[0m"

_STYLE: Final = """
.gg-preview{font:14px/1.5 ui-monospace,Menlo,Consolas,monospace;color:#1d2129;background:#fff;padding:8px 12px}
.gg-preview h4{font:600 13px/1.4 system-ui,sans-serif;margin:12px 0 4px}
.gg-preview p{font:12px/1.4 system-ui,sans-serif;color:#5b6470;margin:0 0 4px}
.gg-preview pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;padding:8px}
.gg-preview pre{border:1px solid #d8dce2;border-radius:4px}
.gg-preview .context{color:#6b7380}
.gg-preview mark{background:#c9efd0;color:#0b3d17;border-radius:2px}
.gg-preview .cut{color:#b3261e;font-weight:700}
.gg-preview .over{opacity:.55;text-decoration:line-through}
""".strip()


@final
@frozen(kw_only=True)
class PreviewRun:
    """Neighbouring tokens with the same weight."""

    text: str
    """What they decode to, control tokens by name."""

    weight: float
    """Their loss weight; 0 is context."""

    over: bool
    """Whether they lie beyond `max_length`."""


@final
@frozen(kw_only=True)
class PreviewRow:
    """One conversation as it will be trained."""

    title: str
    """Which row it is."""

    runs: tuple[PreviewRun, ...]
    """Its text, cut where the weight changes and at `max_length`."""

    num_tokens: int
    """All its tokens."""

    num_trained: int
    """Those that carry loss."""

    stop: str
    """What ends the last trained stretch, by name, and whether it is a stop sequence."""


@final
@frozen(kw_only=True)
class Preview:
    """Rendered rows to look at: `print` it, or let a notebook show it."""

    header: str
    """The renderer, and what is trained."""

    rows: tuple[PreviewRow, ...]
    """The rows shown."""

    num_hidden: int
    """How many further rows there are."""

    max_length: int | None
    """Where the cut is shown, in tokens."""

    color: bool | None
    """Whether `str` uses colours; None decides by the terminal and the variable `NO_COLOR`."""

    @override
    def __str__(self) -> str:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ if self.color is None else self.color
        legend = f"{_TRAINED}trained{_RESET} {_CONTEXT}context{_RESET}" if color else "⟦trained⟧ context"
        lines = [f"{_printable(self.header)}   {legend}"]
        for row in self.rows:
            lines += ["", self._summary(row), self._marked(row, color=color)]
        if self.num_hidden:
            lines += ["", f"… and {self.num_hidden} more"]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A self-contained piece of HTML; all text in it is escaped."""
        parts = [f'<div class="gg-preview"><style>{_STYLE}</style><p>{html.escape(self.header)}</p>']
        for row in self.rows:
            parts += [f"<h4>{html.escape(self._summary(row))}</h4>", f"<pre>{self._html_runs(row)}</pre>"]
        if self.num_hidden:
            parts.append(f"<p>… and {self.num_hidden} more</p>")
        return "".join([*parts, "</div>"])

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return self.to_html()

    def _summary(self, row: PreviewRow) -> str:
        over = (
            ""
            if self.max_length is None or row.num_tokens <= self.max_length
            else (f", {row.num_tokens - self.max_length} over max_length={self.max_length}")
        )
        return (
            f"{_printable(row.title)}: {row.num_tokens} tokens, {row.num_trained} trained{over}; {_printable(row.stop)}"
        )

    def _marked(self, row: PreviewRow, *, color: bool) -> str:
        """The text of *row* for a terminal."""
        parts: list[str] = []
        cut = False
        for run in row.runs:
            if run.over and not cut:
                cut = True
                parts.append(f"{_CUT}✂{_RESET}" if color else "✂")
            text = _printable(run.text)
            times = "" if run.weight in (0.0, 1.0) else f"×{run.weight:g}"
            if color:
                parts.append(f"{_TRAINED if run.weight else _CONTEXT}{text}{times}{_RESET}")
            else:
                parts.append(f"⟦{text}⟧{times}" if run.weight else text)
        return "".join(parts)

    def _html_runs(self, row: PreviewRow) -> str:
        """The text of *row* as HTML."""
        parts: list[str] = []
        cut = False
        for run in row.runs:
            if run.over and not cut:
                cut = True
                parts.append(f'<span class="cut" title="max_length={self.max_length}">✂</span>')
            text = html.escape(_printable(run.text))
            over = " over" if run.over else ""
            if run.weight:
                parts.append(f'<mark class="trained{over}" title="weight {run.weight:g}">{text}</mark>')
            else:
                parts.append(f'<span class="context{over}">{text}</span>')
        return "".join(parts)


def preview(
    dataset: Sequence[Conversation] | Conversation,
    renderer: Renderer,
    *,
    rows: int = 3,
    train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE,
    max_length: int | None = None,
    color: bool | None = None,
) -> Preview:
    """The first rows as they will be trained.

    Args:
        dataset: A data set, a list of conversations or one conversation.
        renderer: What renders them in training.
        rows: How many to show, from the start.
        train_on: Which messages are trained.
        max_length: Mark what lies beyond this many tokens.
        color: Whether `str` uses colours; None decides by the terminal and the variable `NO_COLOR`.

    Raises:
        ConfigError: *rows* or *max_length* is not an integer ≥ 1.
        RenderingError: A row cannot be rendered.
    """
    for name, value in (("rows", rows), ("max_length", max_length)):
        if not (name == "max_length" and value is None) and (not is_integer(value) or int(value or 0) < 1):
            raise ConfigError(f"{name} must be an integer ≥ 1, got {value!r} ({type(value).__name__})")
    conversations = [dataset] if isinstance(dataset, Conversation) else dataset
    train_on = TrainOn(train_on)
    shown = [conversations[index] for index in range(min(rows, len(conversations)))]
    return Preview(
        header=f"{renderer.description}, train_on={train_on.value}",
        rows=tuple(_row(index, row, renderer, train_on, max_length) for index, row in enumerate(shown)),
        num_hidden=len(conversations) - len(shown),
        max_length=max_length,
        color=color,
    )


def _row(
    index: int, conversation: Conversation, renderer: Renderer, train_on: TrainOn, max_length: int | None
) -> PreviewRow:
    example = renderer.render(conversation, train_on)
    source = conversation.source
    place = f"row {index}" if source is None else str(source)
    return PreviewRow(
        title=place if conversation.id is None else f"{place} (id {conversation.id!r})",
        runs=tuple(_runs(example, renderer.tokenizer, max_length)),
        num_tokens=len(example),
        num_trained=example.num_trained,
        stop=_stop(example, renderer),
    )


def _runs(example: RenderedExample, tokenizer: Tokenizer, max_length: int | None) -> list[PreviewRun]:
    """The text of *example*, cut where the weight changes and at *max_length*.

    Tokens are decoded together, since a letter may take several of them.
    """
    limit = len(example) if max_length is None else max_length
    keyed = [
        (float(weight), at >= limit, int(token))
        for at, (token, weight) in enumerate(zip(example.tokens, example.weights, strict=True))
    ]
    return [
        PreviewRun(text=_decode(tokenizer, [token for _, _, token in group]), weight=weight, over=over)
        for (weight, over), group in groupby(keyed, key=lambda item: item[:2])
    ]


def _stop(example: RenderedExample, renderer: Renderer) -> str:
    """What the last trained token is: the stop token, or something else, which a reader should know."""
    last = int(example.tokens[int(np.flatnonzero(example.weights)[-1])])
    name = _decode(renderer.tokenizer, [last])
    if last in renderer.stop_sequences:
        return f"stop token {name} is trained"
    return f"the last trained token is {name!r}"


def _decode(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _printable(text: str) -> str:
    """*text* without characters that would steer a terminal; lines and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )
