"""Recognising the format of a row from its columns, and renaming the columns of other libraries."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMMON = ("id", "group", "split", "tags", "references", "tools", "weight", "metadata")
"""Columns that every format may have."""


class Fault(NamedTuple):
    """A problem of one field of one row; the loader adds the place and makes a `Problem` of it."""

    field: str | None
    found: str
    accepted: str


@final
@frozen(kw_only=True)
class Shape:
    """Columns of one format."""

    name: str
    """What `dataset.format` says and `format=` takes."""

    required: tuple[str, ...]
    """Columns that every row has."""

    optional: tuple[str, ...] = ()
    """Columns that a row may have, besides `COMMON`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of the format, without the common ones."""
        return self.required + self.optional


_BESIDE: Final = ("system", "context", "choices")
"""Columns that a question may have beside it."""

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="messages", required=("messages",), optional=("system",)),
        Shape(name="question/answer", required=("question", "answer"), optional=_BESIDE),
        Shape(name="prompt/completion", required=("prompt", "completion"), optional=_BESIDE),
        Shape(
            name="alpaca",
            required=("instruction", "output"),
            optional=("input", "system", "history", "context", "choices"),
        ),
        Shape(name="input/output", required=("input", "output"), optional=_BESIDE),
        Shape(name="sharegpt", required=("conversations",), optional=("system",)),
        Shape(name="text/label", required=("text", "label"), optional=_BESIDE),
    )
}
"""The formats by name; where one row fits several, `recognise` decides."""

OWN_NAMES = tuple(dict.fromkeys([*COMMON, *(column for shape in SHAPES.values() for column in shape.columns)]))
"""Every column name that means something here."""

COLLECTED: Final = ("context", "choices", "metadata")
"""Names that `columns=` may give to several columns of a file."""

_CLASSIFICATION: Final = ("text", "label")
"""Names that mean something in rows of their own format only; elsewhere they are names like any other."""

_TEXTS: Final = frozenset(
    ("sentence", "review", "tweet", "comment", "headline", "utterance", "sms", "email", "post", "content", "document")
)
_LABELS: Final = frozenset(("labels", "sentiment", "intent", "emotion"))
"""Names under which the columns of `text/label` are read as well, where nothing else makes a format."""

_CLASSES: Final = frozenset(("category", "class", "class_name", "topic", "tag", "type"))
"""Names that may mean the label of a text, and may as well mean something else: suggested, never taken."""

_ASKS = ("question", "prompt", "instruction", "input", "text")
_ANSWERS = ("answer", "completion", "output", "label")

ELSEWHERE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("query", "problem", "user", "human", "ask", "q", "source_text", "src"), _ASKS),
    **dict.fromkeys(("response", "solution", "assistant", "gpt", "a", "reply", "chosen", "generation"), _ANSWERS),
    **dict.fromkeys(("target", "targets", "label", "labels", "expected_output", "ground_truth", "gold"), _ANSWERS),
    **dict.fromkeys(("responses", "answer_text", "model_answer", "tgt", "summary", "correct_answer"), _ANSWERS),
    **dict.fromkeys(("answers", "reference", "accepted_answers", "aliases", "possible_answers"), ("references",)),
    **dict.fromkeys(("conversation", "dialog", "dialogue", "dialogs", "chat", "chats", "turns"), ("messages",)),
    **dict.fromkeys(("system_prompt", "system_message", "sys"), ("system",)),
    **dict.fromkeys(("group_id", "fact_id"), ("group",)),
    **dict.fromkeys(("functions", "function_definitions", "tool_definitions", "available_tools"), ("tools",)),
    **dict.fromkeys(("label_weight", "loss_weight", "sample_weight"), ("weight",)),
}
"""Column names of other libraries → ours; the first that the row's format has is the one to use."""

_UNSEEN: Final = "text that the model would not see"
_OFFERED: Final = "choices that the model would not see"
_PREFERENCE: Final = "a column of preference data, not of supervised rows"
_REASONING: Final = "reasoning beside the answer"
_NO_TEXT: Final = "data that is not text"
_ANOTHER: Final = "a column of another format"
_NAME: Final = "the name of the label, beside its number"
_TEMPLATE: Final = "settings of the chat template for one row"
SEVERAL: Final = "accepted answers, and none of them is the one to learn"

