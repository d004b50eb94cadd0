"""Encoding word by word: most words of a text were met before, and need not go through the tokenizer again."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Encode = Callable[[Sequence[str]], list[list[int]]]

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
    """Encodes texts by their words, each of them once.

    A byte-level tokenizer divides a text into words by a pattern and encodes every word by itself.
    So a text can be cut wherever that pattern cannot but begin a new word, and every piece be remembered.
    The tokens are the same; `of` makes one only where the pattern is known to allow it.
    """

    def __init__(self, added: Mapping[str, int], encode: Encode) -> None:
        """Encode by *encode* what was not met before; *added* are the texts that are one token, with their ids."""
        longest_first = sorted(added, key=lambda text: (-len(text), text))
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._given = {text: [token] for text, token in added.items()}
        self._edge = next(iter(added.items()))
        self._encode = encode
        self._known = dict(self._given)
        self._letters = 0

    @classmethod
    def of(cls, backend: Any, encode: Encode) -> WordEncoder | None:
        """One for the Rust tokenizer *backend*, which *encode* calls; None where its words may depend on each other."""
        added = backend.get_added_tokens_decoder()
        # One that is looked for in normalised text, or that takes white space with it, is not where it is written.
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
            return self._encode(texts)  # hardly a word comes again
        if new:
            known.update(zip(new, self._learnt(new), strict=True))
        tokens = [list(chain.from_iterable(map(known.__getitem__, words))) for words in divided]
        self._letters += letters
        if self._letters > _KEPT:
            self._known = dict(self._given)
            self._letters = 0
        return tokens

    def _learnt(self, words: Sequence[str]) -> Iterator[list[int]]:
        """The tokens of each word; they are encoded side by side, as the tokenizer takes long to begin with a text."""
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
        """*text* in pieces that are encoded alike wherever they stand."""
        words: list[str] = []
        for at, part in enumerate(self._added.split(text)):
            if at % 2:
                words.append(part)
            else:
                words += _WORD.findall(part)
        return words


def _allows_cuts(backend: Any) -> bool:
    """Whether what *backend* does to a text between its added tokens is done to each word alone."""
    model = backend.model
    if type(model).__name__ != "BPE" or model.dropout or backend.pre_tokenizer is None:
        return False
    # NFC joins nothing to a space or a line break, and leaves ASCII letters before one alone.
    normalizer = backend.normalizer
    if normalizer is not None and _settings(normalizer) != {"type": "NFC"}:
        return False
    pre_tokenizer = _settings(backend.pre_tokenizer)
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    kinds = [_kind(step) for step in steps]
    return None not in kinds and "cutting" in kinds


def _settings(part: Any) -> Mapping[str, Any]:
    """What a part of a Rust tokenizer is made of, as `tokenizer.json` has it."""
    return cast("Mapping[str, Any]", json.loads(part.__getstate__()))


def _kind(step: Mapping[str, Any]) -> str | None:
    """Whether a step of the pre-tokenizer begins a new word at every cut, at least hinders none, or cannot be told."""
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
