"""Tokens as a reader sees them: letters instead of bytes, control tokens by name, and what each token costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

from attrs import frozen

from glowgenius.errors import ConfigError
from glowgenius.markup.html import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.models.tokenizer import Tokenizer

_INCOMPLETE: Final = "\ufffd"
_LONGEST_LETTER: Final = 8
"""Tokens that one letter takes at most: four bytes, and room for letters that are joined to one picture."""

_LOSS_SHOWN_FULL: Final = 6.0
"""Nats per token from which on the colour is as strong as it gets: one choice in four hundred."""

STYLE: Final = """
.gg-tokens{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;padding:8px;border:1px solid var(--gg-line)}
.gg-tokens{border-radius:4px;font:14px/1.6 ui-monospace,Menlo,Consolas,monospace;color:var(--gg-soft)}
.gg-tokens mark{background:var(--gg-trained);color:var(--gg-ink);border-radius:2px}
.gg-tokens mark.loss{background:rgb(var(--gg-loss)/calc(var(--nats)*70%));box-shadow:inset 0 -2px var(--gg-edge)}
.gg-tokens .control{font-size:.85em;font-weight:600;outline:1px solid var(--gg-line);border-radius:3px;padding:0 2px}
.gg-tokens .cut{color:var(--gg-cut);font-weight:700}
.gg-tokens .over{opacity:.55;text-decoration:line-through}
.gg-preview{--gg-ink:#12301a;--gg-soft:#5b6470;--gg-line:#d8dce2;--gg-trained:#c9efd0;--gg-edge:#3f9a54}
.gg-preview{--gg-loss:214 84 44;--gg-cut:#b3261e;--gg-text:#1d2129;--gg-page:#fff}
@media (prefers-color-scheme:dark){.gg-preview{--gg-ink:#e3f7e7;--gg-soft:#a0a9b4;--gg-line:#3c444f}
.gg-preview{--gg-trained:#1f5130;--gg-edge:#58b26e;--gg-loss:226 104 62;--gg-cut:#ff8a80;--gg-text:#e6e9ee}
.gg-preview{--gg-page:#16191e}}
""".strip()
"""The rules for `tokens_html`, which has to stand within an element of the class `gg-preview`."""


@final
@frozen(kw_only=True)
class TokenPiece:
    """One token, or the few that make up one letter."""

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
    """The tokens of one example, as far as possible one by one.

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


def tokens_html(pieces: Sequence[TokenPiece]) -> str:
    """*pieces* as escaped HTML: trained ones marked, their loss as colour and number, and where the limit cuts.

    Neighbours that look alike share an element, unless their losses are shown.
    """
    parts: list[str] = []
    cut = False
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        end = at + 1
        while end < len(pieces) and piece.loss is None and _look(pieces[end]) == _look(piece) and not piece.control:
            end += 1
        if piece.over and not cut:
            cut = True
            parts.append('<span class="cut" title="the length limit">✂</span>')
        parts.append(_element(piece, "".join(one.text for one in pieces[at:end])))
        at = end
    return f'<pre class="gg-tokens">{"".join(parts)}</pre>'


def printable(text: str) -> str:
    """*text* without characters that would steer a terminal; lines and tabs stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _look(piece: TokenPiece) -> tuple[float, bool, bool, bool]:
    return piece.weight, piece.over, piece.control, piece.loss is None


def _element(piece: TokenPiece, text: str) -> str:
    names = [name for name, on in (("control", piece.control), ("over", piece.over)) if on]
    shown = escape(printable(text))
    if not piece.weight:
        return f'<span class="{" ".join(["context", *names])}">{shown}</span>'
    title, style = f"weight {piece.weight:g}", ""
    if piece.loss is not None:
        names.append("loss")
        title = f"{title}, loss {piece.loss:.3f} nats, probability {math.exp(-piece.loss):.3g}"
        style = f' style="--nats:{min(1.0, max(0.0, piece.loss / _LOSS_SHOWN_FULL)):.3f}"'
    return f'<mark class="{" ".join(["trained", *names])}" title="{title}"{style}>{shown}</mark>'


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
    """Behind the tokens that it takes to have whole letters, with one weight and no control token among them."""
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
