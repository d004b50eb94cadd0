"""Finding mentions of an answer in a text, and whether the text asserts them.

A mention is the words of the answer in a row. It does not count if the text takes it back by a rule of this module:

1. **Negated before**: *not*, *n't*, *never*, *neither*, *nor*, *without*, *rather than*, *instead of*, *other than*,
   *unlike*, *confused with*, *mistaken for* … within the clause and at most `REACH` words before it. *Not only*,
   *no doubt*, *none other than* and their like negate nothing.
2. **Negated behind**: the verb directly behind it is negated (*Paris is not …*, *東京ではありません*), or it is
   corrected: *Paris? No, …*, *Everyone thinks Paris, but …*, *It used to be Paris, now …*,
   *Paris is wrong*, *~~Paris~~*.
3. **Left open**: it is one of several (*Paris or Rome*, *Paris, London or Rome*, *Paris/Rome*, *between Paris and
   Rome*).
4. **Asked back**: its sentence is a question that begins like one (*Did you mean Paris?*).
5. **Part of something else**: digits of a longer number, time, range, sum, percentage or amount; a word of a script
   with spaces in the middle of a longer word; small letters where the answer is a capital `A`, `I`, `US`, `IT`, `May`.

A final `'s` is no part of a name; Korean particles and the one-letter prefixes of Hebrew and Arabic are none either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import evolve

from glowgenius.evaluation.normalize import Text, is_number, looks_like_code, read
from glowgenius.evaluation.quantities import CURRENCIES, unit_as_written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REACH: Final = 7
"""Words between a negation and what it negates."""

SHORTEST_NAME: Final = 3
"""Letters of a word that may have a prefix of one letter."""

_WORDS_OF_PROSE: Final = (
    "a i us it who or in is am are as at be by do go he if me my no of on so to up we an and all any can may one the "
    "will was mark bill art ad pa la ma hi oh ok her his march august china turkey polish reading"
)
_PROSE: Final = frozenset(_WORDS_OF_PROSE.split())
"""Words of English prose that are also names when they are written with capitals."""

_NEGATION: Final = re.compile(
    r"""
      (?<!\w)(?:not|never|neither|nor|cannot|without|unlike|nicht|kein\w{0,2}|jamais|pas|nunca|não|не|ни|ikke|inte|
        isnt|arent|wasnt|werent|doesnt|didnt|dont|hardly|non(?=-))(?!\w)
    | n't(?!\w)
    | (?<!\w)(?:no\ es|no\ está|no\ fue|non\ è|no\ longer|nothing\ to\ do\ with|nowhere\ near|far\ from|
        anything\ but|anyone\ but)(?!\w)
    | (?<!\w)(?:rather\ than|instead\ of|other\ than|different\ from|differs\ from|as\ opposed\ to|opposed\ to|except|
        except\ for|excluding|apart\ from|aside\ from|in\ place\ of|far\ from\ being)(?!\w)
    | (?<!\w)(?:confus\w+|mistak\w+|mistook|mixed\ up)(?:\ \w+){0,3}?\ (?:with|for|as)(?!\w)
    | (?<!\w)(?:wrong|incorrect|false|untrue|myth|misconception)\ (?:to\ (?:say|think|claim|believe|
        answer)(?:\ that)?|that)(?!\w)
    | (?<!\w)(?:den(?:y|ies|ied)|disput(?:e|es|ed))\ (?:that|being|it\ (?:is|was))(?!\w)
    | (?<!\w)(?:i|we|they|he|she|many|some|most|experts|historians|scholars)\ (?:\w+ly\ )?doubt(?:s|ed)?(?!\w)
    | 不是|並非|并非|不在|不叫|不等于|不等於|而非
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ASIDE: Final = re.compile(r"(n't|(?<!\w)not),\s[^,.;:!?\n]{1,40},\s$", re.IGNORECASE)
"""`It isn't, as many believe, Paris`."""