CHOICES: Final = (
    *("option", "options", "alternatives", "candidates", "answer_choices", "answer_options", "endings", "mc_options"),
    "choices",
)
"""Names under which a list of choices stands."""

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            *("passage", "passages", "contexts", "document", "documents", "doc", "docs", "article", "articles"),
            *("paragraph", "paragraphs", "table", "tables", "schema", "db_schema", "ddl", "create_table", "database"),
            *("premise", "hypothesis", "sentence", "sentences", "sentence1", "sentence2", "sentence_1", "sentence_2"),
            *("code", "source_code", "snippet", "code_snippet", "story", "background", "evidence", "evidences"),
            *("ctx", "ctxs", "snippets", "retrieved_docs", "retrieved_documents", "retrieved_contexts", "retrieval"),
            *("support", "supporting_text", "supporting_facts", "facts", "knowledge", "excerpt", "abstract", "body"),
            *("report", "transcript", "chapter", "email", "review", "tweet", "comment", "text", "content", "text_a"),
            *("text_b", "text1", "text2", "source_document", "reference_text", "retrieved", "search_results"),
        ),
        _UNSEEN,
    ),
    **dict.fromkeys(CHOICES[:-1], _OFFERED),
    **dict.fromkeys(("rejected", "ranking", "preferred", "winner", "loser", "better_response_id"), _PREFERENCE),
    **dict.fromkeys(
        ("reasoning_content", "reasoning", "thinking", "thought", "chain_of_thought", "rationale"), _REASONING
    ),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), _NO_TEXT),
    **dict.fromkeys(("chat_template_kwargs", "chat_template"), _TEMPLATE),
}
"""Columns that no format has and that would change what is trained if they were ignored → what they hold."""

_WAYS: Final = {
    _UNSEEN: ("context", "puts it before the question ('metadata' instead keeps it untrained)"),
    _OFFERED: ("choices", "puts them below the question ('metadata' instead keeps them untrained)"),
    _ANOTHER: ("metadata", "keeps it untrained"),
    _NAME: ("label", "trains the name"),
    _PREFERENCE: ("metadata", "trains the chosen answers alone"),
    _REASONING: (
        "metadata",
        "keeps it untrained; to train it, use 'messages' with 'reasoning_content' in the assistant's message",
    ),
    _NO_TEXT: ("metadata", "keeps it, and the model does not see it: rows of text only"),
    _TEMPLATE: (
        "metadata",
        "keeps them unused; one setting for all rows is ChatTemplateRenderer(tokenizer, chat_template_kwargs={…})",
    ),
}
"""What a refused column holds → the name to give it, and what that does."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_CLOSE_ENOUGH = 0.8
_SHORTEST_TYPO = 4
_MAPPED: Final = 12
"""So many columns are named together in one piece of advice."""

_NUMBERED: Final = re.compile(
    r"(?:op|opt|option|choice|sol|solution|ending|distractor|alternative|candidate)[ _-]?(?:[a-j]|\d{1,2})",
    re.IGNORECASE,
)
_LETTERS: Final = frozenset("abcdefghij")


def advised(columns: Mapping[str, str]) -> str:
    """`columns={…}` as the user would type it."""
    return f"columns={dict(columns)!r}"


@functools.lru_cache(maxsize=4096)
def near_miss(
    column: str, known: tuple[str, ...] = tuple(n for n in OWN_NAMES if n not in _CLASSIFICATION)
) -> str | None:
    """The known name closest to *column*: other case, stray spaces, a plural, or one or two characters off.

    Compounds (`question_id`, `answerSource`) are names of their own, and so are words of up to three letters.
    """
    bare = re.sub(r"[\W_]+", "", column).casefold()
    for name in known:
        if bare in (name, f"{name}s", name.removesuffix("s")):
            return name
    if len(bare) < _SHORTEST_TYPO or len(_WORDS.findall(column)) > 1:
        return None
    close = difflib.get_close_matches(bare, known, n=1, cutoff=_CLOSE_ENOUGH)
    return close[0] if close else None


def recognise(columns: Iterable[str]) -> Shape | None:
    """The format of a row with these columns; None if they match none or more than one."""
    present = tuple(columns)
    complete = complete_shapes(present)
    if complete:
        return complete[0] if len(complete) == 1 else None
    others = {name for shape in SHAPES.values() if shape.name != "text/label" for name in shape.required}
    alone = None not in class_columns(present) and others.isdisjoint(present)
    return SHAPES["text/label"] if alone else None


def complete_shapes(columns: Iterable[str]) -> list[Shape]:
    """Formats whose required columns are all present."""
    present = frozenset(columns)
    complete = [shape for shape in SHAPES.values() if present.issuperset(shape.required)]
    if SHAPES["alpaca"] in complete and SHAPES["input/output"] in complete:
        complete.remove(SHAPES["input/output"])  # the `input` of Alpaca belongs to its instruction
    if len(complete) > 1 and complete[-1].name == "text/label":
        complete.pop()  # beside a question and its answer, `label` is a rating and `text` is another text
    return complete


@functools.lru_cache(maxsize=512)
def class_columns(present: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The text and label columns of a classification row; None if there is none or more than one choice."""
    found: list[str | None] = []
    for own, others in zip(_CLASSIFICATION, (_TEXTS, _LABELS), strict=True):
        named = [own] if own in present else [column for column in present if column.casefold() in others]
        found.append(named[0] if len(named) == 1 else None)
    return found[0], found[1]


