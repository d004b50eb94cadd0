"""Normal forms of answers, and words of a text with their positions."""

from __future__ import annotations

import re
import unicodedata
from typing import Final, final

from attrs import frozen

from glowgenius.evaluation.quantities import CURRENCIES, PLAIN_NUMBER, unit_as_written

_TYPOGRAPHIC: Final = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ＇", "'"),
        **dict.fromkeys("“”„‟", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("\ufe0e\ufe0f", None),
        "µ": "μ",
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "℃": "°C",
        "℉": "°F",
    }
)
_JOINERS: Final = "\u200c\u200d"
"""Signs without width that still shape words and emoji."""

_FULL_STOPS: Final = ".。।۔։።॥"
_CODE: Final = re.compile(
    r"[{}\[\]<>=\\|]|\w\(|;$|(?<!\S)--?[A-Za-z][\w-]*(?!\S)|(?<!\d)%[A-Za-z]|\$[A-Za-z_]{2}", re.MULTILINE
)
_UNIT: Final = r"(?:°\s?[A-Za-z]|[°%‰]|[^\W\d_]+(?:/[^\W\d_]+)?[²³]?)"
_WHOLE: Final = re.compile(
    rf"(?P<sign>[-+]?)(?P<money>[{CURRENCIES}]?)\s?(?P<inner>[-+]?)(?P<number>{PLAIN_NUMBER})\s?"
    rf"(?P<unit>{_UNIT}|[{CURRENCIES}])?"
)
_NUMBER_AND_UNIT: Final = re.compile(r"(?<![^\W\d_])(?P<number>\d[\d.,]*\s?)(?P<unit>[^\W\d_]+)(?!\w)")


def normalize(text: str) -> str:
    """*text* in the form `exact_match` compares; empty only if nothing in it is visible."""
    text = tidied(text)
    while len(text) > 1 and text[-1] in _FULL_STOPS and text[:-1].rstrip()[-1] not in _FULL_STOPS:
        text = text[:-1].rstrip()
    return unicodedata.normalize("NFC", _lower(_closed_up(text)))


def in_capitals(text: str) -> str | None:
    """*text* in capitals, where its case means nothing: `STRASSE` is `Straße`, `ISPARTA` is `Isparta` and `ısparta`."""
    text = tidied(text)
    plain = not looks_like_code(text) and not any(char.isdigit() for char in text)
    return unicodedata.normalize("NFC", normalize(text).upper()) if plain else None


def looks_like_code(text: str) -> bool:
    """Whether *text* looks like code, JSON or markup: braces, angle brackets, `=`, `|`, a call."""
    return _CODE.search(text) is not None


def tidied(text: str) -> str:
    """*text* with normalised Unicode, spaces, quotes and hyphens, and trimmed; case and punctuation stay."""
    # A lone carriage return is a line break too.
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").translate(_TYPOGRAPHIC)
    text = "".join(map(_plain, text))
    lines = [re.sub(r"(?<=\S)[ \t]+", " ", line).rstrip() for line in text.split("\n")]
    return unicodedata.normalize("NFC", "\n".join(lines).strip())


def is_one_number(text: str) -> bool:
    """Whether *text* is exactly one number, with an optional unit."""
    match = _WHOLE.fullmatch(tidied(text))
    unit = match["unit"] if match else None
    return match is not None and (not unit or unit in CURRENCIES or unit_as_written(unit.rstrip("²³")) is not None)


def _plain(char: str) -> str:
    """*char* with full- and half-width forms and spaces normalised, and zero-width characters removed."""
    if char in "\n\t" or char in _JOINERS:
        return char
    if char.isspace():
        return "\n" if char in "\x0b\x0c\x85\u2028\u2029" else " "
    if unicodedata.category(char) in {"Cc", "Cf"}:
        return ""
    width, _, plain = unicodedata.decomposition(char).partition(" ")
    return chr(int(plain, 16)) if width in {"<wide>", "<narrow>"} else char


