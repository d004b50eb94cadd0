"""What counts as the same place in New York: streets, subway letters, articles; asked for by the examples as a metric.

    gg.compare(base, tuned, slices, metrics=("exact_match", "contains", place_match))

The general metrics of glowgenius know nothing of New York, where "34th Street-Penn Station" is "34 St–Penn Station".
The rules, in their order. All of them apply to the accepted answer and to the prediction alike.

1. **Compatibility characters and case** are folded (Unicode NFKC and case folding): full-width `Ａ`, `ﬁ`, `²` and a
   non-breaking space become the plain forms. Letters of other scripts that only look alike stay different
   (a Cyrillic `А` is no Latin `A`), and so do accents (`é` is not `e`; list both as references if both are right).
2. **Invisible characters** (zero-width joiners, variation selectors, control characters) go.
3. **Thousands separators** go: `1,200` is `1200`. A decimal point between digits stays: `3.5` is not `35`.
   A minus sign directly before a number at the start of a word stays: `-5` is not `5`.
4. **Dotted initials** close up (`U.S.` is `US`), and so do apostrophes (`Mark's` is `Marks`).
5. `&` is the word `and`.
6. **Dashes, slashes and every other mark or symbol** become a space, never nothing: `34 St-Penn Station` keeps its
   four words, and `A/C/E` and `A,C,E` keep their three.
7. **Street words** take one short form: `street` and `saint` are both `st`, `avenue` and `ave` are `av`, `parkway` is
   `pkwy`, `boulevard` is `blvd`, `square` is `sq`, `heights` is `hts`. Since `St` alone may mean either word, both long
   forms go to it; nothing is ever expanded, so no guess is made.
8. **Ordinal numbers** lose their ending: `42nd` is `42`. Number words stay words (`five` is not `5`).
9. A leading **the** goes, unless nothing would be left. `a` and `an` always stay: `A` is a subway line.

Text with something visible in it is never reduced to nothing: if the rules leave no word (an emoji, `???`), the folded
text itself is the answer. SQuAD's own normalisation (Rajpurkar et al. 2016) breaks rules 6 and 9 and so scores an empty
answer to "Which line …?" as right.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT_FORMS = {
    "street": "st",
    "saint": "st",
    "avenue": "av",
    "ave": "av",
    "parkway": "pkwy",
    "boulevard": "blvd",
    "square": "sq",
    "heights": "hts",
}
"""Street words and the short form that both sides of a comparison get."""

_APOSTROPHES = re.compile("['’‘ʼ`´]")
_THOUSANDS = re.compile(r"(?<![\w.,])[0-9]{1,3}(?:,[0-9]{3})+(?![\w,])")
_INITIALS = re.compile(r"(?<!\w)(?:[^\W\d_]\.){2,}(?:[^\W\d_](?!\w))?")
_ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)", re.IGNORECASE)
_DECIMAL_POINT = re.compile(r"(?<=[0-9])\.(?=[0-9])")
_MINUS = re.compile(r"(?<!\S)-(?=[0-9])")
_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_DASHES = re.compile("[−‐‑‒–—―]")


def place_match(prediction: str, accepted: Sequence[str]) -> float:
    """Score 1 if the prediction is an accepted answer by the rules above, else 0."""
    predicted = place(prediction)
    return float(bool(predicted) and predicted in map(place, accepted))


def place(text: str) -> str:
    """Join the words of *text* by the rules above with single spaces; empty only if nothing in it is visible."""
    return " ".join(words(text))


def words(text: str) -> tuple[str, ...]:
    """Split *text* into words by the rules above."""
    folded = _visible(unicodedata.normalize("NFKC", text))
    kept = tuple(map(_short, _separate(folded).split())) or tuple(map(_short, folded.split()))
    first = next((index for index, word in enumerate(kept[:-1]) if word != "the"), len(kept) - 1)
    return kept[max(first, 0) :]


def _visible(text: str) -> str:
    """Take control, format and variation characters away; white space becomes plain spaces."""
    return "".join(" " if char.isspace() else char for char in text if char.isspace() or not _is_invisible(char))


def _is_invisible(char: str) -> bool:
    """Say whether *char* shapes or joins its neighbours and shows nothing itself."""
    return unicodedata.category(char) in {"Cc", "Cf", "Me"} or _VARIATION.match(char) is not None


def _separate(text: str) -> str:
    """Apply rules 3 to 6 to *text*: letters, digits, spaces, and the marks that belong to a number."""
    text = _APOSTROPHES.sub("", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _INITIALS.sub(lambda match: match[0].replace(".", "") + " " * match[0].endswith("."), text)
    text = _DASHES.sub("-", text).replace("&", " and ")
    # The marks of numbers wait in the private-use area while all other marks go.
    text = "".join(char if char in "-." or _is_word_character(char) else " " for char in text)
    text = _MINUS.sub("\ue000", _DECIMAL_POINT.sub("\ue001", text))
    return re.sub("[-.]", " ", text).replace("\ue000", "-").replace("\ue001", ".")


def _is_word_character(char: str) -> bool:
    """Say whether *char* is a letter, a digit, or a combining mark, which letters of many scripts need."""
    return unicodedata.category(char)[0] in "LNM"


def _short(word: str) -> str:
    """Write *word* in its short form, without the ending of an ordinal."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
    ordinal = _ORDINAL.fullmatch(folded)
    return ordinal[1] if ordinal else SHORT_FORMS.get(folded, folded)