@functools.lru_cache(maxsize=512)
def likeliest(present: tuple[str, ...]) -> Shape | None:
    """The format that most columns suggest, by name, misspelling or another library's name; None if none do."""
    complete = complete_shapes(present)
    if complete:
        return complete[0]

    def score(shape: Shape) -> float:
        return sum(
            1.0 if name in present else 0.9 * (_stand_in(name, present, shape) is not None) for name in shape.required
        )

    best = max(SHAPES.values(), key=lambda shape: score(shape) / len(shape.required))
    return best if score(best) else None


def _stand_in(name: str, present: Iterable[str], shape: Shape) -> str | None:
    """The column that is probably meant as *name*."""
    others = (column for column in present if column not in OWN_NAMES or column in _CLASSIFICATION)
    return next((column for column in others if meant(column, shape) == name), None)


def meant(column: str, shape: Shape) -> str | None:
    """The standard name for a foreign column in a row of this format; None if none fits."""
    if shape.name == "text/label" and column.casefold() in _CLASSES:
        return "label"
    candidates = ELSEWHERE.get(column.casefold())
    if candidates is not None:
        return next((name for name in candidates if name in shape.columns or name in COMMON), candidates[0])
    return near_miss(column, OWN_NAMES) if shape.name == "text/label" else near_miss(column)


@final
@frozen(kw_only=True)
class Plan:
    """How to read one set of columns in a format; computed once per set, not per row."""

    faults: tuple[Fault, ...]
    """Columns that cannot stay as they are."""

    metadata: tuple[str, ...]
    """Columns that mean nothing here and are kept."""

    renamed: frozenset[str]
    """Names of ours that a fault already says are there under another name, so that they are not missing as well."""