def _closed_up(text: str) -> str:
    """An answer that is one number, without thousands separators and without a space before its unit."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        return text
    unit = match["unit"] or ""
    if unit and unit not in CURRENCIES and unit_as_written(unit.rstrip("²³")) is None:
        return text
    number = match["number"]
    if re.fullmatch(r"[1-9]\d{0,2}(?:([, ])\d{3})(?:\1\d{3})*(?:\.\d+)?", number):
        number = number.replace(",", "").replace(" ", "")
    return f"{match['sign']}{match['money']}{match['inner']}{number}{unit}"


def _lower(text: str) -> str:
    """*text* in lower case, except code and units with meaningful case."""
    if looks_like_code(text):
        return text
    text = text.replace("İ", "i")  # its lower case would be an i with a combining dot
    parts: list[str] = []
    end = 0
    for match in _NUMBER_AND_UNIT.finditer(text):
        written = unit_as_written(match["unit"])
        if written is not None:
            parts += [text[end : match.start("unit")].lower(), written]
            end = match.end()
    return "".join([*parts, text[end:].lower()])


_BEFORE_A_LABEL: Final = re.compile(
    r"(?:the )?(?:(?:correct|right|final|best) )?(?:answer|label|class|category|sentiment|intent|option|choice|"
    r"classification|output|prediction)\s*(?:is|:|=)\s*:?\s*",
    re.IGNORECASE,
)
_PAIRS: Final = ('""', "''", "``", "**", "__", "()", "[]", "“”", "«»", "「」", "《》")
_FINAL: Final = ".!,;:。！" + _FULL_STOPS


def as_label(text: str) -> str:
    """*text* as a class label, without insignificant surroundings."""
    text = normalize(text)
    start = _BEFORE_A_LABEL.match(text)
    if start and start.end() < len(text):
        text = text[start.end() :]
    while (inner := _inside(text)) != text and inner:
        text = inner
    return re.sub(r"(?<=\w)[ _-]+(?=\w)", " ", text)


def _inside(text: str) -> str:
    """*text* without an enclosing pair of brackets or quotes, a final punctuation mark, or the bracket of `B)`."""
    if len(text) > 1 and text[0] + text[-1] in _PAIRS:
        return text[1:-1].strip()
    return text[:1] if re.fullmatch(r"\w\)", text) else text.rstrip(_FINAL).rstrip()


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


_EMPHASIS: Final = re.compile(
    r"(?<![\w_])_(?P<inside>(?=[A-Z\d]|[^\W_a-z])[^_\n]{0,200}[^\W_]|[^_\n]{1,100} [^_\n]{1,100})_(?![\w_])"
    r"|(?<![\w*])\*\*(?P<bold>[^\s*](?:[^*\n]{0,200}[^\s*])?)\*\*(?![\w*])"
)
"""`_Paris_` and `**Paris**` in Markdown; `_name_` and `__name__` are names."""


@final
@frozen(kw_only=True)
class Word:
    """One word in comparable form, with its original text."""

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
        """Text between two words; also before the first and after the last one."""
        start = self.words[first].end if first >= 0 else 0
        end = self.words[second].start if second < len(self.words) else len(self.whole)
        return self.whole[start:end]


def read(text: str) -> Text:
    """Split *text* into words."""
    whole = _EMPHASIS.sub(lambda match: f" {match['inside'] or match['bold']} ", tidied(text))
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
    """Words of *text*.

    Args:
        text: An answer, or a sentence with one in it.
        fold_case: Whether case is folded. Unfolded words line up one to one with the folded ones.
    """
    return tuple(word.folded if fold_case else word.written for word in read(text).words)


def is_number(word: Word) -> bool:
    """Whether a word is a number in digits, with optional sign."""
    return re.fullmatch(r"[-+]?[\d.,]*\d", word.folded) is not None


def _match(whole: str, place: int) -> re.Match[str] | None:
    """The word that begins there; digits followed by letters that are not a unit (`42nd`, `3D`) are one word."""
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
    """End of a character with its combining marks."""
    while end < len(whole) and unicodedata.category(whole[end])[0] == "M":
        end += 1
    return end


def _to_the_end(whole: str, end: int) -> int:
    """End of a word including combining marks, which Python does not count as word characters in many scripts."""
    while (after := _with_marks(whole, end)) > end:
        more = _MORE.match(whole, after)
        end = more.end() if more else after
    return end
