"""From text to token ids: many texts at once where the tokenizer can, and control tokens only where they are meant."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast, final

from glowgenius.rendering.renderer import unrenderable
from glowgenius.rendering.words import WordEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Message
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.control import ControlTokens

MARK: Final = "\ue000"
"""Stands behind the first letter of a control token's text in a message while a template renders it.

A letter for private use, so that no text that means anything has it.
"""

_SIDES: Final = ("a", " a", "a ", "\n", "\n\n", "a\n", "\n a", "1", "?\n", "é")
"""What may stand beside a control token: white space above all, which tokenizers like to join."""

_UNITS_KEPT: Final = 4096


@final
class Encoder:
    """The tokens of texts in which control tokens are written out, as chat templates write them.

    Fast tokenizers divide a text at its control tokens before they do anything else.
    So what stands before one is encoded the same whatever comes behind it; this is checked on samples when the encoder
    is made, and where it does not hold, `num_tokens` encodes whole texts instead of the piece that matters.
    """

    def __init__(self, tokenizer: Tokenizer, control: ControlTokens) -> None:
        """Try out how *tokenizer* treats control tokens."""
        self._tokenizer: Any = tokenizer
        self._control = control
        self._backend = _backend(tokenizer, control)
        self._words = None if self._backend is None else WordEncoder.of(self._backend, self._encode_fast)
        self._units: dict[str, list[int]] = {}
        samples = control.samples()
        self.divides_at_control_tokens: Final = bool(samples) and self._divides(samples)
        """Whether text on one side of a control token has no influence on the tokens of the other side."""
        self.writes_data: Final = self.divides_at_control_tokens and self._writes_data(samples)
        """Whether text that reads like a control token can be encoded as text."""

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, `N × [T]`; no BOS is added."""
        if self._backend is None or any(MARK in text for text in texts):
            return [self._encode(text) for text in texts]
        return self._encode_fast(texts) if self._words is None else self._words.encode_all(texts)

    def encode(self, text: str) -> list[int]:
        """The tokens of one text, `[T]`."""
        return self.encode_all([text])[0]

    def rows(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """*messages* as chat templates take them, with every control token in their text made harmless.

        A template pastes the text of a message between its own control tokens and encodes the whole, so that
        `<|im_end|>` within an answer would end the turn, and the model would learn to stop in mid-answer.
        So a mark is put inside of it, and the encoder takes what has the mark for text.

        Raises:
            RenderingError: The tokenizer cannot encode a control token as text; it names the message and the token.
        """
        return [self.values(message.to_dict(), f"messages[{index}]") for index, message in enumerate(messages)]

    def values(self, value: Any, name: str) -> Any:
        """A JSON value with the mark in every control token of its strings, the value itself where there are none."""
        if isinstance(value, str):
            return self._marked(value, name)
        if isinstance(value, dict):
            fields = cast("Mapping[str, Any]", value)
            return {
                self._marked(key, f"{name}.{key}"): self.values(item, f"{name}.{key}") for key, item in fields.items()
            }
        if isinstance(value, list):
            items = cast("Sequence[Any]", value)
            return [self.values(item, f"{name}[{index}]") for index, item in enumerate(items)]
        return value

    def _marked(self, text: str, name: str) -> str:
        found = self._control.first_in(text)
        if found is None:
            return text
        marked = self._control.marked(text, MARK)
        if not self.writes_data or MARK in text or self._control.first_in(marked):
            raise unrenderable(
                f"the text holds {found[1]!r} at character {found[0]}, "
                "which the tokenizer would encode as a control token",
                "write it differently, for example with a space inside",
                field=name,
            )
        return marked

    def encode_text(self, text: str) -> list[int]:
        """The tokens of *text* without a control token among them, where `rows` let it pass."""
        return self.encode(text) if self._control.first_in(text) is None else self.encode_data(text)

    def encode_data(self, text: str) -> list[int]:
        """The tokens of *text* with nothing in it taken for a control token."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return tokens

    def num_tokens(self, beginning: str, text: TokenizedText) -> int | None:
        """How many tokens of *text* make up its *beginning*; None where the tokenizer divides that otherwise by itself.

        Args:
            beginning: *text* starts with it.
            text: A text and all its tokens.
        """
        at = text.last_control_within(len(beginning)) if self.divides_at_control_tokens else None
        if at is None:
            first, tokens = 0, self.encode(beginning)
        else:
            place, first = at
            tokens = self._unit(beginning[place:])
        end = first + len(tokens)
        return end if text.tokens[first:end] == tokens else None

    def _unit(self, text: str) -> list[int]:
        """The tokens of a control token and what stands behind it, which is mostly a header seen before."""
        if text not in self._units:
            if len(self._units) >= _UNITS_KEPT:
                self._units.clear()
            self._units[text] = self.encode(text)
        return self._units[text]

    def _encode(self, text: str) -> list[int]:
        if MARK not in text:
            if self._backend is not None:
                return self._encode_fast([text])[0]
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        tokens: list[int] = []
        edges = [(0, 0, None), *self._control.all_in(text), (len(text), len(text), None)]
        for (_, end, token), (start, _, _) in pairwise(edges):
            tokens += [] if token is None else [token]
            between = text[end:start]
            if MARK in between:
                tokens += self.encode_data(between.replace(MARK, ""))
            elif between:
                tokens += self._encode(between)
        return tokens

    def _encode_fast(self, texts: Sequence[str]) -> list[list[int]]:
        backend = self._backend
        # Settings that an earlier call through transformers may have left behind.
        if backend.encode_special_tokens:
            backend.encode_special_tokens = False
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _divides(self, samples: Sequence[tuple[str, int]]) -> bool:
        """Whether encoding a text is encoding its parts, cut in front of a control token."""
        if self._backend is not None:
            added = self._backend.get_added_tokens_decoder().values()
            if any(token.lstrip or token.single_word for token in added):
                return False
        pairs = [(before, text + behind) for text, _ in samples for before in _SIDES for behind in _SIDES]
        whole = self.encode_all([before + behind for before, behind in pairs])
        left = self.encode_all([before for before, _ in pairs])
        right = self.encode_all([behind for _, behind in pairs])
        return all(tokens == [*one, *other] for tokens, one, other in zip(whole, left, right, strict=True))

    def _writes_data(self, samples: Sequence[tuple[str, int]]) -> bool:
        """Whether what follows a control token is encoded as it is by itself, and control tokens can be spelt out."""
        try:
            spelt = [self.encode_data(text) for text, _ in samples]
        except TypeError:  # a tokenizer of another make, without the setting
            return False
        control = {token for _, token in samples}
        if any(control.intersection(tokens) for tokens in spelt):
            return False
        return all(
            self.encode(text + side) == [token, *self.encode_data(side)] for text, token in samples for side in _SIDES
        )


@final
class TokenizedText:
    """A text with its tokens, and where its control tokens are in both."""

    def __init__(self, text: str, tokens: list[int], control: ControlTokens) -> None:
        self.text = text
        self.tokens = tokens
        """All tokens, `[T]`."""
        self._control = control
        self._places: list[tuple[int, int, int]] | None = None

    def last_control_within(self, length: int) -> tuple[int, int] | None:
        """The last control token of the first *length* letters: its letter and its token; None where there is none.

        None also where the control tokens of the text are not one for one those among the tokens.
        """
        if self._places is None:
            self._places = self._aligned()
        found = None
        for start, end, token in self._places:
            if end > length:
                return None if start < length else found
            found = (start, token)
        return found

    def _aligned(self) -> list[tuple[int, int, int]]:
        """Start and end of each control token in the text, and its place among the tokens."""
        written = self._control.all_in(self.text)
        ids = self._control.ids
        there = [(at, token) for at, token in enumerate(self.tokens) if token in ids]
        if [token for _, _, token in written] != [token for _, token in there]:
            return []
        return [(start, end, at) for (start, end, _), (at, _) in zip(written, there, strict=True)]


def _backend(tokenizer: Any, control: ControlTokens) -> Any:
    """The Rust tokenizer behind *tokenizer*, where that encodes as *tokenizer* itself does; else None."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not callable(getattr(backend, "encode_batch_fast", None)) or getattr(tokenizer, "split_special_tokens", False):
        return None
    samples = [side + text + other for text, _ in control.samples() for side in _SIDES for other in _SIDES[:3]]
    samples += ["", *_SIDES]
    own = [tokenizer.encode(text, add_special_tokens=False) for text in samples]
    fast = [encoding.ids for encoding in backend.encode_batch_fast(samples, add_special_tokens=False)]
    return backend if own == fast else None
