"""`preview`: rendered rows with their tokens, masks and token losses."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, cast, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._output import Output
from glowgenius._validators import is_integer
from glowgenius.data.message import Conversation, Message, as_conversation, require_rows
from glowgenius.errors import ConfigError
from glowgenius.markup.html import rendered, tag
from glowgenius.rendering.renderer import TrainOn

if TYPE_CHECKING:
    from markupsafe import Markup

    from glowgenius.data.message import Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.renderer import RenderedExample, Renderer

_INCOMPLETE: Final = "\ufffd"
_LONGEST_LETTER: Final = 8
"""Tokens that one letter takes at most: four bytes, and room for letters that are joined to one picture."""

_LOSS_SHOWN_FULL: Final = 6.0
"""Nats per token from which on the colour is as strong as it gets: one choice in four hundred."""


@final
@frozen(kw_only=True)
class TokenPiece:
    """One token, or the few tokens that make up one character."""

    text: str
    """What it decodes to."""

    weight: float
    """Its loss weight; 0 is context."""

    loss: float | None
    """Its negative log-likelihood, in nats, where that is known; of a letter of several tokens their sum."""

    control: bool
    """Whether it is a control token, and not text that reads like one."""

    over: bool
    """Whether it lies beyond the length limit."""


def token_pieces(
    tokens: Sequence[int],
    weights: Sequence[float],
    tokenizer: Tokenizer,
    *,
    losses: Sequence[float] | None = None,
    max_length: int | None = None,
) -> tuple[TokenPiece, ...]:
    """The tokens of one example as text, one by one where each is whole characters.

    Args:
        tokens: Token ids, `[T]`.
        weights: Loss weights, `[T]`.
        tokenizer: Turns tokens into text.
        losses: Negative log-likelihood of each trained token in nats, `[number of weights above 0]`, in order.
        max_length: Tokens from here on are marked as beyond the limit.

    Raises:
        ConfigError: There are not as many losses as trained tokens.
    """
    trained = [at for at, weight in enumerate(weights) if weight]
    if losses is not None and len(losses) != len(trained):
        raise ConfigError(f"losses must have one number for each trained token, got {len(losses)} for {len(trained)}")
    known = {} if losses is None else dict(zip(trained, map(float, losses), strict=True))
    control = _control_ids(tokenizer)
    pieces: list[TokenPiece] = []
    start = 0
    while start < len(tokens):
        end = _end_of_letter(tokens, weights, tokenizer, start, control)
        costs = [known[at] for at in range(start, end) if at in known]
        pieces.append(
            TokenPiece(
                text=_decode(tokenizer, tokens[start:end]),
                weight=float(weights[start]),
                loss=math.fsum(costs) if costs else None,
                control=int(tokens[start]) in control,
                over=max_length is not None and start >= max_length,
            )
        )
        start = end
    return tuple(pieces)


def tokens_html(pieces: Sequence[TokenPiece]) -> Markup:
    """*pieces* as HTML: trained tokens marked, losses as colour and number, and the length limit.

    Neighbours that look alike share an element, unless their losses are shown.
    """
    parts: list[Markup] = []
    cut = False
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        end = at + 1
        while end < len(pieces) and piece.loss is None and _look(pieces[end]) == _look(piece) and not piece.control:
            end += 1
        if piece.over and not cut:
            cut = True
            parts.append(tag("span", "✂", class_="cut", title="the length limit"))
        parts.append(_element(piece, "".join(one.text for one in pieces[at:end])))
        at = end
    return tag("pre", *parts, class_="gg-tokens")


def printable(text: str) -> str:
    """*text* without terminal control characters; newlines and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _look(piece: TokenPiece) -> tuple[float, bool, bool, bool]:
    return piece.weight, piece.over, piece.control, piece.loss is None


def _element(piece: TokenPiece, text: str) -> Markup:
    names = [name for name, on in (("control", piece.control), ("over", piece.over)) if on]
    shown = printable(text)
    if not piece.weight:
        return tag("span", shown, class_=" ".join(["context", *names]))
    if piece.loss is None:
        return tag("mark", shown, class_=" ".join(["trained", *names]), title=f"weight {piece.weight:g}")
    title = f"weight {piece.weight:g}, loss {piece.loss:.3f} nats, probability {math.exp(-piece.loss):.3g}"
    strength = f"--nats:{min(1.0, max(0.0, piece.loss / _LOSS_SHOWN_FULL)):.3f}"
    return tag("mark", shown, class_=" ".join(["trained", *names, "loss"]), title=title, style=strength)


