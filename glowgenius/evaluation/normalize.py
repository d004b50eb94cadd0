"""What counts as the same answer: a form that loses no meaning, and the words that `contains` and `token_f1` compare.

`normalize` folds what surely means the same, and nothing else. Accepted answer and prediction go through it alike.

1. **Unicode form** (NFC), full-width letters, ligatures (`ﬁ`), kinds of spaces, signs without width. `²` stays `²`,
   and letters of other scripts that only look alike stay different (a Cyrillic `А` is no Latin `A`).
2. **Case**, letter by letter: `ß` is not `ss`. Case stays where it tells units apart (`5 MW` is not `5 mW`), and in
   text with the signs of code (`Print(x)` is not `print(x)`).
3. **Outer space** goes, and **runs of spaces** within a line are one. Line breaks and indentation stay: they are
   the meaning of code and of lists.
4. **A final full stop** goes, in any script (`.`, `。`, `।`, `۔`); an ellipsis stays.
5. **Typographic signs**: `’` is `'`, `“` is `"`; hyphen, minus sign and en dash are `-`. None is
   dropped: `-5` is not `5`.
6. **A whole answer that is one number**: thousands separators and the space before the unit go (`1,200 m` is
   `1200m`, `10 %` is `10%`); the unit and every sign stay.

Articles, punctuation, symbols, plurals and abbreviations all stay: `C` is not `C#`, `x > 5` not `x < 5`,
`Main Saint` not `Main Street`. What more counts as right in your domain belongs into the references, or into a metric
of your own.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

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
_CODE: Final = re.compile(r"[{}\[\]<>=\\|]|\w\(|;$", re.MULTILINE)
_UNIT: Final = r"(?:°\s?[A-Za-z]|[°%‰]|[^\W\d_]+(?:/[^\W\d_]+)?[²³]?)"
_WHOLE: Final = re.compile(
    rf"(?P<sign>[-+]?)(?P<money>[{CURRENCIES}]?)\s?(?P<inner>[-+]?)(?P<number>{PLAIN_NUMBER})\s?"
    rf"(?P<unit>{_UNIT}|[{CURRENCIES}])?"
)
_NUMBER_AND_UNIT: Final = re.compile(r"(?<![^\W\d_])(?P<number>\d[\d.,]*\s?)(?P<unit>[^\W\d_]+)(?!\w)")


def normalize(text: str) -> str:
    """*text* in the form in which `exact_match` compares it; empty only if nothing in it is visible."""
    text = tidied(text)
    while len(text) > 1 and text[-1] in _FULL_STOPS and text[:-1].rstrip()[-1] not in _FULL_STOPS:
        text = text[:-1].rstrip()
    return unicodedata.normalize("NFC", _lower(_closed_up(text)))


def looks_like_code(text: str) -> bool:
    """Whether *text* has the signs of code, JSON or markup: braces, angle brackets, `=`, `|`, a call."""
    return _CODE.search(text) is not None


def tidied(text: str) -> str:
    """*text* in one Unicode form, with plain spaces, quotes and hyphens, without outer space; case and marks stay."""
    # A carriage return alone is a line break, too.
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").translate(_TYPOGRAPHIC)
    text = "".join(map(_plain, text))
    lines = [re.sub(r"(?<=\S)[ \t]+", " ", line).rstrip() for line in text.split("\n")]
    return unicodedata.normalize("NFC", "\n".join(lines).strip())


def is_one_number(text: str) -> bool:
    """Whether the whole of *text* is one number, with its unit if it has one."""
    match = _WHOLE.fullmatch(tidied(text))
    unit = match["unit"] if match else None
    return match is not None and (not unit or unit in CURRENCIES or unit_as_written(unit.rstrip("²³")) is not None)


def _plain(char: str) -> str:
    """*char* without what makes it wide or narrow; spaces as one sign, signs without width as none."""
    if char in "\n\t" or char in _JOINERS:
        return char
    if char.isspace():
        return "\n" if char in "\x0b\x0c\x85\u2028\u2029" else " "
    if unicodedata.category(char) in {"Cc", "Cf"}:
        return ""
    width, _, plain = unicodedata.decomposition(char).partition(" ")
    return chr(int(plain, 16)) if width in {"<wide>", "<narrow>"} else char


def _closed_up(text: str) -> str:
    """A whole answer that is one number, without thousands separators and without a space before its unit."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        return text
    unit = match["unit"] or ""
    if unit and unit not in CURRENCIES and unit_as_written(unit.rstrip("²³")) is None:
        return text
    number = match["number"]
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", "")
    return f"{match['sign']}{match['money']}{match['inner']}{number}{unit}"


def _lower(text: str) -> str:
    """*text* in lower case, but for code, and for units whose case is their meaning."""
    if looks_like_code(text):
        return text
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
    """*text* as a label of a closed set: without what may stand around a label and means nothing."""
    text = normalize(text)
    start = _BEFORE_A_LABEL.match(text)
    if start and start.end() < len(text):
        text = text[start.end() :]
    while (inner := _inside(text)) != text and inner:
        text = inner
    return re.sub(r"(?<=\w)[ _-]+(?=\w)", " ", text)


def _inside(text: str) -> str:
    """*text* without one pair of brackets or quotes around it, a final mark, or the bracket of `B)`."""
    if len(text) > 1 and text[0] + text[-1] in _PAIRS:
        return text[1:-1].strip()
    return text[:1] if re.fullmatch(r"\w\)", text) else text.rstrip(_FINAL).rstrip()
