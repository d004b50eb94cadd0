"""Control tokens: the tokens that steer a model instead of being text, and how to keep them out of messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast, final

from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from glowgenius.data.message import Message
    from glowgenius.errors import RenderingError
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import TokenArray


@final
class ControlTokens:
    """The control tokens of a tokenizer, by text.

    They are the named special tokens and every added token that decoding with `skip_special_tokens` leaves out.
    The second kind matters: `all_special_tokens` knows only those with a name, so that a `<|im_start|>` that is
    merely added as special would pass for text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        hidden = [text for text, token in added.items() if tokenizer.decode([token], skip_special_tokens=True) == ""]
        texts = sorted(
            {text for text in [*tokenizer.all_special_tokens, *hidden] if text}, key=lambda text: (-len(text), text)
        )
        # The longest first: of two tokens that begin alike, the tokenizer takes the longer one.
        self._pattern = re.compile("|".join(re.escape(text) for text in texts)) if texts else None

    def first_in(self, text: str) -> tuple[int, str] | None:
        """Where the first control token of *text* begins, and which one it is."""
        match = None if self._pattern is None else self._pattern.search(text)
        return None if match is None else (match.start(), match.group())

    def refuse_in(self, messages: Sequence[Message]) -> None:
        """Refuse messages whose text would be encoded as a control token.

        A template pastes the text of a message between its own control tokens and encodes the whole,
        so that `<|im_end|>` within an answer would end the turn, and the model would learn to stop in mid-answer.

        Raises:
            RenderingError: It names the message and the token.
        """
        if self._pattern is None:
            return
        for index, message in enumerate(messages):
            for name, text in _texts(message.to_dict(), f"messages[{index}]"):
                match = self._pattern.search(text)
                if match is not None:
                    raise unrenderable(
                        f"the text holds {match.group()!r} at character {match.start()}, "
                        "which the tokenizer would encode as a control token",
                        "write it differently, for example with a space inside",
                        field=name,
                    )


def double_bos(tokens: TokenArray, tokenizer: Tokenizer) -> RenderingError | None:
    """The error for tokens that begin with two BOS tokens, where they do."""
    bos = tokenizer.bos_token_id
    if bos is None or len(tokens) < 2 or int(tokens[0]) != bos or int(tokens[1]) != bos:  # noqa: PLR2004 - double
        return None
    return unrenderable(
        f"the tokens begin with {tokenizer.bos_token!r} twice",
        "a chat template that writes it once, and no BOS in the text of the first message",
    )


def _texts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Every string within a JSON value, with where it stands."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        fields = cast("Mapping[str, Any]", value)
        for key, item in fields.items():
            yield from _texts(item, f"{name}.{key}")
    elif isinstance(value, list):
        items = cast("Sequence[Any]", value)
        for index, item in enumerate(items):
            yield from _texts(item, f"{name}[{index}]")