def _control_ids(tokenizer: Tokenizer) -> set[int]:
    hidden = {
        token
        for token in tokenizer.get_added_vocab().values()
        if tokenizer.decode([token], skip_special_tokens=True) == ""
    }
    return hidden | set(tokenizer.all_special_ids)


def _end_of_letter(
    tokens: Sequence[int], weights: Sequence[float], tokenizer: Tokenizer, start: int, control: set[int]
) -> int:
    """End of the tokens that form whole characters, with one weight and without control tokens."""
    if int(tokens[start]) in control:
        return start + 1
    for end in range(start + 1, min(len(tokens), start + _LONGEST_LETTER) + 1):
        if not _decode(tokenizer, tokens[start:end]).endswith(_INCOMPLETE):
            return end
        if end < len(tokens) and (weights[end] != weights[start] or int(tokens[end]) in control):
            return end
    return start + 1


def _decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    ids = [int(token) for token in tokens]
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


_TRAINED: Final = "\x1b[1;32m"
_CONTEXT: Final = "\x1b[2m"
_CUT: Final = "\x1b[1;31m"
_RESET: Final = "\x1b[0m"

MAX_SHOWN: Final = 4_000
"""Tokens of an example that are shown by default: a page has some 500."""

_DEAREST: Final = 3
"""How many of the dearest tokens are named."""


@final
@frozen(kw_only=True)
class PreviewRun:
    """Adjacent tokens with the same weight."""

    text: str
    """What they decode to, control tokens by name."""

    weight: float
    """Their loss weight; 0 is context."""

    over: bool
    """Whether they lie beyond `max_length`."""


@final
@frozen(kw_only=True)
class TokenView:
    """The tokens of a row with the loss of each trained token."""

    name: str
    """Whose losses they are; empty where none are shown."""

    pieces: tuple[TokenPiece, ...]
    """The tokens, those of one letter together."""

    @property
    def mean_loss(self) -> float | None:
        """Weighted mean loss of the tokens that have one, in nats; None if none has."""
        costs = [(piece.loss * piece.weight, piece.weight) for piece in self.pieces if piece.loss is not None]
        return math.fsum(cost for cost, _ in costs) / math.fsum(weight for _, weight in costs) if costs else None


@final
@frozen(kw_only=True)
class PreviewRow:
    """One example as it will be trained."""

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

    views: tuple[TokenView, ...] = ()
    """Its tokens one by one: once without losses, or once for each model whose losses are shown."""


