"""Conversion of one row's columns to a conversation, or to a list of its faults."""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius._validators import is_integer
from glowgenius.data.arrow_values import true_tools
from glowgenius.data.check import judged
from glowgenius.data.columns import COMMON, ELSEWHERE, OWN_NAMES, REFUSED, SEVERAL, Fault, class_columns
from glowgenius.data.json_values import (
    NOTHING,
    BrokenJSONError,
    StrictDecoder,
    as_list,
    as_mapping,
    describe,
    is_finite,
    json_fault,
)
from glowgenius.data.message import (
    SOME_TEXT,
    Conversation,
    Message,
    blank_fault,
    order_faults,
    read_messages,
    read_sharegpt,
    text_fault,
)
from glowgenius.data.message_fields import functions_in_system, is_transcript, read_tools, read_transcript

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glowgenius.data.columns import Plan, Shape
    from glowgenius.data.message import Source

    Row = Mapping[str, Any]

_MARKS: Final = ("label", "key", "letter", "id")
_SAID: Final = ("text", "value", "content", "option", "choice")
_CHOICES: Final = "a list of choices, such as ['Dover', 'Leith'], or an object such as {'A': 'Dover', 'B': 'Leith'}"


def asked(row: Mapping[str, Any], question: str, faults: list[Fault]) -> str:
    """The question with context before it and choices below it; problems are appended to *faults*."""
    if "context" not in row and "choices" not in row:
        return question
    context, wrong = _context_text(row.get("context"))
    choices, also = _choices_text(row.get("choices"))
    faults.extend(fault for fault in (wrong, also) if fault is not None)
    return "\n".join(filter(None, (f"{context}\n" if context else "", question, choices)))


def _context_text(value: object) -> tuple[str, Fault | None]:
    """Text unchanged, a list of texts joined by blank lines, anything else (a table, a schema) as JSON."""
    if isinstance(value, str):
        return (value if value.strip() else ""), None
    if value is None or value in ([], (), {}):
        return "", None
    if fault := json_fault(value):
        return "", Fault("context", fault, "text, a list of texts, or JSON values")
    parts = as_list(value)
    if parts is not None and any(isinstance(part, str) for part in parts):
        return "\n\n".join(text for part in parts if (text := _context_text(part)[0])), None
    return json.dumps(value, ensure_ascii=False), None


def _choices_text(value: object) -> tuple[str, Fault | None]:
    """One choice per line: `A) Dover`, labelled as in the data, or with letters."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("[", "{")):
            return (value if value.strip() else ""), None
        try:
            value, found = StrictDecoder().decode_only(value)
        except BrokenJSONError:
            return str(value), None
        if found:
            return "", found[0]._replace(field="choices")
    if value is None or value in ([], (), {}):
        return "", None
    pairs = _pairs(value)
    if pairs is None or any(isinstance(said, Mapping | list | tuple) or json_fault(said) for _, said in pairs):
        return "", Fault("choices", describe(value), _CHOICES)
    return "\n".join(f"{mark}) {_plain(said)}" for mark, said in pairs if said not in (None, "")), None


def _pairs(value: object) -> list[tuple[object, object]] | None:
    """Each choice with its label."""
    items = as_list(value)
    if items is not None:
        mappings = [as_mapping(item) for item in items]
        if any(item is not None for item in mappings):
            named = [_marked(item) for item in mappings]
            return None if None in named else cast("list[tuple[object, object]]", named)
        return list(zip(_letters(len(items)), items, strict=True))
    given = as_mapping(value)
    if given is None:
        return None
    texts, marks = as_list(given.get("text")), as_list(given.get("label"))
    if texts is not None and marks is not None and len(texts) == len(marks):  # as in ARC and CommonsenseQA
        return list(zip(marks, texts, strict=True))
    return list(given.items())


def _marked(item: Mapping[object, Any] | None) -> tuple[object, object] | None:
    if item is None:
        return None
    mark, said = (next((item[name] for name in names if name in item), None) for names in (_MARKS, _SAID))
    return None if mark is None or said is None else (mark, said)


def _letters(count: int) -> Iterable[str]:
    letters: Sequence[str] = string.ascii_uppercase
    return letters[:count] if count <= len(letters) else map(str, range(1, count + 1))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_SHARED = 1024
"""How many of the latest answers, system messages and groups are kept to be shared by rows that repeat them."""

MISSING = "missing"
"""What is found of a column that the row does not have."""


def used_columns(row: Row) -> tuple[str, ...]:
    """The row's columns without null ones that have a meaning here: exports write null for missing values."""
    return tuple(column for column, value in row.items() if value is not None or not _meaningful(column))


