"""Answers that are JSON: equal as values, or not JSON at all."""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Comparable: TypeAlias = "tuple[Any, ...]"
"""A JSON value with its kind, so that `true` is not 1 and `1` is `1.0`."""

_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


def json_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is JSON and equal to an accepted answer as a value, else 0.

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
    """1 if the prediction is JSON, by the rules of `json_match`, else 0; a metric that ignores *accepted*.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    _require_sequence(accepted)
    return float(json_value(prediction) is not None)


def json_value(text: str) -> Comparable | None:
    """The JSON value of *text* in a form that can be compared; None if *text* is no JSON."""
    fenced = _FENCED.fullmatch(text.strip())
    try:
        value = json.loads(
            fenced["inside"] if fenced else text.strip(),
            object_pairs_hook=_object,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_refuse,
        )
        return _comparable(value)
    except (ValueError, RecursionError, InvalidOperation):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key given twice has no one meaning."""
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
    """One Unicode form: `é` may be one sign or two."""
    return unicodedata.normalize("NFC", text)


def _require_sequence(accepted: Sequence[str]) -> None:
    if isinstance(accepted, str):
        raise ConfigError(f"accepted must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
