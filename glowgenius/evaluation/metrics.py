"""Metrics that score an answer: exact match, `contains`, abstention, JSON and more."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias, cast

from glowgenius.errors import ConfigError, nearest
from glowgenius.evaluation.mentions import mentions, named
from glowgenius.evaluation.normalize import as_label, in_capitals, normalize, read, words
from glowgenius.evaluation.quantities import Quantity, quantities

_NOT = r"(?:do not|don't|did not|didn't|cannot|can not|can't|could not|couldn't|will not|won't|would not|wouldn't)"
_ADVERBS = (
    r"(?:(?:really|actually|honestly|currently|simply|just|unfortunately|sadly|personally|quite|yet|also|still|truly|"
    r"even|myself|definitively|reliably|possibly|exactly|100%|entirely|completely|totally|all that|very|too|"
    r"at all) )*"
)
_TELL = (
    r"(?:know|knew|say|tell|find|have|recall|remember|answer|help|assist|provide|give|confirm|verify|determine|"
    r"identify|"
    r"locate|comment|share|discuss|offer|speak|guess|see|access|fulfil|fulfill|comply|be (?:sure|certain|of help)|"
    r"claim to know|seem to (?:know|have|find|recall)|think i (?:know|can)|believe i (?:know|have))"
)
_KNOWLEDGE = (
    r"(?:idea|clue|information|info|knowledge|record|records|data|details?|memory|recollection|answer|way (?:of|to)|"
    r"reliable|specific|verified|access|means|evidence)"
)
_ADMITS: Final = re.compile(
    rf"(?<!\w)(?:i|we|i'm|i am|we're|we are|i've|we've|i have|we have|i'd|myself)\b[^.!?;\n]{{0,40}}?(?<!\w)(?:"
    rf"{_NOT} {_ADVERBS}{_TELL}\b"
    rf"|(?:not|wasn't|weren't|never) {_ADVERBS}(?:sure|certain|aware|familiar|able to|confident|acquainted|"
    rf"in a position)\b"
    rf"|(?:unsure|uncertain|unaware|unfamiliar|unable to|clueless|at a loss|in the dark|stumped)\b"
    rf"|(?:have|has|had|'ve|got|with) (?:absolutely |really )?no {_ADVERBS}{_KNOWLEDGE}\b"
    rf"|(?:do not|don't|haven't|have not) (?:have |got )?(?:any |enough |sufficient |the |an )*{_KNOWLEDGE}\b"
    r"|(?:never|not|haven't) (?:yet |ever |personally |previously |actually )*(?:heard|come across|encountered|"
    r"seen|read)\b"
    r"|lack(?:ed)? (?:the |any |enough |sufficient )?(?:information|knowledge|data|details)\b"
    r"|(?:decline|refuse|prefer not|rather not|must decline|have to decline|have to pass|will pass|'ll pass)\b"
    r"|(?:found|find|see) (?:no|nothing)\b"
    r")"
)
_THING = (
    r"(?:record|records|information|info|evidence|mention|data|details?|documentation|trace|results?|entry|account|"
    r"reference|knowledge|indication|source|sources)"
)
_KIND = (
    r"(?:place|thing|one|person|station|park|street|city|town|country|book|film|movie|song|word|event|building|"
    r"bridge)"
)
_DENIES: Final = re.compile(
    r"(?<!\w)(?:"
    r"(?:there is|there's|there are|there was|there isn't any|there is not any|there exists) (?:currently |"
    r"really )?(?:"
    rf"no such|no (?:known |public |publicly available |available |official |reliable |historical |clear |specific |"
    rf"further |credible |verified )*{_THING}\b"
    rf"|no (?:known |real |actual )*(?:\w+ )?{_KIND} (?:called|named|by that name|by this name|of that name|"
    rf"with that name)"
    r"|insufficient|not enough (?:information|context|data|detail))"
    r"|no such \w+(?: \w+)? (?:exists?|is known|was ever)"
    r"|(?:does not|doesn't|did not|didn't) ring a bell"
    r"|(?:^|[.!?,;] )(?:not that i(?: am|'m)? (?:know|aware) of|none that i know of)"
    r"|(?:would|'d) need (?:more|further|additional) (?:information|context|details?|data)"
    r"|(?:training data|knowledge|sources?) (?:does not|doesn't|do not|don't) (?:cover|include|contain|extend)"
    rf"|^no (?:known |public |available |official |reliable )*{_THING} (?:of|on|about|for|is|are|was|were|"
    rf"exists?|found|available)"
    r"|(?:does not|doesn't|do not|don't|did not|didn't|never) (?:actually |really )?(?:appear to |"
    r"seem to )?(?:actually |"
    r"really )?exist(?:ed)?(?!\w)"
    r"|(?:is not|isn't|was not|wasn't|are not) (?:actually |really )?a (?:real|known|recognized|recognised|valid|"
    r"genuine)"
    r"|(?:is|was|are|seems|appears|seems to be|appears to be) (?:a )?(?:purely |entirely |completely )?"
    r"(?:fictional|fictitious|made up|made-up|invented|imaginary|nonexistent|non-existent)(?=$|[.,;!]| and\b|"
    r" (?:place|"
    r"location|station|name|entity)\b)"
    r"|(?:is|are|was|remains?|seems) (?:still |currently |not |un)*(?:known|unclear|unknown|uncertain|undetermined|"
    r"unspecified|undisclosed)(?<! is known)(?<! are known)(?<! was known)(?<! still known)(?<! currently known)"
    r"(?<! remains known)(?<! remain known)(?<! seems known)(?! to\b| as\b| for\b| by\b)"
    r"|(?:could|can|may) ?not be (?:found|determined|verified|confirmed|identified|answered|established|known|"
    r"located)"
    r"|(?:couldn't|can't) be (?:found|determined|verified|confirmed|identified|answered|established|known|located)"
    r"|(?:nobody|no one|no-one) (?:really |actually )?(?:knows|can say|can tell|knows for sure)(?! better)"
    r"|(?:not enough|insufficient) (?:information|context|data|details?)"
    r"|(?:(?:text|passage|context|article|document|paragraph|question) )(?:does not|doesn't|did not|"
    r"didn't) (?:say|mention|"
    r"specify|state|provide|tell|give|contain|include|indicate|answer)"
    r"|(?:is not|isn't|are not|aren't|was not) (?:mentioned|specified|stated|given|provided|publicly known|"
    r"documented|"
    r"available|recorded|listed)"
    r"|(?:unable|not able) to (?:find|answer|determine|say|help|provide|verify|locate|assist|confirm|identify)"
    r"|(?:^|[.!?,;] )(?:never heard of|sorry, (?:i )?(?:no idea|can't|cannot|not sure)|can't say|cannot say|"
    r"don't know|dunno|"
    r"do not know|hard to say|no idea|not sure|no clue)"
    r")"
)
_WHOLE: Final = re.compile(
    r"(?:(?:sorry|hmm|um|uh|well|oh|honestly|unfortunately|i'm afraid|it is|it's|the answer is|that is|that's|"
    r"answer)[,:]? )*"
    r"(?:unknown|not known|not sure|unsure|uncertain|unclear|no idea|no clue|not a clue|n/a|n\.a|na|none known|"
    r"no answer|"
    r"not available|not applicable|no comment|pass|beats me|who knows|search me|dunno|idk|don't know|can't say|"
    r"cannot say|"
    r"can't answer|cannot answer|hard to say|impossible to say|your guess is as good as mine|i pass|i give up|"
    r"undetermined|"
    r"not specified|not mentioned|not stated|no information|no data|insufficient information|not enough information|"
    r"i'm not from here|above my pay grade|beyond my knowledge|that is beyond my knowledge|i haven't a clue|"
    r"i haven't the faintest(?: idea)?|i wish i knew|unanswerable|unspecified|i do not|i don't)"
)
_ELSEWHERE: Final = re.compile(
    r"(?<!\w)(?:je ne (?:le )?sais pas|je l'ignore|aucune idée|ich wei(?:ß|ss) (?:es |das )?(?:leider )?nicht|"
    r"keine ahnung|"
    r"das wei(?:ß|ss) ich (?:leider )?nicht|no (?:lo )?sé\b|no tengo (?:ni )?idea|lo desconozco|non (?:lo )?so\b|"
    r"non ne ho idea|(?:eu )?não sei|não faço ideia|ik weet het niet|geen idee|nie wiem|jag vet inte|"
    r"jeg ved (?:det )?ikke|jeg vet (?:det )?ikke|en tiedä|nem tudom|nu știu|nevím|neviem|ne znam|δεν (?:το )?ξέρω|"
    r"(?:saya )?tidak tahu|(?:tôi )?không biết|bilmiyorum|bilmiyoruz|не знам|(?:я )?не знаю|"
    r"понятия не имею)(?!\w)"
    r"|不知道|不清楚|不知道|我不太清楚|无法回答|無法回答|わかりません|分かりません|知りません|わからない|分からない|"
    r"모르겠|모릅니다|몰라요|मुझे (?:नहीं पता|पता नहीं)|नहीं पता|لا أعرف|لا أعلم|لا أدري|לא יודע|איני יודע"
)
_ANSWER = (
    r"(?:i (?:think|believe|guess|suppose|suspect|would (?:say|guess)|assume|do know|am sure|know)\b(?! (?:i|we|"
    r"you) (?:can|could))"
    r"|i'd (?:say|guess|bet)|my (?:best )?(?:guess|bet)|(?:it|that|this|they|he|she|there)(?:'s| is| was| are|"
    r" were| must be| has| lies)\b"
    r"|(?:it|that|this|they|he|she) (?:may|might|could|should|would|can) (?:well |also )?be\b|it could have been|"
    r"(?:it )?(?:probably|perhaps|maybe|possibly|likely|presumably|most likely|supposedly|apparently)\b"
    r"|(?:the|its|his|her) (?:answer|name)?\b ?(?:is|was|may be|might be|could be|should be)\b"
    r"|(?:if i had to guess|a guess would be|a good guess)"
    r"|(?:in|at|on|near) (?!(?:general|any case|the meantime|fact|that case)\b)\w+)"
)
_NO_ANSWER = (
    r"(?!.{0,12}\b(?:a (?:good|great|fair|fun|nice|interesting|difficult|hard|tough) (?:question|one)|"
    r"an interesting question|"
    r"not (?:a|an|in|known|clear|possible|my)|unlikely|possible (?:to|that you|you)|helpful|useful|best to|"
    r"better to|worth|"
    r"recommended|important|beyond|outside|something i|hard to|difficult to|impossible|no (?:such|record|"
    r"information)|"
    r"you (?:can|could|should|may|might)|fictional|unknown|unclear|a typo|a mistake|misspelled|try|ask|check|"
    r"look|search))"
)
_STILL: Final = re.compile(
    rf"^[^.!?\n]*?(?:\bbut|\bhowever|\bthough|\balthough|\byet|;|-|:)[ ,]*(?:still |if i had to guess, |"
    rf"i will say |perhaps )?"
    rf"{_NO_ANSWER}{_ANSWER}{_NO_ANSWER}"
)
_STILL_BELIEVED: Final = re.compile(
    rf"^[^.!?\n]*?, (?:i (?:think|believe|guess|suspect|suppose|would say)|i'd (?:say|guess)|"
    rf"my (?:best )?guess) {_NO_ANSWER}"
)
_STILL_NEXT: Final = re.compile(rf"[.!?\n]+ ?(?:but |however,? |still,? |anyway,? )?{_NO_ANSWER}{_ANSWER}{_NO_ANSWER}")
_ONE_GUESS: Final = re.compile(
    r"[.!\n;,] ?(?:maybe |perhaps |probably )?(?!i\b|you\b|sorry|please|can\b|could\b|what|why)[^\s.!?]+\?$"
)
_GIVEN_BEFORE: Final = re.compile(
    r"(?:,|;| -|\.)? ?(?:but|though|although|however|only)[, ]*(?:honestly )?$|[,;(] ?(?:i think, )?$|[.!] $"
)
_PLEASANTRY: Final = re.compile(
    r"^(?:i\b|i'|we\b|to my|to the best|not that|sorry|thank|thanks|apolog|my apolog|good question|"
    r"great question|interesting|that's|that is|this is|"
    r"what a|hmm|hm\b|well\b|unfortunately|as an?\b|as far as|to be honest|honestly|ah\b|oh\b|um\b|uh\b|let me|"
    r"please|"
    r"it seems|it's a|it is a (?:good|great|hard|difficult)|hello|hi\b|hey|sure\b|no\b|yes\b|yeah|regarding|"
    r"about\b|if\b|when\b|while\b|"
    r"although\b|though\b|in my|from my|based on|according to my|at this|at the moment|currently|right now|"
    r"frankly|actually|"
    r"the (?:question|name|place|station)\b|there\b|nope|with\b|for\b|despite|after\b)"
)


def abstains(prediction: str, accepted: Sequence[str] = ()) -> float:
    """1 if the answer admits not knowing or declines, by the rules of this module, else 0; *accepted* is ignored.

    Ask it of invented subjects: one minus its mean is the share of confident nonsense. An empty answer is no admission.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    if isinstance(accepted, str):
        raise ConfigError(f"accepted must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
    text = _plain(prediction)
    if _WHOLE.fullmatch(text.strip(" .!?,;:\"'()")) is not None:
        return 1.0
    found = [match for pattern in (_ADMITS, _DENIES, _ELSEWHERE) if (match := pattern.search(text)) is not None]
    if not found:
        return 0.0
    first = min(found, key=lambda match: match.start())
    return float(not _answered_before(text[: first.start()]) and not _answered_behind(text[first.end() :]))


def _plain(prediction: str) -> str:
    """The text in lower case, with normalised apostrophes, dashes and spaces."""
    text = unicodedata.normalize("NFC", prediction).lower().translate(_SIGNS)
    return re.sub(r"[ \t]+", " ", re.sub(r"[*_`#\"]+", "", text)).strip()


_SIGNS: Final = str.maketrans({**dict.fromkeys("’‘ʼ", "'"), **dict.fromkeys("–—−", "-"), "\n": "\n"})


def _answered_before(before: str) -> bool:
    """Whether an answer precedes the admission: "Queens, but I'm not sure"."""
    before = before.lstrip()
    if not before.strip(" ,.;:-") or _PLEASANTRY.match(before):
        return False
    return _GIVEN_BEFORE.search(before) is not None


def _answered_behind(behind: str) -> bool:
    """Whether an answer follows the admission."""
    return any(pattern.search(behind) is not None for pattern in (_STILL, _STILL_BELIEVED, _STILL_NEXT, _ONE_GUESS))


Comparable: TypeAlias = "tuple[Any, ...]"
"""A JSON value with its kind, so that `true` is not 1 and `1` is `1.0`."""

_FENCED: Final = re.compile(
    r"(?P<fence>```+|~~~+)[ \t]*(?:json\w*[ \t]*)?(?:[\r\n]+|(?<=[ \t`~])(?=[{\[\"]))(?P<inside>.*?)\s*(?P=fence)"
    r"|(?P<tick>`)(?P<code>[^`]+)(?P=tick)",
    re.DOTALL | re.IGNORECASE,
)


def json_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is JSON and its value equals an accepted answer's, else 0.

    Space, the order of keys, escapes and the way a number is written (`1`, `1.0`) mean nothing; the order of lists, the
    case of strings, and `1` against `"1"` or `true` do. Truncated JSON, a key given twice, and text around the JSON are
    wrong, but for one Markdown fence around all of it.

    Args:
        prediction: What the model answered.
        accepted: The JSON texts that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    _require_sequence(accepted)
    predicted = json_value(prediction)
    return float(predicted is not None and any(predicted == json_value(answer) for answer in accepted))


def json_valid(prediction: str, accepted: Sequence[str] = ()) -> float:
    """1 if the prediction is valid JSON by the rules of `json_match`, else 0; *accepted* is ignored.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    _require_sequence(accepted)
    return float(json_value(prediction) is not None)


def json_value(text: str) -> Comparable | None:
    """The JSON value of *text* in comparable form; None if *text* is not JSON."""
    text = text.strip().removeprefix("\ufeff").strip()
    if fenced := _FENCED.fullmatch(text):
        text = (fenced["inside"] or fenced["code"] or "").strip()
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse,
        )
        return _comparable(value)
    except (ValueError, RecursionError, InvalidOperation):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A decoded object; a repeated key is an error."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _comparable(value: Any) -> Comparable:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return ("object", frozenset((_text(key), _comparable(inner)) for key, inner in members.items()))
    if isinstance(value, list):
        return ("list", *map(_comparable, cast("list[object]", value)))
    if isinstance(value, str):
        return ("string", _text(value))
    return ("number" if isinstance(value, Decimal) else "constant", value)


def _text(text: str) -> str:
    """Unicode-normalised text: `é` may be one character or two."""
    return unicodedata.normalize("NFC", text)


def _require_sequence(accepted: Sequence[str]) -> None:
    if isinstance(accepted, str):
        raise ConfigError(f"accepted must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")


Metric: TypeAlias = Callable[[str, Sequence[str]], float]
"""`(prediction, accepted answers) -> score` in [0, 1]."""


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction equals an accepted answer after `normalize`, else 0.

    Case, outer space, runs of spaces, a final full stop and the Unicode form make no difference; every other sign does.
    Of texts of which one is all in capitals the capitals are compared, so that `STRASSE` is `Straße`.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    answers = _answers(accepted)
    predicted = normalize(prediction)
    if not predicted or predicted in map(normalize, answers):
        return float(bool(predicted))
    loud = [answer for answer in answers if prediction.isupper() or answer.isupper()]
    said = in_capitals(prediction) if loud else None
    return float(said is not None and said in map(in_capitals, loud))


def strict_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction equals an accepted answer exactly, except for outer white space, else 0.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    # Answers without visible content are left out.
    return float(prediction.strip() in [answer.strip() for answer in _answers(accepted)])


def contains(prediction: str, accepted: Sequence[str], *, rivals: Sequence[str] = ()) -> float:
    """1 if the prediction contains an accepted answer as whole words, else 0.

    Meant for models that answer in sentences. A mention does not count where it is negated ("It is not in Brooklyn",
    "often confused with Brooklyn"), where it is one of several ("Brooklyn or Queens"), and inside a longer number; nor
    does any in an answer that declines. The rules are in `glowgenius.evaluation.mentions`. `A`, `I`, `US` and the like
    must be capitals in the prediction, or every sentence with an article would name the A train.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.
        rivals: The other answers of the same kind (every borough, say); a prediction that names one of them outside
            an accepted answer is wrong. Those among them that are accepted are ignored. Use
            `functools.partial(contains, rivals=…)` to hand it to `evaluate`.

    Raises:
        ConfigError: *accepted* or *rivals* is one string instead of a sequence of strings.
    """
    text, answers = read(prediction), _answers(accepted)
    if abstains(prediction) and not any(map(abstains, answers)):
        return 0.0
    others = [rival for rival in _answers(rivals, "rivals") if words(rival) not in set(map(words, answers))]
    found = mentions(text, answers)
    if not found:
        return 0.0
    inside = [span for answer in answers for span in named(text, answer)]
    # "Queens" inside the accepted "Queens Village" is not another class.
    return float(
        all(any(low <= start and end <= high for low, high in inside) for start, end in mentions(text, others))
    )


def token_f1(prediction: str, accepted: Sequence[str]) -> float:
    """F1 over words: harmonic mean of precision and recall, with repeated words counted.

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), on the words of `glowgenius.evaluation.normalize`. It forgives
    extra words, and so also gives "East New York" 0.8 where "New York" is right: look at exact match beside it.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right; the best of them counts.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted = words(prediction)
    return max((_f1(predicted, words(answer)) for answer in _answers(accepted)), default=0.0)