def _meaningful(column: str) -> bool:
    plain = column.casefold()
    return column in OWN_NAMES or plain in REFUSED or plain in ELSEWHERE


def read_row(row: Row, shape: Shape, columns: Plan, source: Source | None) -> Conversation | tuple[Fault, ...]:
    """The conversation of one row, or all of its faults.

    Args:
        row: Column → value, as the file or the user gave it.
        shape: The format to read the row as.
        columns: What `plan` says about the row's columns under this format.
        source: Where the row was read, if from a file.
    """
    faults = [_of_texts(fault, row) for fault in columns.faults]
    row = _decoded(row, faults)
    options = _read_common(row, faults)
    options["metadata"] = _read_metadata(row, columns.metadata, faults)
    found: list[Fault] = []
    messages = _READERS[shape.name](row, found)
    # A column present under another name is not reported as missing too.
    faults.extend(fault for fault in found if fault.found != MISSING or fault.field not in columns.renamed)
    faults.extend(judged(row, columns.metadata, shape))
    if faults:
        return tuple(faults)
    return Conversation(messages=messages, source=source, **options)


def _of_texts(fault: Fault, row: Row) -> Fault:
    """The fault of accepted answers, with the way to their texts where they have offsets beside them, as in SQuAD."""
    if fault.found != SEVERAL or fault.field is None:
        return fault
    inner = as_mapping(row.get(fault.field))
    if inner is None or "text" not in inner:
        return fault
    value = f"row[{fault.field!r}]"
    return fault._replace(accepted=fault.accepted.replace(value, f"{value}['text']"))


_JSON_COLUMNS = ("messages", "conversations", "history", "metadata")
"""Columns of which a text is JSON: tables cannot hold a list, and other libraries write them so into files that can."""

_PYTHON = ("[{'", "{'", "[['", "[('")


def _decoded(row: Row, faults: list[Fault]) -> Row:
    """The row with JSON text decoded to lists and objects, and a transcript split into turns."""
    if is_transcript(row.get("messages")):
        return _spoken(row, faults)
    texts = {
        column: value
        for column in _JSON_COLUMNS
        if isinstance(value := row.get(column), str) and value.lstrip().startswith(("[", "{"))
    }
    if not texts:
        return row
    changed = dict(row)
    for column, text in texts.items():
        try:
            changed[column], found = StrictDecoder().decode_only(text)
        except BrokenJSONError as error:
            accepted = "JSON text"
            if text.lstrip().startswith(_PYTHON):  # what pandas writes into a CSV file
                accepted = "JSON text, not Python's: json.dumps(…) in each cell, or a .jsonl or .parquet file"
            faults.append(Fault(column, f"no JSON at character {error.position + 1}: {error.reason}", accepted))
            changed[column] = [] if column in ("messages", "conversations") else None
        else:
            faults.extend(fault._replace(field=f"{column}.{fault.field}" if fault.field else column) for fault in found)
    return changed


def _spoken(row: Row, faults: list[Fault]) -> Row:
    """The row with its transcript's turns, and with the functions of its system message as tools."""
    messages = read_transcript("messages", row["messages"])
    if isinstance(messages, Fault):
        faults.append(messages)
        return {**row, "messages": []}
    changed: dict[str, Any] = {**row, "messages": messages}
    told: dict[str, Any] = messages[0] if messages[0]["role"] == "system" else changed
    key = "system" if told is changed else "content"
    if isinstance(told.get(key), str):
        told[key], tools = functions_in_system(told[key])
        if tools and row.get("tools"):
            faults.append(Fault("tools", "tools beside functions in the system message", "one of the two"))
        elif tools:
            changed["tools"] = tools
    return changed


def row_faults(conversation: Conversation) -> list[Fault]:
    """Why a conversation built by the user cannot be a row of a data set."""
    faults = [blank_fault(f"messages[{i}].content", message) for i, message in enumerate(conversation.messages)]
    return [fault for fault in faults if fault is not None] or order_faults("messages", conversation.messages)