@functools.lru_cache(maxsize=512)
def plan(columns: tuple[str, ...], shape: Shape, *, forced: bool) -> Plan:
    """Sort the columns of a row into columns of its format, metadata, and faults.

    A slip (`anser`) is always a fault. Another library's name (`response`) is one while our name is absent;
    beside a complete row it can only be something else, such as an older model's response, and is kept.
    What a question cannot be answered without (`article`, `options`) is a fault too.

    Args:
        columns: The row's columns; those of ours that hold nothing left out.
        shape: The format that the row is read as.
        forced: Whether the user named the format, which makes columns of other formats mere metadata.
    """
    own = {*shape.columns, *COMMON}
    complete = set(shape.required) <= set(columns)
    if shape.name == "text/label":
        classes = class_columns(columns)
        own.update(filter(None, classes))
        complete = None not in classes
    kept, names, wrong = _sorted(columns, shape, own, keep=forced and complete)
    together = names if len(names) <= _MAPPED else {}
    return Plan(
        faults=tuple(
            _foreign(column, shape) if forced and holds == _ANOTHER else _fault(column, holds, names, together, shape)
            for column, holds in wrong.items()
        ),
        metadata=kept,
        renamed=frozenset([*names.values(), *(shape.required[-1:] if SEVERAL in wrong.values() else ())]),
    )


def _sorted(
    columns: tuple[str, ...], shape: Shape, own: set[str], *, keep: bool
) -> tuple[tuple[str, ...], dict[str, str], dict[str, str]]:
    """Metadata columns, and for each unusable column its suggested name and content (empty for a misspelling)."""
    kept, names, wrong = list[str](), dict[str, str](), dict[str, str]()
    options = offered(columns)
    whole = set(shape.required) <= set(columns)
    for column in columns:
        if column in own:
            continue
        plain, suggestion = column.casefold(), meant(column, shape)
        holds = _held(column, shape, options)
        if keep and (holds or plain in ELSEWHERE):
            kept.append(column)
        elif holds:
            way = _WAYS[holds][0]
            names[column] = way if way in shape.columns else "metadata"
            wrong[column] = holds
            if way == "label":
                names["label"] = "metadata"
        elif suggestion == "references" and shape.required[-1] not in columns and shape.required[-1] in _ANSWERS:
            wrong[column], names[column] = SEVERAL, suggestion
        elif suggestion is None or ((plain in ELSEWHERE or plain in _CLASSES) and suggestion in columns):
            kept.append(column)
        else:
            taken = suggestion in columns or suggestion in names.values() or (whole and suggestion not in own)
            names[column] = "metadata" if taken else suggestion
            wrong[column] = ""
    asks = shape.required[0]
    texts = [column for column, holds in wrong.items() if holds == _UNSEEN]
    if asks not in columns and asks not in names.values() and "context" in shape.columns and texts:
        names[texts[-1]] = asks  # as in premise + hypothesis, or in an article with its summary
    absent = [name for name in shape.required if name not in {*columns, *names.values()}]
    if names and len(absent) == 1 and SEVERAL not in wrong.values():
        spare = [column for column in columns if column in kept or (column == "context" and absent == [asks])]
        if len(spare) == 1:  # the only one that can be meant, or reading the others would not help
            names[spare[0]] = absent[0]
            wrong[spare[0]] = ""
            kept = [column for column in kept if column != spare[0]]
    return tuple(kept), names, wrong


def _held(column: str, shape: Shape, options: frozenset[str]) -> str:
    """Content of a column that no row may hold beside its format; empty for any other column."""
    plain = column.casefold()
    if column in ("context", "choices"):
        return _UNSEEN
    if column in OWN_NAMES and column not in _CLASSIFICATION:
        return _ANOTHER
    if shape.name == "text/label" and plain in ("label_text", "label_name"):
        return _NAME
    return REFUSED.get(plain) or (_OFFERED if column in options else "")


def offered(columns: Iterable[str]) -> frozenset[str]:
    """Columns that hold one choice each: `A` to `D`, `option_1` and similar."""
    present = tuple(columns)
    lettered = {column for column in present if len(column) == 1 and column.casefold() in _LETTERS}
    several = {column.casefold() for column in lettered} >= {"a", "b"}
    return frozenset(column for column in present if (several and column in lettered) or _NUMBERED.fullmatch(column))


def _foreign(column: str, shape: Shape, accepted: str | None = None) -> Fault:
    """The fault for a column of another format; if the user named the wrong format, that one is suggested."""
    owner = next(other.name for other in SHAPES.values() if column in other.columns)
    found = f"a column of the format {owner!r}, in a row read as {shape.name!r}"
    return Fault(column, found, accepted or f"the columns of {shape.name!r}, or format={owner!r}")


