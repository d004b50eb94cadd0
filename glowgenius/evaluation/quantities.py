"""Numbers with units, parsed from text: `1,000 m` equals `1 km`, and `5 MW` is not `5 mW`.

| read | as |
| --- | --- |
| `1,000`, `1 000`, `1'000`, `1.234,56`, `10,5` | thousands separators go, a decimal comma is a point |
| `1/2`, `2 1/2`, `½`, `1e3`, `2 × 10^3`, `2 million`, `10k`, `twenty-one` | their value, exactly |
| `-5`, `−5`, `minus five` | negative |
| `10 %`, `5 ‰` | 0.10 and 0.005 |
| `$5`, `5 USD`, `5 dollars` | an amount of that currency; another currency is another unit |
| `> 5`, `at least 5`, `more than 5` | a bound, which is no number |

Units of length, area, volume, mass, time, speed, data, temperature, power, energy and electricity are converted;
a word that is no unit (`42 apples`) is not compared.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import TYPE_CHECKING, Final, final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST: Final = 400
"""Digits of a number, and its greatest power of ten; what is longer is not read as a number."""

_PREFIXES: Final = {
    "p": -12,
    "n": -9,
    "µ": -6,
    "u": -6,
    "m": -3,
    "c": -2,
    "d": -1,
    "": 0,
    "h": 2,
    "k": 3,
    "M": 6,
    "G": 9,
    "T": 12,
}
_LONG_PREFIXES: Final = {
    "pico": -12,
    "nano": -9,
    "micro": -6,
    "milli": -3,
    "centi": -2,
    "deci": -1,
    "": 0,
    "hecto": 2,
    "kilo": 3,
    "mega": 6,
    "giga": 9,
    "tera": 12,
}
_SYMBOLS: Final = {
    "m": "length",
    "g": "mass",
    "s": "time",
    "W": "power",
    "Hz": "frequency",
    "Pa": "pressure",
    "V": "voltage",
    "A": "current",
    "J": "energy",
    "N": "force",
    "Ω": "resistance",
    "F": "capacity",
    "L": "volume",
    "l": "volume",
    "eV": "electronvolt",
    "Wh": "energy",
    "cal": "calories",
    "mol": "amount",
    "bit": "data",
    "B": "data",
}
_NAMES: Final = {
    "metre": "m",
    "meter": "m",
    "gram": "g",
    "gramme": "g",
    "second": "s",
    "watt": "W",
    "hertz": "Hz",
    "pascal": "Pa",
    "volt": "V",
    "ampere": "A",
    "amp": "A",
    "joule": "J",
    "newton": "N",
    "ohm": "Ω",
    "farad": "F",
    "litre": "L",
    "liter": "L",
    "electronvolt": "eV",
    "calorie": "cal",
    "mole": "mol",
    "byte": "B",
}
_OTHERS: Final = {
    ("length", Fraction(254, 10000)): "in inch inches",
    ("length", Fraction(3048, 10000)): "ft foot feet",
    ("length", Fraction(9144, 10000)): "yd yds yard yards",
    ("length", Fraction(1609344, 1000)): "mi mile miles",
    ("mass", Fraction(45359237, 100000)): "lb lbs pound pounds",
    ("mass", Fraction(45359237, 1600000)): "oz ounce ounces",
    ("mass", Fraction(10**6)): "t tonne tonnes",
    ("time", Fraction(1)): "sec secs",
    ("time", Fraction(60)): "min mins minute minutes",
    ("time", Fraction(3600)): "h hr hrs hour hours",
    ("time", Fraction(86400)): "d day days",
    ("time", Fraction(604800)): "week weeks",
    ("months", Fraction(1)): "month months",
    ("months", Fraction(12)): "yr yrs year years",
    ("volume", Fraction(3785411784, 10**9)): "gal gallon gallons",
    ("area", Fraction(10000)): "ha hectare hectares",
    ("area", Fraction(40468564224, 10**7)): "acre acres",
    ("speed", Fraction(1)): "m/s",
    ("speed", Fraction(1000, 3600)): "km/h kph kmh km/hr",
    ("speed", Fraction(1609344, 3600000)): "mph mi/h",
    ("data", Fraction(1)): "b",
    ("data", Fraction(8 * 1024)): "KiB",
    ("data", Fraction(8 * 1024**2)): "MiB",
    ("data", Fraction(8 * 1024**3)): "GiB",
    ("pressure", Fraction(10**5)): "bar",
    ("angle", Fraction(1)): "°",
    ("ratio", Fraction(1, 100)): "% percent",
    ("ratio", Fraction(1, 1000)): "‰",
    ("dollar", Fraction(1)): "$ usd dollar dollars us$",
    ("dollar", Fraction(1, 100)): "¢ cent cents",
    ("euro", Fraction(1)): "€ eur euro euros",
    ("sterling", Fraction(1)): "£ gbp",
    ("yen", Fraction(1)): "¥ jpy yen",
    ("rupee", Fraction(1)): "₹ inr rupee rupees",
    ("won", Fraction(1)): "₩ krw won",
    ("rouble", Fraction(1)): "₽ rub rouble roubles ruble rubles",
    ("bitcoin", Fraction(1)): "₿ btc",
    ("celsius", Fraction(1)): "°c °celsius ℃ celsius",
    ("fahrenheit", Fraction(1)): "°f °fahrenheit ℉ fahrenheit",
    ("kelvin", Fraction(1)): "K kelvin kelvins",
}
CURRENCIES: Final = "$€£¥₹₩₽₿"
"""The signs of money that stand before a number as well as behind it."""

_POWERS: Final = {"area": 2, "volume": 3}
_ALSO_PROSE: Final = frozenset(
    {"in", "a", "s", "d", "t", "h", "m", "f", "c", "b", "won", "bar", "min", "second", "day"}
)
"""Units that are also words or letters of prose: read as units only where nothing but a mark follows."""

_CASE_DECIDES: Final = frozenset("bgkmst")
"""Letters behind a number that mean one thing as a capital and another small: `5 G`, `5 g`, `5 M`, `5 m`."""

_TO_NINETEEN: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL: Final = {word: value for value, word in enumerate(_TO_NINETEEN.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "bn": 10**9}

_BOUNDS: Final = (
    ("≥", r">=|≥|at least|no less than|no fewer than|not less than|a minimum of"),
    ("≤", r"<=|≤|at most|up to|no more than|not more than|a maximum of"),
    ("≠", r"!=|≠|not"),
    (">", r">|greater than|more than|over|above"),
    ("<", r"<|less than|fewer than|under|below"),
)
_BOUND: Final = tuple((sign, re.compile(rf"(?:^|(?<!\w))(?:{said})\s*$", re.IGNORECASE)) for sign, said in _BOUNDS)

_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def _money(match: re.Match[str]) -> str:
    """`$5M` in words."""
    return f"{match[1]} {'billion' if match[2][0] in 'bB' else 'million'}"


_SAME: Final[tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r"(?<=\d)_(?=\d{3}(?!\d))"), ""),
    (re.compile(r"[⁰¹⁴⁵⁶⁷⁸⁹⁻]+|(?<=10)[²³⁰¹⁴⁵⁶⁷⁸⁹⁻]+"), lambda match: f"^{match[0].translate(_RAISED)}"),
    (re.compile("²"), "^2"),
    (re.compile("³"), "^3"),
    (re.compile(r"\bper cent\b", re.IGNORECASE), "percent"),
    (re.compile(r"\b(?:kilomet(?:er|re)s?|km) (?:per|an) hour\b", re.IGNORECASE), "km/h"),
    (re.compile(r"\bmiles? (?:per|an) hour\b", re.IGNORECASE), "mph"),
    (re.compile(r"\bmet(?:er|re)s? (?:per|a) second\b", re.IGNORECASE), "m/s"),
    (re.compile(r"(?:°\s*|\bdegrees? )(celsius|fahrenheit|c\b|f\b)", re.IGNORECASE), r"°\1"),
    (re.compile(r"\b(?:u\.?s\.?|american) (dollars?|cents?)\b", re.IGNORECASE), r"\1"),
    (re.compile(r"\bpounds sterling\b", re.IGNORECASE), "gbp"),
    (re.compile(r"\b(minus|negative) (?=[\d$€£])", re.IGNORECASE), "-"),
    (re.compile(r"(?<!\w)(?:us\$|usd)\s?(?=-?\d)", re.IGNORECASE), "$"),
    (re.compile(r"(?<!\w)eur\s?(?=-?\d)", re.IGNORECASE), "€"),
    (re.compile(r"(?<!\w)gbp\s?(?=-?\d)", re.IGNORECASE), "£"),
    (re.compile(r"(?<!\w)jpy\s?(?=-?\d)", re.IGNORECASE), "¥"),
    (re.compile(r"(?<!\w)(?:inr|rs\.?)\s?(?=-?\d)", re.IGNORECASE), "₹"),
    (re.compile(rf"(?<=[{CURRENCIES}])(\s?-?[\d.,]*\d)\s?(m|mn|mio|b)\b", re.IGNORECASE), _money),
    (re.compile(r"\s*(?:[×x*]\s*10\s*\^\s*|[×x*]\s*10\s*\*\*\s*)([-+−]?\d+)"), r"e\1"),
    (re.compile(r"(?<![\w.,^*/])10\s?\^\s?([-+−]?\d+)"), r"1e\1"),
)
_VULGAR: Final = re.compile(r"(?:(?<=\d)\s?)?([¼½¾⅐-⅞])")

PLAIN_NUMBER: Final = (
    r"(?:\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?(?![\d,])"  # 12,34,567.89
    r"|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])"  # 1,234,567.89
    r"|\d{1,3}(?:[ '’\u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?(?!\d)"  # 1 234 567.89
    r"|\d{1,3}(?:\.\d{3})+,\d+(?!\d)"  # 1.234.567,89
    r"|\d+[.,]\d+|\d+|\.\d+)"
)
_NUMBER: Final = re.compile(
    rf"(?<![\w.,:/^*+\-−])(?P<sign>[-+−]?)(?P<money>[{CURRENCIES}]?)\s?(?P<inner>[-+−]?)"
    rf"(?:(?P<whole>\d+)\s+(?=\d+/))?(?P<body>{PLAIN_NUMBER})(?:/(?P<below>\d+))?(?:[eE](?P<power>[-+−]?\d+))?"
    r"(?![-+/:*^.,−–]\d|\d)(?P<kilo>k\b)?"
)
_UNIT: Final = re.compile(
    rf"[\s\-]?\s?(?P<shape>(?:sq(?:uare)?\.?|cubic)\s+)?(?P<name>°[A-Za-z]*|[%‰{CURRENCIES}¢℃℉]|[^\W\d_]+(?:/[^\W\d_]+)?)"
    r"(?P<power>\^?[23](?!\d))?(?!\w)"
)
_SCALE: Final = re.compile(rf"\s?(?P<scale>{'|'.join(_SCALES)})\b", re.IGNORECASE)
_WORDS: Final = re.compile(r"[^\W\d_]+")


@final
@frozen(kw_only=True)
class Quantity:
    """A number converted to the base unit of its kind."""

    value: Fraction
    """How much, exactly."""

    unit: str
    """What is measured (`length`, `dollar`, …); empty for a plain number."""

    bound: str
    """`>`, `<`, `≥`, `≤` or `≠` where the text gives a bound; empty for a number."""


def quantities(text: str) -> tuple[Quantity, ...]:
    """Numbers of *text* with their units, in order; number words count if there are no digits."""
    text = unicodedata.normalize("NFC", text)
    text = _VULGAR.sub(lambda match: f" {unicodedata.normalize('NFKC', match[1]).replace('⁄', '/')}", text).strip()
    if not any(char.isdecimal() for char in text):
        text = _digits(_PARTS.sub(_part, _ONE_OF.sub("one ", text)))
    for pattern, plain in _SAME:
        text = pattern.sub(plain, text)
    return tuple(found for match in _NUMBER.finditer(text) if (found := _quantity(text, match)) is not None)


_ONE_OF: Final = re.compile(r"(?<!\w)an? (?=(?:hundred|thousand|million|billion|trillion)(?!\w))", re.IGNORECASE)
_PARTS: Final = re.compile(
    r"(?<!\w)(an?|one|two|three|four|five|six|seven|eight|nine)[ -](hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|"
    r"sixths?|sevenths?|eighths?|ninths?|tenths?)(?=\s*(?:$|[.,;!?]|of(?!\w)))",
    re.IGNORECASE,
)
_NAMES_OF_PARTS: Final = "hal thi qua fou fif six sev eig nin ten"
_BELOW: Final[dict[str, int]] = dict(zip(_NAMES_OF_PARTS.split(), (2, 3, 4, *range(4, 11)), strict=True))
"""First letters of the words for parts of one."""


def _part(match: re.Match[str]) -> str:
    """`three quarters` in digits."""
    return f"{_SMALL.get(match[1].lower(), 1)}/{_BELOW[match[2][:3].lower()]}"


def unit_as_written(name: str) -> str | None:
    """*name* if its case carries meaning (`MW`, `mW`), its plain spelling if not (`KM` is `km`), None if no unit."""
    meanings = _BY_LOWER.get(name.lower(), frozenset())
    if name.lower() in _CASE_DECIDES:
        return name
    if not meanings:
        return None
    if len(meanings) == 1:
        return name.lower()
    if name in _UNITS:
        return name
    return _bytes(name) or name


def _quantity(text: str, match: re.Match[str]) -> Quantity | None:
    """The quantity that begins at *match*; None if letters after the digits make it something else (`42nd`)."""
    value = _value(match)
    if value is None:
        return None
    end = match.end()
    if scale := _SCALE.match(text, end):
        value, end = value * _SCALES[scale["scale"].lower()], scale.end()
    unit, factor = ("", Fraction(1))
    behind = _UNIT.match(text, end)
    known = None if behind is None else _unit(behind, text)
    if known is not None:
        unit, factor = known
    elif end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return None
    if match["money"] and known is None:
        unit, factor = _UNITS[match["money"]]
    if unit == "ratio":
        unit = ""
    before = text[: match.start()].rstrip()
    bound = next((sign for sign, pattern in _BOUND if pattern.search(before)), "")
    return _in_base_unit(value, factor, unit, bound)


def _in_base_unit(value: Fraction, factor: Fraction, unit: str, bound: str) -> Quantity:
    value *= factor
    if unit == "celsius":
        unit, value = "kelvin", value + Fraction(27315, 100)
    elif unit == "fahrenheit":
        unit, value = "kelvin", (value - 32) * Fraction(5, 9) + Fraction(27315, 100)
    return Quantity(value=value, unit=unit, bound=bound)


def _value(match: re.Match[str]) -> Fraction | None:
    """Value of the number at *match*; None if it is too long or a division by zero."""
    body = re.sub(r"[ '’\u00a0\u2009\u202f]", "", match["body"])
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?", body):
        body = body.replace(",", "")
    elif "," in body:
        body = body.replace(".", "").replace(",", ".")
    power, below = int((match["power"] or "0").replace("−", "-")[:5]), match["below"] or "1"
    if max(len(body), len(below), abs(power), len(match["whole"] or "")) > LONGEST or not below.strip("0"):
        return None
    value = (int(match["whole"] or 0) + Fraction(body) / int(below)) * Fraction(10) ** power
    if match["kilo"]:
        value *= 1000
    return -value if {match["sign"], match["inner"]} & {"-", "−"} else value


def _unit(match: re.Match[str], text: str) -> tuple[str, Fraction] | None:
    """Kind and factor of the unit at *match*; None if the word after a number is not a unit."""
    name = match["name"]
    known = _UNITS.get(name)
    if known is None and len(name) > 1:
        meanings = _BY_LOWER.get(name.lower(), frozenset())
        known = next(iter(meanings)) if len(meanings) == 1 else _UNITS.get(_bytes(name) or "")
        if known is None:
            # A unit with meaningful case, written in an ambiguous case, equals only itself.
            return (name.lower(), Fraction(1)) if meanings else None
    if known is None:
        return None
    if name.lower() in _ALSO_PROSE and re.match(r"\s*\w", text[match.end() :]):
        return None
    shape = (match["shape"] or "").strip().lower()
    power = 3 if shape == "cubic" else 2 if shape else int((match["power"] or "1").strip("^"))
    if power == 1:
        return known
    kind = next((kind for kind, raised in _POWERS.items() if raised == power and known[0] == "length"), None)
    factor = known[1] ** power
    return None if kind is None else (kind, factor)


def _bytes(name: str) -> str | None:
    """Lower-case `gb` read as `GB`, as people write it."""
    return f"{name[0]}B".replace("m", "M").replace("g", "G").replace("t", "T") if name in _LOWER_BYTES else None


def _digits(text: str) -> str:
    """*text* with number words (`twenty-one`, `two million`) as digits."""
    found: list[tuple[int, int, int]] = []
    for match in _WORDS.finditer(text):
        word, last = match[0].lower(), found[-1] if found else None
        follows = last is not None and re.fullmatch(r"[\s\-]+(?:and\s+)?", text[last[1] : match.start()]) is not None
        if word in _SMALL:
            if last is not None and follows and _fits(last[2], _SMALL[word]):
                found[-1] = (last[0], match.end(), last[2] + _SMALL[word])
            else:
                found.append((match.start(), match.end(), _SMALL[word]))
        elif last is not None and follows and (times := 100 if word == "hundred" else _SCALES.get(word)):
            found[-1] = (last[0], match.end(), _times(last[2], times))
    for start, end, value in reversed(found):
        text = f"{text[:start]}{value}{text[end:]}"
    return text


def _fits(value: int, more: int) -> bool:
    """Whether a smaller number word continues a number: twenty one, two hundred twelve, not five six."""
    return value > 0 and (value % 100 == 0 or (value % 10 == 0 and value % 100 >= 20 and 0 < more < 10))  # noqa: PLR2004


def _times(value: int, times: int) -> int:
    """Multiply the last part of a number by a scale: two thousand five [hundred]."""
    above = 1000
    while times == 100 and value >= above and value % above:  # noqa: PLR2004 - five thousand three hundred
        return value - value % above + value % above * times
    return value * times


_LOWER_BYTES: Final = frozenset({"kb", "mb", "gb", "tb"})


def _all_units() -> Iterator[tuple[str, tuple[str, Fraction]]]:
    """Every unit symbol and name with its kind and factor."""
    sizes = {"B": 8, "Wh": 3600}
    for prefix, power in _PREFIXES.items():
        for symbol, kind in _SYMBOLS.items():
            factor = Fraction(10) ** power * sizes.get(symbol, 1)
            yield f"{prefix}{symbol}", (kind, factor / 1000 if kind == "volume" else factor)
        if power > 0 and prefix != "h":
            yield f"{prefix}b", ("data", Fraction(10) ** power)
    for prefix, power in _LONG_PREFIXES.items():
        for name, symbol in _NAMES.items():
            kind, factor = _SYMBOLS[symbol], Fraction(10) ** power * sizes.get(symbol, 1)
            for ending in ("", "s"):
                yield f"{prefix}{name}{ending}", (kind, factor / 1000 if kind == "volume" else factor)
    for (kind, factor), names in _OTHERS.items():
        yield from ((name, (kind, factor)) for name in names.split())


_UNITS: Final[dict[str, tuple[str, Fraction]]] = dict(_all_units())
_BY_LOWER: Final[dict[str, frozenset[tuple[str, Fraction]]]] = {
    lower: frozenset(known for name, known in _UNITS.items() if name.lower() == lower)
    for lower in {name.lower() for name in _UNITS}
}