def row_id(row: Row) -> str | None:
    """The row's `id` for error messages, if it has a printable one."""
    value = row.get("id")
    return str(value) if (isinstance(value, str) and value.strip()) or is_integer(value) else None


@functools.lru_cache(maxsize=_SHARED)
def _message(role: str, content: str) -> Message:
    """A message; equal ones share one object, since rows repeat system messages and short answers."""
    return Message(role, content)


@functools.lru_cache(maxsize=_SHARED)
def _shared(name: str) -> str:
    """The name; equal names share one object."""
    return name


def _missing(row: Row, column: str) -> Fault:
    return Fault(column, "null" if column in row else MISSING, SOME_TEXT)


def _text(row: Row, column: str, faults: list[Fault]) -> str:
    """Text of a required column."""
    value = row.get(column)
    fault = _missing(row, column) if value is None else text_fault(column, value)
    if fault is None:
        return str(value)
    if column in ("answer", "completion", "output") and as_list(value):
        fault = fault._replace(accepted="one answer to learn, as a string; all that are right belong in 'references'")
    faults.append(fault)
    return ""


def _opening(row: Row, faults: list[Fault]) -> list[Message]:
    """The system message, if the row has one; an empty one is kept, since many templates insert a default."""
    system = row.get("system")
    if system is None:
        return []
    fault = text_fault("system", system, may_be_blank=True)
    if fault is None:
        return [_message("system", system)]
    faults.append(fault)
    return []


def _exchange(opening: list[Message], question: str, answer: str, faults: list[Fault]) -> tuple[Message, ...]:
    return () if faults else (*opening, Message("user", question), _message("assistant", answer))


def _pair_reader(asks: str, answers: str) -> Any:
    def read(row: Row, faults: list[Fault]) -> tuple[Message, ...]:
        opening = _opening(row, faults)
        turns, last = as_list(row.get(asks)), as_list(row.get(answers))
        if turns is not None and last is not None:  # TRL's conversational form: messages, and those that answer them
            return (*opening, *read_messages(f"{asks} + {answers}", [*turns, *last], faults))
        question = asked(row, _text(row, asks, faults), faults)
        return _exchange(opening, question, _text(row, answers, faults), faults)

    return read


def _read_class(row: Row, faults: list[Fault]) -> tuple[Message, ...]:
    """A text and its class name; a number stays a number if its meaning is unknown."""
    opening = _opening(row, faults)
    text, label = class_columns(used_columns(row))
    question = asked(row, _text(row, text or "text", faults), faults)
    answer, name = label or "label", row.get(label or "label")
    if isinstance(name, bool):
        row = {answer: "true" if name else "false"}
    elif is_integer(name) and json_fault(name) is None:
        row = {answer: str(name)}
    if label is None and isinstance(said := row.get(text or "text"), str):
        faults.append(Fault(answer, MISSING, _without_label(text or "text", said)))
        return ()
    return _exchange(opening, question, _text(row, answer, faults), faults)


_RENDERED = re.compile(
    r"<\|\w+\|>|<start_of_turn>|\[/INST\]|^(?:#+ ?)?(?:response|assistant|ai|output|answer|a|gpt):",
    re.IGNORECASE | re.MULTILINE,
)
"""How an answer begins in a text that holds a whole conversation."""


def _without_label(column: str, text: str) -> str:
    """Advice about a row with one text and nothing that marks where an answer begins."""
    if is_transcript(text):
        return f"the class of the text; columns={{{column!r}: 'messages'}} reads the turns of a conversation"
    if _RENDERED.search(text):
        return (
            f"the class of the text; where {column!r} holds a conversation in the form of a chat template, give its "
            "question and answer, or its 'messages', without the template: that of the model is put on later"
        )
    return "the class of the text, or a question and its answer: a text alone has no answer to learn"


def _read_alpaca(row: Row, faults: list[Fault]) -> tuple[Message, ...]:
    """Instruction and input as one message joined by a newline, as in LLaMA-Factory."""
    opening = _opening(row, faults)
    opening += _read_history(row.get("history"), faults)
    instruction, output, given = _text(row, "instruction", faults), _text(row, "output", faults), row.get("input")
    if given is not None and (fault := text_fault("input", given, may_be_blank=True)):
        faults.append(fault)
    elif given and given.strip():
        instruction = f"{instruction}\n{given}"
    return _exchange(opening, asked(row, instruction, faults), output, faults)


