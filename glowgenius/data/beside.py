"""What stands beside a question: the text it is about, and the choices it offers, as the prompt shows them."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import as_list, as_mapping, describe, json_fault
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARKS: Final = ("label", "key", "letter", "id")
_SAID: Final = ("text", "value", "content", "option", "choice")
_CHOICES: Final = "a list of choices, such as ['Dover', 'Leith'], or an object such as {'A': 'Dover', 'B': 'Leith'}"


def asked(row: Mapping[str, Any], question: str, faults: list[Fault]) -> str:
    """The question with the row's context before it and its choices below it; what is wrong is added to *faults*."""
    if "context" not in row and "choices" not in row:
        return question
    context, wrong = _context_text(row.get("context"))
    choices, also = _choices_text(row.get("choices"))
    faults.extend(fault for fault in (wrong, also) if fault is not None)
    return "\n".join(filter(None, (f"{context}\n" if context else "", question, choices)))


def _context_text(value: object) -> tuple[str, Fault | None]:
    """Text as it is, texts with a blank line between them, and anything else (a table, a schema) as JSON."""
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
    """One choice a line: `A) Dover`, with the marks that the data gives them, or letters."""
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
    """Each choice with its mark."""
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