def _fault(column: str, holds: str, names: Mapping[str, str], together: Mapping[str, str], shape: Shape) -> Fault:
    """The fault for an unusable column, with the `columns=` that would read the row."""
    name = names[column]
    use = advised(together or {column: name})
    if holds == SEVERAL:
        answer, value = shape.required[-1], f"row[{column!r}]"
        rows = f"[{{**row, {answer!r}: {value}[0], 'references': {value}}} for row in rows]"
        return Fault(column, holds, f"rows that have one, such as {rows}")
    if not holds:
        taken = name == "metadata"
        other = meant(column, shape) if taken else name
        why = "is there as well" if other in (*shape.columns, *COMMON) else "is of another format"
        meaning = f"did you mean {other!r}{f', which {why}' * taken}?"
        does = "keeps it untrained" if taken else "reads it so"
        return Fault(column, "no column of that name", f"{meaning} {use} {does}")
    if holds == _ANOTHER:
        return _foreign(column, shape, f"the columns of one format only: {use} keeps this one untrained")
    way, does = _WAYS[holds]
    if name == shape.required[0]:
        does = "asks it"
    elif name != way:
        does = "keeps it untrained; what the model shall see belongs in a message"
    return Fault(column, holds, f"{use} {does}")


_GOOD: Final = frozenset(
    (
        *("correct", "right", "good", "valid", "accepted", "accept", "acceptable", "approved", "approve", "passed"),
        *(
            "pass",
            "passes",
            "verified",
            "keep",
            "train",
            "trainable",
            "totrain",
            "use",
            "usable",
            "include",
            "included",
        ),
        *("selected", "thumbsup", "upvoted", "liked", "desirable", "desired", "success", "successful", "succeeded"),
        *("preferred", "wanted", "helpful", "safe", "fortraining", "trainon", "useintraining", "active", "enabled"),
        *("usefortraining", "usedfortraining", "tolearn", "intraining", "includeintraining", "trainthis"),
        *("feedback", "verdict", "judgement", "judgment", "decision", "outcome", "status", "thumbs", "vote", "label"),
        *("humanfeedback", "userfeedback", "humanlabel", "evaluation", "reviewed", "gold", "answercorrect", "chosen"),
    )
)
_BAD: Final = frozenset(
    (
        *("wrong", "incorrect", "bad", "invalid", "rejected", "flagged", "toxic", "harmful", "unsafe", "exclude"),
        *("excluded", "skip", "skipped", "ignore", "ignored", "drop", "dropped", "discard", "discarded", "deleted"),
        *("hallucinated", "hallucination", "failed", "thumbsdown", "downvoted", "disliked", "undesirable", "broken"),
        *("donttrain", "donottrain", "notrain", "disabled", "removed", "mistake", "refusal", "lowquality"),
    )
)
_SCORES: Final = frozenset(
    (
        *(
            "score",
            "scores",
            "reward",
            "rewards",
            "rating",
            "ratings",
            "quality",
            "grade",
            "advantage",
            "stars",
            "rank",
        ),
        *("upvotes", "downvotes", "votes", "helpfulness", "correctness", "preference", "preferencescore"),
        *("qualityscore", "qualityrating", "rewardscore", "rmscore", "answerscore", "responsescore", "completionscore"),
        *("humanscore", "humanrating", "userrating", "overallscore", "overallrating", "judgescore", "llmscore"),
    )
)


@functools.lru_cache(maxsize=1024)
def judging_kind(column: str, shape: Shape) -> str:
    """How a column rates the answer: `good` if true is praise, `bad` if true is blame, `score`, or empty."""
    plain = re.sub(r"[\W_]+", "", column).casefold()
    if column == "label" and shape.name == "text/label":
        return ""
    for name in (plain, plain.removeprefix("is"), plain.removeprefix("was"), plain.removeprefix("answeris")):
        for kind, names in (("good", _GOOD), ("bad", _BAD), ("score", _SCORES)):
            if name in names:
                return kind
    return ""
