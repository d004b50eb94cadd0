"""Text to token ids, with a word cache and control tokens."""

from __future__ import annotations

import json
import re
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, cast, final

from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from glowgenius.errors import RenderingError
    from glowgenius.models.tokenizer import Tokenizer

    Encode = Callable[[Sequence[str]], list[list[int]]]
    from collections.abc import Sequence

    from glowgenius.data.message import Message

_SAMPLES: Final = 6
"""How many control tokens stand for all of them when a tokenizer is tried out."""


@final
class ControlTokens:
    """Control tokens of a tokenizer, by text and by id.

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
        # The longest first: of two tokens with a common prefix, the tokenizer takes the longer one.
        self._pattern = re.compile("|".join(re.escape(text) for text in texts)) if texts else None
        self._named = [text for text in tokenizer.all_special_tokens if text in self._ids]

    def samples(self) -> list[tuple[str, int]]:
        """A few control tokens with their ids, named ones first."""
        texts = dict.fromkeys([*self._named, *self._ids])
        return [(text, self._ids[text]) for text in list(texts)[:_SAMPLES]]

    def first_in(self, text: str) -> tuple[int, str] | None:
        """Position and text of the first control token in *text*."""
        match = None if self._pattern is None else self._pattern.search(text)
        return None if match is None else (match.start(), match.group())

    def marked(self, text: str, mark: str) -> str:
        """*text* with *mark* after the first character of every control token."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"{found.group()[0]}{mark}{found.group()[1:]}", text)

    def all_in(self, text: str) -> list[tuple[int, int, int | None]]:
        """Start, end and id of every control token in *text*."""
        if self._pattern is None:
            return []
        return [(match.start(), match.end(), self._ids.get(match.group())) for match in self._pattern.finditer(text)]


def double_bos(tokens: Sequence[int], tokenizer: Tokenizer) -> RenderingError | None:
    """The error for tokens that begin with two BOS tokens; None otherwise."""
    bos = tokenizer.bos_token_id
    if bos is None or list(tokens[:2]) != [bos, bos]:
        return None
    return unrenderable(
        f"the tokens begin with {tokenizer.bos_token!r} twice",
        "a chat template that writes it once, and no BOS in the text of the first message",
    )


_ENDINGS: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES: Final = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED: Final = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s"
_LETTERS: Final = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_MARKS: Final = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+"
_OTHERS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*" + _SPACES
_DEEPSEEK: Final = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*" + _SPACES
)

_CUTTING: Final = frozenset(
    {
        rf"{_LETTERS}|\p{{N}}{{1,3}}{_OTHERS}",  # Llama 3, GLM, OLMo 2
        rf"{_LETTERS}|\p{{N}}{_OTHERS}",  # Qwen 2, 2.5 and 3
        rf"{_MARKS}|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_SPACES}",  # Qwen 3.5
        # gpt-oss, Phi-4-mini
        rf"{_CASED % (_ENDINGS + '?', _ENDINGS + '?')}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}",
        rf"{_CASED % ('', '')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}",  # Mistral's Tekken, Nemotron 3
        _DEEPSEEK,  # V3, after two neutral ones
    }
)
"""Patterns that begin a new word wherever `_WORD` ends one, whatever stands on the other side.

This is read off their alternatives. Nothing in them looks back, and only white space looks ahead. And:

- No match goes on to a space from what is no white space, so a word begins at every space behind such a letter.
- A space in front of an ASCII letter begins a word together with it; white space before it ends there,
  be it that the text ends or that it goes on.
- No match goes on from an ASCII letter or digit to a line break.
- No match goes on from a line break to an ASCII letter; one line break alone is the same word either way.
"""

_NEUTRAL: Final = frozenset({r"\p{N}{1,3}", r"\p{N}", r"[一-龥぀-ゟ゠-ヿ]+"})
"""Patterns that match no white space and look nowhere: where `_WORD` ends a word, so do they, or leave it to others."""

_WORD: Final = re.compile(
    r"""
      \n(?=[A-Za-z])                 # a line break between two words
    | \s+(?=\ [A-Za-z])              # an indentation, but for the space that belongs to the word behind it
    | \s*\S+                         # a word, up to the next space, or to a line break behind a letter or digit
      (?: (?<![A-Za-z0-9])\n(?=[A-Za-z])
        | (?!(?<=[A-Za-z0-9])\n)[^\S\ ](?:\s*(?=\ [A-Za-z])|\s*\S*)
      )*
    | \s+                            # what is left at the end
    """,
    re.VERBOSE,
)

