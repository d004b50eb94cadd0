"""The words of a text, for `contains` and `token_f1`: with every sign that carries meaning, and where each stands.

| text | words |
| --- | --- |
| `Jane Austen's novels` | `jane` `austen` `'s` `novels` |
| `C#, C++ and .NET` | `c#` `c++` `and` `.net` |
| `1,200 km, 3.5 %, -5` | `1200` `km` `3.5` `%` `-5` |
| `x > 5`, `2+2`, `1999-2004` | `x` `>` `5`, `2` `+` `2`, `1999` `-` `2004` |
| `東京です`, `パリの` | a word per character, but runs of katakana stay whole: `東` `京` `で` `す`, `パリ` `の` |

Commas, quotes, brackets, and what Markdown puts around words are no words.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, final

from attrs import frozen

from glowgenius.evaluation.normalize import tidied
from glowgenius.evaluation.quantities import unit_as_written

_KATAKANA: Final = "\u30a1-\u30fa\u30fc-\u30fe"
_UNSPACED: Final = (
    "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3041-\u3096"  # Hiragana
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ede\u1000-\u104f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
)
"""Scripts that put no spaces between words."""

_LETTER: Final = rf"[^\W{_KATAKANA}{_UNSPACED}]"
_MORE: Final = re.compile(rf"{_LETTER}+(?:\+\+|\#)?")
_WORD: Final = re.compile(
    rf"""
      (?P<kana>[{_KATAKANA}]+)
    | (?P<char>[{_UNSPACED}])
    | (?P<number>(?<!\w)(?<!\d,)(?:(?<![)\]])[-+](?=[.\d]))?
        (?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)*(?![\d,]) | \d+(?:\.\d+)+ | \d+,\d+(?!,?\d) | \.\d+ | \d+))(?![.,]?\d)
    | (?P<dotted>(?<!\w)(?:[^\W\d_]\.){{2,}}(?:[^\W\d_](?!\w))?)
    | (?P<elided>(?<!\w)(?:[cdjlmnst]|qu|dell|nell|all|dall|sull|un)'(?=[^\W\d_]{{2}}))
    | (?P<grade>(?<!\w)(?:[A-Z]|AB)[-+](?![\w+-]))
    | (?P<word>(?:(?<!\w)\.(?=[^\W\d_]))?{_LETTER}+(?:(?<=\d)\.\d+)*(?:\+\+|\#|[+](?!\w))?)
    | (?P<suffix>(?<=\w)'(?:[^\W_]+)?)
    | (?P<between>(?<=\d)[-/:*](?=\d) | (?<=\w)[*/](?=\w))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ONE_WORD: Final = re.compile(rf"(?P<word>\d{{1,3}}(?:,\d{{3}})+{_LETTER}+|{_LETTER}+)(?P<char>)(?P<number>)")
_SIGNS: Final = frozenset("%‰&@^~|\\")
_SYMBOLS: Final = frozenset({"Sm", "Sc", "So"})
_LETTERS: Final = re.compile(r"[^\W\d_]+(?!\w)")
_ONE_LETTER_UNITS: Final = frozenset("mgshl")


@final
@frozen(kw_only=True)
class Word:
    """One word, as it is compared and as it stands there."""

    folded: str
    """In lower case; numbers without thousands separators."""

    written: str
    """As written."""

    start: int
    """The character of `Text.whole` at which it begins."""

    end: int
    """The character behind it."""


@final
@frozen(kw_only=True)
class Text:
    """A text and its words."""

    whole: str
    """The text, `tidied`."""

    words: tuple[Word, ...]
    """Its words, in order; one at least if anything in it is visible."""

    def between(self, first: int, second: int) -> str:
        """What stands between two words; before the first word and behind the last one too."""
        start = self.words[first].end if first >= 0 else 0
        end = self.words[second].start if second < len(self.words) else len(self.whole)
        return self.whole[start:end]


def read(text: str) -> Text:
    """*text* with its words."""
    whole = tidied(text)
    found: list[Word] = []
    place = 0
    while place < len(whole):
        match = _match(whole, place)
        if match is None:
            if whole[place] in _SIGNS or unicodedata.category(whole[place]) in _SYMBOLS:
                found.append(_word(whole, place, place + 1))
            place += 1
            continue
        end = match.end()
        if match["char"]:
            end = _with_marks(whole, end)
        elif match["word"]:
            end = _to_the_end(whole, end)
        found.append(_word(whole, place, end))
        place = end
    if not found and whole:
        found = [_word(whole, 0, len(whole))]
    return Text(whole=whole, words=tuple(found))


def words(text: str, *, fold_case: bool = True) -> tuple[str, ...]:
    """The words of *text*.

    Args:
        text: An answer, or a sentence with one in it.
        fold_case: Whether case is folded. Unfolded words line up one to one with the folded ones.
    """
    return tuple(word.folded if fold_case else word.written for word in read(text).words)


def is_number(word: Word) -> bool:
    """Whether a word is a number in digits, its sign included."""
    return re.fullmatch(r"[-+]?[\d.,]*\d", word.folded) is not None


def _match(whole: str, place: int) -> re.Match[str] | None:
    """The word that begins there; digits with letters behind them that are no unit (`42nd`, `3D`) are one word."""
    match = _WORD.match(whole, place)
    if match is None or not match["number"] or not whole[match.end() : match.end() + 1].isalnum():
        return match
    unit = _LETTERS.match(whole, match.end())
    if unit and (unit[0] in _ONE_LETTER_UNITS or (len(unit[0]) > 1 and unit_as_written(unit[0]) is not None)):
        return match
    return _ONE_WORD.match(whole, place) or match


def _word(whole: str, start: int, end: int) -> Word:
    written = whole[start:end]
    folded = unicodedata.normalize("NFC", written.lower())
    if folded[-1:].isdecimal():
        folded = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", folded)
    elif re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]?", folded):
        folded = folded.replace(".", "")
    return Word(folded="and" if folded == "&" else folded, written=written, start=start, end=end)


def _with_marks(whole: str, end: int) -> int:
    """The end of a character with the marks that stand above, below and behind it."""
    while end < len(whole) and unicodedata.category(whole[end])[0] == "M":
        end += 1
    return end


def _to_the_end(whole: str, end: int) -> int:
    """The end of a word with marks in it; Python takes vowel signs of many scripts for no word characters."""
    while (after := _with_marks(whole, end)) > end:
        more = _MORE.match(whole, after)
        end = more.end() if more else after
    return end
