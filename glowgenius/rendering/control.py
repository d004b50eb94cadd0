"""Control tokens: the tokens that steer a model instead of being text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.errors import RenderingError
    from glowgenius.models.tokenizer import Tokenizer

_SAMPLES: Final = 6
"""How many control tokens stand for all of them when a tokenizer is tried out."""


@final
class ControlTokens:
    """The control tokens of a tokenizer, by text and by id.

    They are the named special tokens and every added token that decoding with `skip_special_tokens` leaves out.
    The second kind matters: `all_special_tokens` knows only those with a name, so that a `<|im_start|>` that is
    merely added as special would pass for text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_vocab()
        hidden = [text for text, token in added.items() if tokenizer.decode([token], skip_special_tokens=True) == ""]
        texts = sorted(
            {text for text in [*tokenizer.all_special_tokens, *hidden] if text}, key=lambda text: (-len(text), text)
        )
        found = {text: tokenizer.convert_tokens_to_ids(text) for text in texts}
        self._ids: Final = {text: token for text, token in found.items() if token is not None}
        self.ids: Final = frozenset(self._ids.values())
        """Their ids."""
        # The longest first: of two tokens that begin alike, the tokenizer takes the longer one.
        self._pattern = re.compile("|".join(re.escape(text) for text in texts)) if texts else None
        self._named = [text for text in tokenizer.all_special_tokens if text in self._ids]

    def samples(self) -> list[tuple[str, int]]:
        """A few of them with their ids, the named ones first."""
        texts = dict.fromkeys([*self._named, *self._ids])
        return [(text, self._ids[text]) for text in list(texts)[:_SAMPLES]]

    def first_in(self, text: str) -> tuple[int, str] | None:
        """Where the first control token of *text* begins, and which one it is."""
        match = None if self._pattern is None else self._pattern.search(text)
        return None if match is None else (match.start(), match.group())

    def marked(self, text: str, mark: str) -> str:
        """*text* with *mark* behind the first letter of every control token."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found.group()[0]}{mark}{found.group()[1:]}", text)

    def all_in(self, text: str) -> list[tuple[int, int, int | None]]:
        """Start, end and id of every control token of *text*."""
        if self._pattern is None:
            return []
        return [(match.start(), match.end(), self._ids.get(match.group())) for match in self._pattern.finditer(text)]


def double_bos(tokens: Sequence[int], tokenizer: Tokenizer) -> RenderingError | None:
    """The error for tokens that begin with two BOS tokens, where they do."""
    bos = tokenizer.bos_token_id
    if bos is None or list(tokens[:2]) != [bos, bos]:
        return None
    return unrenderable(
        f"the tokens begin with {tokenizer.bos_token!r} twice",
        "a chat template that writes it once, and no BOS in the text of the first message",
    )