_ANYTHING_BUT: Final = re.compile(r"(?<!\w)(?:any\w*|every\w*|all) but(?!\w)", re.IGNORECASE)
_NOTHING_BUT: Final = re.compile(r"(?<!\w)(?:nothing|none|no one|nobody) but(?!\w)", re.IGNORECASE)
_BOUND: Final = re.compile(r"(?<!\w)(?:more|less|fewer|greater) than\s+$|(?<!\w)at (?:least|most)\s+$", re.IGNORECASE)
_DIRECT_NO: Final = re.compile(r"(?<!\w)no\s+$", re.IGNORECASE)
_AND: Final = re.compile(r"(?<!\w)(?:and|und|et|y)\s+\S", re.IGNORECASE)
_NOT_NEGATED: Final = re.compile(
    r"(?<!\w)(?:not (?:only|just|merely|simply|solely|to be confused|to mention)|(?:no|without(?: a)?|not) doubt|"
    r"(?:none|no one|nobody|nothing|no) other than|never (?:forget|mind)|not surprising\w*|why not|if not|"
    r"(?:cannot|can't|can not) (?:be )?(?:any(?:thing|one) )?(?:other|else|but))(?!\w)",
    re.IGNORECASE,
)
_CLAUSE_ENDS: Final = re.compile(
    r"[.!?;:,…]+(?:\s+|$)|[。！？、，；：\n—]|\s-\s|(?<!\w)(?:but|however|though|although|because|since|while|whereas|so|then|until|"
    r"till|sondern|mais|sino|aber|pero|а|но|而是)(?!\w)\s*|而是",
    re.IGNORECASE,
)
_NEGATED_BEHIND: Final = re.compile(
    r"""\s+(?:
        (?:is|was|are|were|has|have|had|do|does|did|can|could|will|would|should|must|may|might)
          (?:n't|\s+not|\s+never|\s+no\ longer|\s+neither|\s+hardly)
        | (?:cannot|ain't|isnt|wasnt)
        | (?:ist|war|sind)\s+(?:nicht|kein\w{0,2}) | n'est\s+pas | no\s+(?:es|está|fue) | non\s+è | não\s+é | не\s
        | नहीं
        | (?:is|was|are|were|has\ been|would\ be)\s+(?:\w+ly\s+)?(?:wrong|incorrect|false|untrue|mistaken|
          ruled\ out|excluded|a\ (?:common\ )?(?:mistake|misconception|myth|wrong\ answer))
      )(?!\s+(?:only|just|merely|simply|solely|surprising|to\ be\ confused|far))(?!\w)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NEGATED_BEHIND_UNSPACED: Final = re.compile(
    r"(?:では|じゃ|でも?)\s?(?:ない|ありません|なく|なかった)|(?:이|가|은|는)?\s?(?:아니|아닙)|不是|并不|並不"
)
_NO_BEHIND: Final = re.compile(r"\s*\?+\s*(?:no|nope|not|wrong|never|nein|non)(?!\w)", re.IGNORECASE)
_OPINION: Final = re.compile(
    r"(?<!\w)(?:every(?:one|body)|many|most|some|people|others|you|one)(?!\w)[^.!?;:,]{0,30}(?<!\w)"
    r"(?:thinks?|thought|believes?|believed|says?|said|assumes?|assumed|expects?|guess|claims?|supposes?)(?!\w)[^.!?;,]*$",
    re.IGNORECASE,
)
_CORRECTED: Final = re.compile(
    r"[^.!?;,]{0,40}[.;,]?\s+(?:but|however|yet|actually|in fact|in reality|in truth)(?!\w)", re.IGNORECASE
)
_PAST: Final = re.compile(r"(?<!\w)(?:used to|formerly|originally|once|previously)(?!\w)[^.!?;,]*$", re.IGNORECASE)
_NOW: Final = re.compile(
    r"[^.!?;]{0,40}(?<!\w)(?:is|has been|moved|but|,) ?now(?!\w)|[^.!?;]{0,40}, now(?!\w)", re.IGNORECASE
)
_NAMES_OF_MONTHS: Final = (
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec"
)
_MONTHS: Final = frozenset(_NAMES_OF_MONTHS.split())
_ORDINAL: Final = re.compile(r"(\d{1,2})(?:st|nd|rd|th)")
_QUESTION: Final = re.compile(
    r"\s*(?:so|and|or|but|well|hmm)?,?\s*(?:did|do|does|is|are|was|were|can|could|would|will|shall|should|have|has|had|"
    r"isn't|aren't|wasn't|what|which|where|who|whose|when|why|how)\b",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(r"[.!?。！？]+(?:\s+|$)|[。！？\n]")
_PARTICLES: Final = re.compile(
    r"(?:은|는|이|가|을|를|의|에|에서|에게|으로|로|와|과|도|만|까지|부터|이나|나|입니다|이다|다|이에요|예요|이며|이고|인|이라고|라고|시|"
    r"입니다만|이었습니다|였습니다|이었다|였다|에는|에서는|에도)"
)
_PREFIXES: Final = (("\u05d0", "\u05ea", "ובלכמהש"), ("\u0621", "\u064a", "وبلكف"))
"""First and last letter of Hebrew and of Arabic, and the words of one letter that are written onto the next word."""

_OPERATORS: Final = frozenset("+-*/^×÷:<>≤≥≠")
_BEFORE_A_NUMBER: Final = frozenset(f"{CURRENCIES}<>≤≥≠+×÷^")
_BEHIND_A_NUMBER: Final = frozenset(f"{CURRENCIES}%‰+×÷^")
_DATE: Final = re.compile(r"\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?(?![-/\d])|\d{1,2}[-/]\d{1,2}[-/]\d{4}")
_HAN_NUMERALS: Final = frozenset("〇零一二三四五六七八九十百千万萬億亿")
_OR: Final = r"(?:or|oder|ou|o|или|或|または|또는)"
_ARTICLE: Final = r"(?:(?:in|at|on|the|a|an|maybe|perhaps|possibly)\s+)*"
_OR_BEHIND: Final = re.compile(
    rf"(?:\s+{_OR}\s+(?!(?:so|rather|more|less|even|also|simply|about|thereabouts)\b)|\s*/\s*|或){_ARTICLE}(?=\w)",
    re.IGNORECASE,
)
_OR_BEFORE: Final = re.compile(
    rf"(?:\w(?P<or>\s+{_OR}\s+)|\w(?P<slash>\s*/\s*)|(?P<han>或)|,[^,.;:]{{1,40}}(?P<list>,\s+{_OR}\s+)){_ARTICLE}$",
    re.IGNORECASE,
)
_LIST_BEHIND: Final = re.compile(rf"(?:,\s*(?:[\w'.-]+\s?){{1,4}})+,?\s+{_OR}\s+\w", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"(?<!\w)between\s+(?:[\w.'-]+\s+){1,3}and\s+$", re.IGNORECASE)
_SPEAKER: Final = re.compile(r"'|\s+(?:am|was|have|had|do|don't|did|think|believe|can|can't|cannot|would|will|know)\b")
_NO_FOLLOWED: Final = re.compile(
    r"\s*(?:$|[^\w\s]|(?:it|they|he|she|there|this|that|these|those|i|we|you)\b)", re.IGNORECASE
)


def mentions(text: Text, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Word ranges (half-open) where *text* asserts one of *answers*: neither negated, corrected nor left open."""
    found = [span for answer in answers for span in named(text, answer)]
    return [span for span in found if not _taken_back(text, *span) and not _left_open(text, *span, found)]


def named(text: Text, answer: str) -> Iterator[tuple[int, int]]:
    """Word ranges (half-open) where *text* mentions *answer* in any sense."""
    wanted = _without_article(read(answer))
    size = len(wanted.words)
    code = looks_like_code(answer)
    for start in range(len(text.words) - size + 1 if size else 0):
        end = start + size
        if (
            _same_words(text, wanted, start)
            and _is_whole(text, wanted, start, end)
            and _is_name(text, wanted, start)
            and _has_marks(text, wanted, start)
            and (not code or _same_code(text, wanted, start))
        ):
            yield start, end


def _without_article(wanted: Text) -> Text:
    """*answer* without its article, only before a capitalised name: `Bronx` matches `The Bronx`."""
    first, second = (*wanted.words, None, None)[:2]
    if first is None or second is None or first.folded != "the" or second.folded in _PROSE:
        return wanted
    return evolve(wanted, words=wanted.words[1:]) if second.written[:1].isupper() else wanted


def _has_marks(text: Text, wanted: Text, start: int) -> bool:
    """Whether the answer's leading mark (`#general`, `@home`, `<p>`) precedes the words too."""
    before = wanted.whole[: wanted.words[0].start]
    marks = re.search(r"[#@<>/\\|!~^=]+$", before)
    return marks is None or text.whole[: text.words[start].start].endswith(marks[0])


def _same_code(text: Text, wanted: Text, start: int) -> bool:
    """Whether the words match with case and all characters around and between them, except spaces."""
    size = len(wanted.words)
    if any(text.words[start + index].written != word.written for index, word in enumerate(wanted.words)):
        return False
    inner = all(
        _code(text.between(start + index, start + index + 1)) == _code(wanted.between(index, index + 1))
        for index in range(size - 1)
    )
    before, behind = text.whole[: text.words[start].start], text.whole[text.words[start + size - 1].end :]
    return (
        inner
        and _code(before).endswith(_code(wanted.between(-1, 0)))
        and _code(behind).startswith(_code(wanted.between(size - 1, size)))
    )


def _code(gap: str) -> str:
    """The text between words; spaces count only after a newline."""
    return gap if "\n" in gap else re.sub(r"\s+", "", gap)


def _same_words(text: Text, wanted: Text, start: int) -> bool:
    """Whether the words from *start* on match, ignoring prefixes and particles."""
    last = len(wanted.words) - 1
    for index, word in enumerate(wanted.words):
        found = text.words[start + index].folded
        if index and is_number(wanted.words[index - 1]) and (unit := unit_as_written(word.written)) is not None:
            found = word.folded if unit_as_written(text.words[start + index].written) == unit else ""
        if (day := _ORDINAL.fullmatch(found)) and _beside_month(wanted, index):
            found = day[1]
        if index == 0:
            found = _without_prefix(found, word.folded)
        if index == last and found != word.folded and found.startswith(word.folded) and "가" <= word.folded[-1] <= "힣":
            found = word.folded if _PARTICLES.fullmatch(found, len(word.folded)) else found
        written = text.words[start + index].written
        if found != word.folded and not (written.isupper() and written == word.written.upper()):
            return False
    return True


def _beside_month(wanted: Text, index: int) -> bool:
    """Whether a word is the day in a date: `4` in `May 4` and `4 May`."""
    beside = [wanted.words[at].folded for at in (index - 1, index + 1) if 0 <= at < len(wanted.words)]
    return is_number(wanted.words[index]) and any(word in _MONTHS for word in beside)


def _without_prefix(found: str, wanted: str) -> str:
    """*found* without the one-letter prefix word of Hebrew and Arabic (`in`, `and`, `to`)."""
    letters: str = next((written for first, last, written in _PREFIXES if first <= wanted[0] <= last), "")
    return wanted if len(wanted) >= SHORTEST_NAME and found[:1] in letters and found[1:] == wanted else found


def _is_whole(text: Text, wanted: Text, start: int, end: int) -> bool:
    """Whether the words are not part of a longer number or name."""
    before, gap = (text.words[start - 1].folded, text.between(start - 1, start)) if start else ("", " ")
    behind, space = (text.words[end].folded, text.between(end - 1, end)) if end < len(text.words) else ("", " ")
    if all(word.folded in _HAN_NUMERALS for word in wanted.words):
        return not (before in _HAN_NUMERALS and not gap) and not (behind in _HAN_NUMERALS and not space)
    if len(wanted.whole) == 1 and wanted.whole.isalpha():
        return not before or gap != "-"  # Objective-C
    first, last = is_number(wanted.words[0]), is_number(wanted.words[-1])
    if first and (before in _BEFORE_A_NUMBER or _BOUND.search(text.whole[: text.words[start].start])):
        return False
    if last and behind in _BEHIND_A_NUMBER:
        return False
    joined = (first and not gap and before in _OPERATORS) or (last and not space and behind in _OPERATORS)
    return not joined or _in_date(text, start)


def _in_date(text: Text, start: int) -> bool:
    """Whether the number is the year in a numeric date."""
    word = text.words[start]
    return len(word.folded) == 4 and any(  # noqa: PLR2004 - a year
        match.start() <= word.start and word.end <= match.end() for match in _DATE.finditer(text.whole)
    )


def _is_name(text: Text, wanted: Text, start: int) -> bool:
    """Whether a short answer that is also a common word is meant as the answer."""
    if len(wanted.words) != 1:
        return True
    answer, found = wanted.words[0], text.words[start]
    alone = len(text.words) == 1
    if answer.folded == "no" and not alone:
        return _NO_FOLLOWED.match(text.whole, found.end) is not None
    if alone or answer.folded not in _PROSE or (answer.written == answer.folded and len(answer.written) > 1):
        return True
    if not found.written[:1].isupper() and (answer.written[:1].isupper() or len(answer.written) == 1):
        return False
    if len(answer.written) > 1 and answer.written.isupper():
        return found.written.isupper()
    return answer.folded != "i" or _SPEAKER.match(text.whole, found.end) is None


def _taken_back(text: Text, start: int, end: int) -> bool:
    """Whether the mention is negated, before or after it, or part of a question."""
    first, last = text.words[start].start, text.words[end - 1].end
    behind = text.whole[last:]
    if _NEGATED_BEHIND.match(behind) or _NEGATED_BEHIND_UNSPACED.match(behind):
        return True
    if behind.find("~~") >= 0 and text.whole[:first].count("~~") % 2:
        return True  # struck out
    if _NO_BEHIND.match(behind) or _is_corrected(text.whole[:first], behind):
        return True
    sentence = _sentence(text.whole, first)
    if sentence.rstrip().endswith(("?", "？")) and _QUESTION.match(sentence):
        return True
    return _negated_before(text.whole[:first])


def _is_corrected(before: str, behind: str) -> bool:
    """Whether the mention is attributed to others or to the past, and then corrected."""
    return bool((_OPINION.search(before) and _CORRECTED.match(behind)) or (_PAST.search(before) and _NOW.match(behind)))


def _negated_before(before: str) -> bool:
    """Whether the clause before the mention negates it."""
    before = _NOTHING_BUT.sub("only", _ANYTHING_BUT.sub("without", before))
    before = _ASIDE.sub(r"\1 ", before)
    ends = [match.end() for match in _CLAUSE_ENDS.finditer(before)]
    clause = _NOT_NEGATED.sub("_", before[ends[-1] if ends else 0 :])
    if _DIRECT_NO.search(clause):
        return True
    found = list(_NEGATION.finditer(clause))
    if not found:
        return False
    between = clause[found[-1].end() :]
    # "is not in France and lies in Texas": another statement.
    return len(between.split()) <= REACH and _AND.search(between) is None


def _left_open(text: Text, start: int, end: int, accepted: Sequence[tuple[int, int]]) -> bool:
    """Whether the mention is one of several alternatives, another of which is not accepted."""
    first, last = text.words[start].start, text.words[end - 1].end
    if _BETWEEN.search(text.whole[:first]) or (
        text.whole[:first].lower().endswith("between ") and text.whole[last:].startswith(" and ")
    ):
        return True
    behind, before = _OR_BEHIND.match(text.whole, last), _OR_BEFORE.search(text.whole[:first])
    if behind and not any(text.words[low].start == behind.end() for low, _ in accepted):
        return True
    if before:
        place = next(before.start(name) for name in ("or", "slash", "han", "list") if before[name])
        if not any(text.words[high - 1].end == place for _, high in accepted):
            return True
    return _LIST_BEHIND.match(text.whole, last) is not None


def _sentence(whole: str, place: int) -> str:
    """The sentence around *place*, with its punctuation."""
    start = 0
    for match in _SENTENCE_END.finditer(whole):
        if match.end() > place:
            return whole[start : match.end()]
        start = match.end()
    return whole[start:]