def _read_history(value: object, faults: list[Fault]) -> list[Message]:
    accepted = "a list of [question, answer] pairs"
    if value is None:
        return []
    pairs = as_list(value)
    if pairs is None:
        faults.append(Fault("history", describe(value), accepted))
        return []
    messages: list[Message] = []
    for position, item in enumerate(pairs):
        pair = as_list(item)
        if pair is None or len(pair) != 2:  # noqa: PLR2004 - a pair
            faults.append(Fault(f"history[{position}]", describe(item), "a pair [question, answer]"))
            continue
        found = [text_fault(f"history[{position}][{side}]", said) for side, said in enumerate(pair)]
        faults.extend(fault for fault in found if fault is not None)
        if not any(found):
            messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


def _read_openai(row: Row, faults: list[Fault]) -> tuple[Message, ...]:
    if row.get("messages") is None:
        faults.append(_missing(row, "messages")._replace(accepted="a list of messages with 'role' and 'content'"))
        return ()
    return _opened(row, read_messages("messages", row["messages"], faults), faults)


def _opened(row: Row, messages: tuple[Message, ...], faults: list[Fault]) -> tuple[Message, ...]:
    """Messages with the separate system column as first message; two different system messages are a fault."""
    opening = _opening(row, faults)
    first = messages[0] if messages else None
    if not opening or first is None or first.role not in ("system", "developer"):
        return (*opening, *messages)
    if first.content != opening[0].content:
        faults.append(Fault("system", "a system message beside another one in the first message", "one of the two"))
    return messages


def _read_conversations(row: Row, faults: list[Fault]) -> tuple[Message, ...]:
    if row.get("conversations") is None:
        faults.append(_missing(row, "conversations")._replace(accepted="a list of turns with 'from' and 'value'"))
        return ()
    return _opened(row, read_sharegpt("conversations", row["conversations"], faults), faults)


_READERS: dict[str, Any] = {
    "messages": _read_openai,
    "question/answer": _pair_reader("question", "answer"),
    "prompt/completion": _pair_reader("prompt", "completion"),
    "alpaca": _read_alpaca,
    "input/output": _pair_reader("input", "output"),
    "sharegpt": _read_conversations,
    "text/label": _read_class,
}
"""Format → the function that makes messages of a row and adds what is wrong to the list it is given."""


def _read_common(row: Row, faults: list[Fault]) -> dict[str, Any]:
    """The columns every format may have, except metadata."""
    options: dict[str, Any] = {}
    for column in COMMON:
        value = row.get(column)
        if value is None or column == "metadata":
            continue
        if column in ("id", "group", "split"):
            # Numbers are common as ids; they are names here, so 17 and "17" are the same.
            value = str(value) if is_integer(value) and json_fault(value) is None else value
            fault = text_fault(column, value)
        elif column == "tools":
            value, fault = read_tools(true_tools(value))
        elif column == "weight":
            fault = None if is_finite(value) and value > 0 else Fault(column, describe(value), "a number > 0")
        else:
            value = (value,) if isinstance(value, str) else value
            fault = _strings_fault(column, value)
        if fault is None:
            options[column] = _shared(value) if column in ("group", "split") else value
        else:
            faults.append(fault)
    return options


def _strings_fault(column: str, value: object) -> Fault | None:
    items = as_list(value)
    if items is None:
        return Fault(column, describe(value), "a string or a list of strings")
    found = (text_fault(f"{column}[{position}]", item) for position, item in enumerate(items))
    return next((fault for fault in found if fault is not None), None)


def _read_metadata(row: Row, columns: tuple[str, ...], faults: list[Fault]) -> dict[str, Any]:
    """The `metadata` column merged with the unknown columns."""
    given = row.get("metadata")
    inner = as_mapping(NOTHING if given is None else given)
    if inner is None:
        faults.append(Fault("metadata", describe(given), "an object"))
        return {}
    if fault := json_fault(inner):
        faults.append(Fault("metadata", fault, "JSON values"))
        return {}
    metadata = {str(key): value for key, value in inner.items()}
    for column in columns:
        fault = json_fault(row[column]) or json_fault(column)
        if fault:
            faults.append(Fault(column, fault, "JSON values (what is no column of ours is kept as metadata)"))
        elif column in metadata:
            faults.append(Fault(column, "a column that 'metadata' holds as well", "one of the two"))
        else:
            metadata[column] = row[column]
    return metadata