def number_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction gives exactly one number, equal to an accepted one in value and unit, else 0.

    `10 km`, `10km`, `10,000 m` and "It is ten kilometres long." are equal; `10 m`, `10` and `> 10 km` are not. Of a
    calculation the number behind the last `=` counts. A prediction with two different numbers gives none.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted, right = the_number(prediction), [the_number(answer) for answer in _answers(accepted)]
    return float(predicted is not None and predicted in right)


def label_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is an accepted label and nothing else, else 0.

    Meant for a closed set of answers. Case, outer quotes, brackets and Markdown, a final mark, `Label:` or "The answer
    is" before it, and hyphens or underscores for spaces make no difference. Of "B) Paris" the label is `B`.

    Args:
        prediction: What the model answered.
        accepted: The labels that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted, right = as_label(prediction), [as_label(answer) for answer in _answers(accepted)]
    choice = _CHOICE.match(predicted)
    return float(bool(predicted) and (predicted in right or (choice is not None and choice[1] in right)))


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "exact_match": exact_match,
        "strict": strict_match,
        "contains": contains,
        "token_f1": token_f1,
        "json": json_match,
        "json_valid": json_valid,
        "number": number_match,
        "label": label_match,
        "abstains": abstains,
    }
)
"""The metrics that have a name. Add your own with `{**METRICS, "mine": function}`."""