_KEPT: Final = 500_000
"""Letters of words that are remembered: some 70,000 words, in about 15 MB."""


_SIDE_BY_SIDE: Final = 64
"""Words that are encoded as one text, with an added token between them."""


@final
class WordEncoder:
    """Encodes texts word by word, and caches the tokens of each word.

    A byte-level tokenizer divides a text into words by a pattern and encodes every word by itself.
    So a text can be cut wherever that pattern cannot but begin a new word, and every piece be remembered.
    The tokens are the same; `of` makes one only where the pattern is known to allow it.
    """

    def __init__(self, added: Mapping[str, int], encode: Encode) -> None:
        """Create an encoder that calls *encode* for new words; *added* maps single-token texts to their ids."""
        longest_first = sorted(added, key=lambda text: (-len(text), text))
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._given = {text: [token] for text, token in added.items()}
        self._edge = next(iter(added.items()))
        self._encode = encode
        self._known = dict(self._given)
        self._letters = 0

    @classmethod
    def of(cls, backend: Any, encode: Encode) -> WordEncoder | None:
        """A word encoder for the Rust tokenizer *backend*; None if a word's tokens may depend on its neighbours."""
        added = backend.get_added_tokens_decoder()
        # A token matched in normalised text, or with adjacent white space, is not found at its literal position.
        moving = ("normalized", "lstrip", "rstrip", "single_word")
        moved = any(getattr(token, setting) for token in added.values() for setting in moving)
        spaced = any(re.search(r"\s", token.content) for token in added.values())
        if not added or moved or spaced or not _allows_cuts(backend):
            return None
        return cls({token.content: number for number, token in added.items()}, encode)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, `N × [T]`."""
        divided = [self._words(text) for text in texts]
        known = self._known
        new = list({word for words in divided for word in words if word not in known})
        letters = sum(map(len, new))
        if letters * 2 > sum(map(len, texts)):
            return self._encode(texts)  # the cache would hardly be hit
        if new:
            known.update(zip(new, self._learnt(new), strict=True))
        tokens = [list(chain.from_iterable(map(known.__getitem__, words))) for words in divided]
        self._letters += letters
        if self._letters > _KEPT:
            self._known = dict(self._given)
            self._letters = 0
        return tokens

    def _learnt(self, words: Sequence[str]) -> Iterator[list[int]]:
        """Tokens of each word, encoded in one batch because each call to the tokenizer is slow to start."""
        text, edge = self._edge
        rows = self._encode([text.join(words[at : at + _SIDE_BY_SIDE]) for at in range(0, len(words), _SIDE_BY_SIDE)])
        for tokens in rows:
            word: list[int] = []
            for token in tokens:
                if token == edge:
                    yield word
                    word = []
                else:
                    word.append(token)
            yield word

    def _words(self, text: str) -> list[str]:
        """*text* split into pieces whose tokens do not depend on their context."""
        words: list[str] = []
        for at, part in enumerate(self._added.split(text)):
            if at % 2:
                words.append(part)
            else:
                words += _WORD.findall(part)
        return words


def _allows_cuts(backend: Any) -> bool:
    """Whether *backend* processes text between added tokens word by word."""
    model = backend.model
    if type(model).__name__ != "BPE" or model.dropout or backend.pre_tokenizer is None:
        return False
    # NFC never composes across a space or newline, nor changes ASCII letters before one.
    normalizer = backend.normalizer
    if normalizer is not None and _settings(normalizer) != {"type": "NFC"}:
        return False
    pre_tokenizer = _settings(backend.pre_tokenizer)
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    kinds = [_kind(step) for step in steps]
    return None not in kinds and "cutting" in kinds


def _settings(part: Any) -> Mapping[str, Any]:
    """Settings of one component of a Rust tokenizer, as in `tokenizer.json`."""
    return cast("Mapping[str, Any]", json.loads(part.__getstate__()))


def _kind(step: Mapping[str, Any]) -> str | None:
    """Whether a pre-tokenizer step splits at every cut (`cutting`), allows it (`neutral`), or is unknown (None)."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return "cutting" if use_regex else "neutral"
        case {"type": "Digits"}:
            return "neutral"
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": str(pattern)}}:
            written = pattern.replace("\r", r"\r").replace("\n", r"\n")
            return "cutting" if written in _CUTTING else "neutral" if written in _NEUTRAL else None
        case _:
            return None