@final
@frozen(kw_only=True)
class Preview:
    """Rendered rows with their loss masks; `print` it or display it in a notebook."""

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
        color = Output(sys.stdout).isatty() and "NO_COLOR" not in os.environ if self.color is None else self.color
        legend = f"{_TRAINED}trained{_RESET} {_CONTEXT}context{_RESET}" if color else "⟦trained⟧ context"
        lines = [f"{printable(self.header)}   {legend}"]
        for row in self.rows:
            lines += ["", self._summary(row), self._marked(row, color=color)]
            lines += [printable(_said(view)) for view in row.views if view.name]
        if self.num_hidden:
            lines += ["", f"… and {self.num_hidden} more"]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A self-contained HTML fragment; all text in it is escaped."""
        views = [
            [(_said(view) if view.name else "", tokens_html(view.pieces)) for view in row.views] for row in self.rows
        ]
        rows = [{"summary": self._summary(row), "views": shown} for row, shown in zip(self.rows, views, strict=True)]
        return rendered("preview.html", header=self.header, rows=rows, num_hidden=self.num_hidden)

    def _repr_html_(self) -> str:
        """Notebook display."""
        return self.to_html()

    def _summary(self, row: PreviewRow) -> str:
        over = (
            ""
            if self.max_length is None or row.num_tokens <= self.max_length
            else (f", {row.num_tokens - self.max_length} over max_length={self.max_length}")
        )
        return (
            f"{printable(row.title)}: {row.num_tokens} tokens, {row.num_trained} trained{over}; {printable(row.stop)}"
        )

    def _marked(self, row: PreviewRow, *, color: bool) -> str:
        """The text of *row* for a terminal, with trained text marked."""
        parts: list[str] = []
        cut = False
        for run in row.runs:
            if run.over and not cut:
                cut = True
                parts.append(f"{_CUT}✂{_RESET}" if color else "✂")
            text = printable(run.text)
            times = "" if run.weight in (0.0, 1.0) else f"×{run.weight:g}"
            if color:
                parts.append(f"{_TRAINED if run.weight else _CONTEXT}{text}{times}{_RESET}")
            else:
                parts.append(f"⟦{text}⟧{times}" if run.weight else text)
        return "".join(parts)


def preview(
    dataset: Sequence[Conversation] | Conversation | Messages,
    renderer: Renderer,
    *,
    rows: int = 3,
    train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE,
    max_length: int | None = None,
    color: bool | None = None,
    losses: Mapping[str, Sequence[Sequence[float]]] | None = None,
    max_shown: int = MAX_SHOWN,
) -> Preview:
    """Render the first rows, and show which tokens are trained.

    A conversation that has to be divided by turn is shown as the examples that it becomes.

    Args:
        dataset: A data set, a list of conversations, or one conversation, as its messages too.
        renderer: What renders them in training.
        rows: How many to show, from the start.
        train_on: Which messages are trained.
        max_length: Mark what lies beyond this many tokens.
        color: Whether `str` uses colours; None decides by the terminal and the variable `NO_COLOR`.
        losses: What the trained tokens cost one model or several, to be seen below one another: from the name of each
            to one list for each example shown, with the loss of each trained token in nats, `N × [T]`.
            For the answers of a data set that is `[-row for row in sampler.answer_logprobs(dataset)]`.
        max_shown: How many tokens of an example are shown; of a longer one its beginning and its end are, and how many
            are left out between them is said.

    Raises:
        ConfigError: *rows*, *max_shown* or *max_length* is not an integer ≥ 1, or *losses* do not fit the examples.
        RenderingError: A row cannot be rendered.
    """
    for name, value in (("rows", rows), ("max_length", max_length), ("max_shown", max_shown)):
        if not (name == "max_length" and value is None) and (not is_integer(value) or int(value or 0) < 1):
            raise ConfigError(f"{name} must be an integer ≥ 1, got {value!r} ({type(value).__name__})")
    conversations = _conversations(dataset)
    train_on = TrainOn(train_on)
    shown = [conversations[index] for index in range(min(rows, len(conversations)))]
    divided = [(at, row, renderer.render_examples(row, train_on)) for at, row in enumerate(shown)]
    examples = [
        (_title(at, row, part, len(parts)), one) for at, row, parts in divided for part, one in enumerate(parts)
    ]
    given = dict(losses or {})
    for name, costs in given.items():
        if len(costs) < len(examples):
            raise ConfigError(
                f"losses[{name!r}] must have one list for each of {len(examples)} examples, got {len(costs)}"
            )
    return Preview(
        header=f"{renderer.description}, train_on={train_on.value}",
        rows=tuple(
            _row(title, example, renderer, max_length, {name: costs[at] for name, costs in given.items()}, max_shown)
            for at, (title, example) in enumerate(examples)
        ),
        num_hidden=len(conversations) - len(shown),
        max_length=max_length,
        color=color,
    )


def _conversations(given: object) -> Sequence[Conversation]:
    """One conversation, the messages of one, or several."""
    if isinstance(given, Conversation | Mapping):
        return [as_conversation(cast("object", given), "dataset")]
    if isinstance(given, list | tuple) and given:
        items = cast("Sequence[object]", given)
        if all(isinstance(item, Message) or (isinstance(item, Mapping) and "role" in item) for item in items):
            return [as_conversation(items, "dataset")]
    found = cast("Sequence[Conversation]", given)
    require_rows(found, "dataset")
    return found


def _title(index: int, conversation: Conversation, part: int, number: int) -> str:
    source = conversation.source
    place = f"row {index}" if source is None else str(source)
    named = place if conversation.id is None else f"{place} (id {conversation.id!r})"
    return named if number == 1 else f"{named}, example {part + 1} of {number}"


def _row(
    title: str,
    example: RenderedExample,
    renderer: Renderer,
    max_length: int | None,
    losses: Mapping[str, Sequence[float]],
    max_shown: int,
) -> PreviewRow:
    shown: Mapping[str, Sequence[float] | None] = losses or {"": None}
    parts = _parts(len(example), max_shown)
    views = [
        TokenView(name=name, pieces=tuple(_pieces(example, renderer.tokenizer, costs, max_length, parts)))
        for name, costs in shown.items()
    ]
    runs = [run for start, end in parts for run in _runs(example, renderer.tokenizer, max_length, start, end)]
    if len(parts) > 1:
        cut = len(_runs(example, renderer.tokenizer, max_length, *parts[0]))
        runs.insert(cut, PreviewRun(text=_left_out(parts), weight=0.0, over=False))
    return PreviewRow(
        title=title,
        runs=tuple(runs),
        views=tuple(views),
        num_tokens=len(example),
        num_trained=example.num_trained,
        stop=_stop(example, renderer),
    )


def _parts(number: int, max_shown: int) -> list[tuple[int, int]]:
    """Token ranges to show: all, or the first and the last."""
    if number <= max_shown:
        return [(0, number)]
    first = max_shown // 2
    return [(0, first), (number - (max_shown - first), number)]


def _left_out(parts: Sequence[tuple[int, int]]) -> str:
    return f" […{parts[1][0] - parts[0][1]:,} tokens not shown…] "


def _pieces(
    example: RenderedExample,
    tokenizer: Tokenizer,
    costs: Sequence[float] | None,
    max_length: int | None,
    parts: Sequence[tuple[int, int]],
) -> list[TokenPiece]:
    """Tokens of the shown *parts*, with a note where others are left out."""
    trained = np.flatnonzero(example.weights)
    if costs is not None and len(costs) != len(trained):
        raise ConfigError(f"losses must have one number for each trained token, got {len(costs)} for {len(trained)}")
    found: list[TokenPiece] = []
    for start, end in parts:
        if found:
            found.append(TokenPiece(text=_left_out(parts), weight=0.0, loss=None, control=False, over=False))
        first, last = (int(place) for place in np.searchsorted(trained, (start, end)))
        found += token_pieces(
            example.tokens[start:end].tolist(),
            example.weights[start:end].tolist(),
            tokenizer,
            losses=None if costs is None else costs[first:last],
            max_length=None if max_length is None else max(0, max_length - start),
        )
    return found


def _said(view: TokenView) -> str:
    """Which models' losses are shown, and which tokens have the highest loss."""
    dearest = sorted((piece for piece in view.pieces if piece.loss is not None), key=lambda piece: -(piece.loss or 0.0))
    listed = ", ".join(f"{piece.text!r} {piece.loss:.2f}" for piece in dearest[:_DEAREST])
    return f"{view.name}: {view.mean_loss or 0.0:.3f} nats per trained token; most for {listed}"


def _runs(
    example: RenderedExample, tokenizer: Tokenizer, max_length: int | None, start: int, end: int
) -> list[PreviewRun]:
    """Text of *example* from token *start* to *end*, split where the weight changes and at *max_length*.

    Tokens are decoded together, since a letter may take several of them.
    """
    limit = len(example) if max_length is None else max_length
    keyed = [
        (float(weight), at >= limit, int(token))
        for at, (token, weight) in enumerate(
            zip(example.tokens[start:end], example.weights[start:end], strict=True), start
        )
    ]
    return [
        PreviewRun(text=_decoded_run(tokenizer, [token for _, _, token in group]), weight=weight, over=over)
        for (weight, over), group in groupby(keyed, key=lambda item: item[:2])
    ]


def _stop(example: RenderedExample, renderer: Renderer) -> str:
    """Describes the last trained token: the stop token or another one."""
    last = int(example.tokens[int(np.flatnonzero(example.weights)[-1])])
    name = _decoded_run(renderer.tokenizer, [last])
    if last in renderer.stop_sequences:
        return f"stop token {name} is trained"
    return f"the last trained token is {name!r}"


def _decoded_run(tokenizer: Tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