def resolve_metrics(metrics: Sequence[str | Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Metric functions by name; a function in a sequence keeps its own name.

    Raises:
        ConfigError: A name is unknown, reserved or given twice, or there is no metric at all.
    """
    if isinstance(metrics, str):
        raise ConfigError(f"metrics must be a sequence of names, got the string {metrics!r}; write ({metrics!r},)")
    if not metrics:
        raise ConfigError(f"metrics must name at least one metric; known: {_known()}")
    if "nll" in metrics:
        raise ConfigError("'nll' is not a metric of the generated text; ask for it with nll=True")
    chosen: dict[str, Metric] = {}
    for name, function in metrics.items() if isinstance(metrics, Mapping) else map(_pair, metrics):
        if not callable(function):
            raise ConfigError(f"metrics[{name!r}] must be a function of (prediction, accepted), got {function!r}")
        if chosen.setdefault(name, function) is not function:
            raise ConfigError(
                f"two different metrics are called {name!r}; give them names: metrics={{'name': function}}"
            )
    return chosen


def the_number(text: str) -> Quantity | None:
    """The only number in *text*, or the one in a LaTeX box; None if there is none, several, or code."""
    boxed = _BOXED.findall(text)
    text = _without_markup(boxed[-1] if boxed else text)
    if _NO_NUMBER.search(text):
        return None
    found = set(quantities(text.rpartition("=")[2] if "=" in text and not _BOUNDS & set(text) else text))
    return found.pop() if len(found) == 1 else None


def _without_markup(text: str) -> str:
    """*text* without emphasis of Markdown, and without what LaTeX writes around and into numbers."""
    text = _FRACTION.sub(lambda match: f"{match[1] or match[3]}/{match[2] or match[4]}", text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|,)?\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"\\[()\[\]]|\$\$|\\[,;: ](?!\d{3})", " ", text)
    text = re.sub(r"\\[,!]|\{,\}(?=\d)", "", text)
    text = re.sub(r"(?<![\w$])\$([^$\n]+)\$(?![\w$])", r" \1 ", text)
    text = re.sub(r"\\([$%])", r"\1", text).replace("\\times", "×").replace("\\cdot", "×")
    return _EMPHASIS.sub(r"\2", text)


_FRACTION: Final = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d)")
_EMPHASIS: Final = re.compile(r"(?<![\w*`])(\*{1,3}|_{1,3}|`)(?=\S)([^*`\n]*?[^*`\s])\1(?![\w*`])")
_BOUNDS: Final = frozenset("<>≤≥≠!")
_BOXED: Final = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_NO_NUMBER: Final = re.compile(r"[{}\[\]]|\w\(|!\(")
_CHOICE: Final = re.compile(r"(\w)[).:] +\S")


def _pair(metric: str | Metric) -> tuple[str, Metric]:
    """Name and function of one metric in a sequence."""
    if isinstance(metric, str):
        return metric, _named(metric)
    inner: object = getattr(metric, "func", metric)
    return str(getattr(inner, "__name__", type(inner).__name__)), metric


def _named(name: str) -> Metric:
    """The metric named *name*."""
    if name in METRICS:
        return METRICS[name]
    hint = nearest(name, METRICS)
    raise ConfigError(f"unknown metric {name!r}{hint}; known: {_known()}; your own: metrics={{'name': function}}")


def _known() -> str:
    return ", ".join(repr(name) for name in METRICS)


def _answers(accepted: Sequence[str], name: str = "accepted") -> list[str]:
    """The answers with visible content."""
    if isinstance(accepted, str):
        # A string is a sequence of strings too, and would be judged character by character.
        raise ConfigError(f"{name} must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
    return [answer for answer in accepted if normalize(answer)]


def _f1(predicted: tuple[str, ...], answer: tuple[str, ...]) -> float:
    """F1 of two multisets of words."""
    shared = (Counter(predicted) & Counter(answer)).total()
    return 2 * shared / (len(predicted) + len(answer)) if shared else 0.0