MARK: Final = "\ue000"
"""Stands behind the first letter of a control token's text in a message while a template renders it.

A letter for private use, so that no text that means anything has it.
"""

_SIDES: Final = ("a", " a", "a ", "\n", "\n\n", "a\n", "\n a", "1", "?\n", "é")
"""What may stand beside a control token: white space above all, which tokenizers like to join."""

_UNITS_KEPT: Final = 4096


@final
class Encoder:
    """Encodes texts that contain control tokens, as chat templates write them.

    Fast tokenizers divide a text at its control tokens before they do anything else.
    So what stands before one is encoded the same whatever comes behind it; this is checked on samples when the encoder
    is made, and where it does not hold, `num_tokens` encodes whole texts instead of the piece that matters.
    """

    def __init__(self, tokenizer: Tokenizer, control: ControlTokens) -> None:
        """Test how *tokenizer* treats control tokens."""
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
        """Tokens of each text, `N × [T]`, without an added BOS."""
        if self._backend is None or any(MARK in text for text in texts):
            return [self._encode(text) for text in texts]
        return self._encode_fast(texts) if self._words is None else self._words.encode_all(texts)

    def encode(self, text: str) -> list[int]:
        """Tokens of one text, `[T]`."""
        return self.encode_all([text])[0]

    def rows(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """*messages* in the form chat templates take, with control tokens in their text neutralised.

        A template pastes the text of a message between its own control tokens and encodes the whole, so that
        `<|im_end|>` within an answer would end the turn, and the model would learn to stop in mid-answer.
        So a mark is put inside of it, and the encoder takes what has the mark for text.

        Raises:
            RenderingError: The tokenizer cannot encode a control token as text; it names the message and the token.
        """
        return [self.values(message.to_dict(), f"messages[{index}]") for index, message in enumerate(messages)]

    def values(self, value: Any, name: str) -> Any:
        """A JSON value with a mark in every control token of its strings; the same object if there are none."""
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
        """Tokens of *text* without control tokens; for text that `rows` has accepted."""
        return self.encode(text) if self._control.first_in(text) is None else self.encode_data(text)

    def encode_data(self, text: str) -> list[int]:
        """Tokens of *text* with every control token in it encoded as plain text."""
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return tokens

    def num_tokens(self, beginning: str, text: TokenizedText) -> int | None:
        """Number of tokens of *text* in its prefix *beginning*; None if the tokenization changes across the boundary.

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
        """Tokens of a control token and the text after it, which is mostly a repeated header."""
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
        # An earlier call through transformers may have changed these settings.
        if backend.encode_special_tokens:
            backend.encode_special_tokens = False
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _divides(self, samples: Sequence[tuple[str, int]]) -> bool:
        """Whether texts can be encoded in parts split before control tokens."""
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
        """Whether text is encoded alike after any control token, and control tokens can be encoded as text."""
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
    """A text with its tokens and the positions of its control tokens in both."""

    def __init__(self, text: str, tokens: list[int], control: ControlTokens) -> None:
        self.text = text
        self.tokens = tokens
        """All tokens, `[T]`."""
        self._control = control
        self._places: list[tuple[int, int, int]] | None = None

    def last_control_within(self, length: int) -> tuple[int, int] | None:
        """Character and token position of the last control token in the first *length* characters, or None.

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
        """Start and end of each control token in the text, and its token index."""
        written = self._control.all_in(self.text)
        ids = self._control.ids
        there = [(at, token) for at, token in enumerate(self.tokens) if token in ids]
        if [token for _, _, token in written] != [token for _, token in there]:
            return []
        return [(start, end, at) for (start, end, _), (at, _) in zip(written, there, strict=True)]


def _backend(tokenizer: Any, control: ControlTokens) -> Any:
    """The Rust tokenizer of *tokenizer*, if it encodes exactly like *tokenizer*; else None."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not callable(getattr(backend, "encode_batch_fast", None)) or getattr(tokenizer, "split_special_tokens", False):
        return None
    samples = [side + text + other for text, _ in control.samples() for side in _SIDES for other in _SIDES[:3]]
    samples += ["", *_SIDES]
    own = [tokenizer.encode(text, add_special_tokens=False) for text in samples]
    fast = [encoding.ids for encoding in backend.encode_batch_fast(samples, add_special_tokens=False)]
    return backend if own == fast else None


def num_shared(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the common prefix, in items or characters."""
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
