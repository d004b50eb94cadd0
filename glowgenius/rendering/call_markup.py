"""How a chat template writes tool calls, learnt from calls of our own, and the parser for what a model samples."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import evolve, frozen

from glowgenius.errors import ConfigError
from glowgenius.rendering.prefix import num_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.data.message import Message

    Write = Callable[[list[dict[str, Any]], str], str | None]

_NAME: Final = "glowgenius_tool"
_SECOND: Final = "glowgenius_gauge"
_KEYS: Final = ("glowgenius_key", "glowgenius_other")
_WORDS: Final[dict[str, Any]] = dict(zip(_KEYS, ("glowgenius value", "another GLOWGENIUS"), strict=True))
_NUMBERS: Final[dict[str, Any]] = dict(zip(_KEYS, (111222333, 444555666), strict=True))
_SAYS: Final = "glowgenius answers"
THINKS: Final = "glowgenius ponders"
"""The reasoning that `learn` is shown."""

_DECODER: Final = json.JSONDecoder()
_A_NAME: Final = r"[^\s<>\"'(){}\[\],|]+"


@final
@frozen(kw_only=True)
class CallMarkup:
    """Where the calls of a turn begin, how each is written, what stands between them and behind the last."""

    core: str
    """What stands right before the first name, or the first JSON object, whatever was said before; may be nothing."""

    before_core: str
    """What a template writes before `core` where a name stands there as well, as `to=` does."""

    lead: str
    """What it puts between content and `core`."""

    between: re.Pattern[str] | None
    """What stands between two calls; None where there is one call at most."""

    closing: str
    """What stands behind the last call."""

    form: _Form
    """How one call is written."""

    thought: tuple[str, str] | None = None
    """What stands around reasoning before a call, where that is otherwise than before an answer."""

    def read(self, text: str, plain: Callable[[str], Message]) -> Message | None:
        """The message in *text*, whose part before the calls *plain* reads; None where no calls can be read."""
        at = text.find(self.core) if self.core else 0
        if at < 0:
            return None
        calls: list[dict[str, Any]] = []
        end = at + len(self.core)
        while True:
            found = self.form.read(text, end)
            if found is None:
                return None
            call, end = found
            calls.append(call)
            again = None if self.between is None else self.between.match(text, end)
            if again is None:
                break
            end = again.end()
        rest = text[end:]
        if not rest.startswith(self.closing) and rest.strip() != self.closing.strip():
            return None
        behind = rest[len(self.closing) :] if rest.startswith(self.closing) else ""
        head = text[:at]
        if self.before_core:
            head = re.sub(re.escape(self.before_core) + _A_NAME + r"\Z", "", head)
        message = plain(head)
        if self.thought is not None and message.reasoning_content is None and head.startswith(self.thought[0]):
            inner, cut, said = head[len(self.thought[0]) :].partition(self.thought[1])
            message = evolve(message, reasoning_content=inner, content=said) if cut else message
        content = message.content.removesuffix(self.lead) if message.content.strip() else ""
        if behind.strip() and content:
            return None
        with suppress(ConfigError):
            return evolve(message, content=content or behind, tool_calls=[{"function": call} for call in calls])
        return None


@final
@frozen(kw_only=True)
class _Form:
    """How one call is written: as a JSON object, as a name and a JSON object, or as a name and pairs."""

    keys: tuple[str, str] | None = None
    """The names of name and arguments in a JSON object that holds both."""

    middle: str = ""
    """What stands between the name and a JSON object, or the first key."""

    pairs: _Pairs | None = None
    """How keys and values are written, where they are no JSON."""

    def read(self, text: str, at: int) -> tuple[dict[str, Any], int] | None:
        """The function that is called at place *at* of *text*, and the place behind it."""
        if self.keys is not None:
            found = _json_at(text, at)
            if found is None or not {*self.keys} <= {*found[0]}:
                return None
            value, end = found
            return {"name": value[self.keys[0]], "arguments": value[self.keys[1]]}, end
        named = re.compile(_A_NAME).match(text, at)
        if named is None:
            return None
        if self.pairs is None:
            if not text.startswith(self.middle, named.end()):
                return None
            found = _json_at(text, named.end() + len(self.middle))
            return None if found is None else ({"name": named.group(), "arguments": found[0]}, found[1])
        arguments = self.pairs.read(text, named.end(), self.middle.replace(_NAME, named.group()))
        return None if arguments is None else ({"name": named.group(), "arguments": arguments[0]}, arguments[1])


@final
@frozen(kw_only=True)
class _Pairs:
    """How keys and values are written."""

    colon: str
    """Between key and value."""

    comma: str
    """Between a value and the next key."""

    quotes: tuple[str, str]
    """Around a string; mostly nothing."""

    tail: str
    """Behind the last value."""

    empty: str
    """In the place of all of them where there are none."""

    escapes: bool
    """Whether quotes and line breaks within a string are escaped as in Python."""

    def read(self, text: str, at: int, opening: str) -> tuple[dict[str, Any], int] | None:
        """The arguments that begin at place *at* of *text* with *opening*, and the place behind them."""
        if not text.startswith(opening, at) or (self.empty.startswith(opening) and text.startswith(self.empty, at)):
            return ({}, at + len(self.empty)) if text.startswith(self.empty, at) else None
        arguments: dict[str, Any] = {}
        at += len(opening)
        while True:
            colon = text.find(self.colon, at)
            if colon < 0:
                return None
            key, at = text[at:colon], colon + len(self.colon)
            found = self._value(text, at)
            if found is None:
                return None
            arguments[key], at = found
            if not text.startswith(self.comma, at):
                return (arguments, at + len(self.tail)) if text.startswith(self.tail, at) else None
            at += len(self.comma)

    def _value(self, text: str, at: int) -> tuple[Any, int] | None:
        """The value at place *at*: the shortest stretch that is one and that a comma or the end follows."""
        opening, closing = self.quotes
        if opening and text.startswith(opening, at):
            start = at + len(opening)
            for found in re.finditer(re.escape(closing), text[start:]):
                end = start + found.end()
                if not text.startswith((self.comma, self.tail), end):
                    continue
                if not self.escapes:
                    return text[start : start + found.start()], end
                with suppress(ValueError, SyntaxError):
                    return ast.literal_eval(text[at:end]), end
            return None
        ends = sorted(
            found.start()
            for mark in {self.comma, self.tail}
            if mark
            for found in re.finditer(re.escape(mark), text[at:])
        )
        for end in ends:
            written = text[at : at + end]
            known, value = self._decoded(written)
            if known:
                return value, at + end
            if not opening:
                return written, at + end
        return None

    def _decoded(self, written: str) -> tuple[bool, Any]:
        """Whether *written* is a value other than a string, and which."""
        with suppress(ValueError):
            value = json.loads(written)
            return not isinstance(value, str), value
        if written in ("True", "False", "None") or (written[:1] in "[{" and self.quotes[0]):
            with suppress(ValueError, SyntaxError):
                return True, ast.literal_eval(written)
            opening, closing = map(re.escape, self.quotes)
            as_json = re.sub(
                f'{opening}(.*?){closing}|([{{,])([^\\s{{}}\\[\\],:"]+):',
                lambda found: f'{found[2]}"{found[3]}":' if found[2] else json.dumps(found[1]),
                written,
                flags=re.DOTALL,
            )
            with suppress(ValueError):
                return True, json.loads(as_json)
        return False, None


def learn(write: Write, thoughtful: str | None) -> CallMarkup | None:
    """How calls are written by *write*, which takes calls and content and gives what a model would sample.

    *thoughtful* is what it samples for the reasoning `THINKS` and one call, where reasoning is written there.

    None where it writes no calls, or in a way that cannot be read back.
    """
    one = write([_call(_NAME, _WORDS)], "")
    number = write([_call(_NAME, _NUMBERS)], "")
    if one is None or number is None:
        return None
    two = write([_call(_NAME, _NUMBERS), _call(_SECOND, _NUMBERS)], "")
    escaped = "it\\'s\\nso" in (write([_call(_NAME, {_KEYS[0]: "it's\nso"})], "") or "")
    found = _json_form(one) or _pair_form(one, number, write([_call(_NAME, {})], ""), two, escapes=escaped)
    if found is None:
        return None
    form, start, closing = found
    opening = one[:start]
    before, cut, core = opening.rpartition(_NAME)
    said = write([_call(_NAME, _WORDS)], _SAYS) or ""
    head = said.partition(_SAYS)[2]
    if not cut:
        core, before = opening, ""
        if head and (at := head.find(_NAME)) >= 0 and form.keys is None:
            core = _shared_end(opening, head[:at]) or opening
        elif head and form.keys is not None and (place := head.find("{")) >= 0:
            core = _shared_end(opening, head[:place]) or opening
    lead = head[: head.find(core)] if core and core in head else ""
    around, thinks, rest = (thoughtful or "").partition(THINKS)
    place = rest.find(before + _NAME + core if cut else core or "{")
    return CallMarkup(
        core=core,
        before_core=before,
        lead=lead,
        between=_between(form, two, start),
        closing=closing,
        form=form,
        thought=(around, rest[:place]) if thinks and place > 0 else None,
    )


EXAMPLE: Final = {"id": "callgg001", "function": {"name": _NAME, "arguments": _WORDS}}
"""A call for `thoughtful`."""


def _between(form: _Form, two: str | None, start: int) -> re.Pattern[str] | None:
    """What stands between two calls, of which the first begins at *start* of *two*; None where there is only one."""
    found = None if two is None or two.count(_SECOND) == 0 else form.read(two, start)
    if found is None or two is None:
        return None
    second = two.rfind("{", 0, two.find(_SECOND)) if form.keys is not None else two.rfind(_SECOND)
    return re.compile(re.escape(two[found[1] : second]).replace(_SECOND, _A_NAME))


def _json_form(one: str) -> tuple[_Form, int, str] | None:
    """The form of a call whose arguments are JSON, where it begins in *one*, and what stands behind it."""
    for place in (found.start() for found in re.finditer(r"\{", one)):
        value = _json_at(one, place)
        if value is None:
            continue
        given, end = value
        if given == _WORDS:
            start = one.rfind(_NAME, 0, place)
            return (_Form(middle=one[start + len(_NAME) : place]), start, one[end:]) if start >= 0 else None
        name = next((key for key, item in given.items() if item == _NAME), None)
        arguments = next((key for key, item in given.items() if item == _WORDS), None)
        if name is not None and arguments is not None:
            return _Form(keys=(name, arguments)), place, one[end:]
    return None


def _pair_form(
    one: str, number: str, none: str | None, two: str | None, *, escapes: bool
) -> tuple[_Form, int, str] | None:
    """As `_json_form`, of a call whose arguments are written as pairs."""
    words, figures = (_pieces(text, values) for text, values in ((one, _WORDS), (number, _NUMBERS)))
    if words is None or figures is None or none is None or _NAME not in none:
        return None
    start, middle, colon, comma, closing = figures
    quote, unquote = words[2].removeprefix(colon), words[3].removesuffix(comma)
    behind = none[none.rfind(_NAME) + len(_NAME) :]
    shared = _shared_end(closing, behind)
    tail, empty = closing.removesuffix(shared), behind.removesuffix(shared)
    if not tail and shared:
        # Nothing but what ends the call ends its last value: as much of it as stands between two calls as well.
        first = None if two is None else _pieces(two, _NUMBERS)
        ends = len(shared) if first is None else num_shared(shared, first[4])
        tail, empty, shared = shared[:ends], behind[: len(behind) - len(shared) + ends], shared[ends:]
    pairs = _Pairs(colon=colon, comma=comma, quotes=(quote, unquote), tail=tail, empty=empty, escapes=escapes)
    return _Form(middle=middle, pairs=pairs), start, shared


def _pieces(text: str, values: Mapping[str, Any]) -> tuple[int, str, str, str, str] | None:
    """Where the name begins, and what stands behind name, key, value and last value."""
    places: list[tuple[int, int]] = []
    at = text.find(_KEYS[0])
    name = text.rfind(_NAME, 0, at)
    if at < 0 or name < 0:
        return None
    for word in (_KEYS[0], str(values[_KEYS[0]]), _KEYS[1], str(values[_KEYS[1]])):
        at = text.find(word, at)
        if at < 0:
            return None
        places.append((at, at + len(word)))
        at += len(word)
    (key, key_end), (value, value_end), (other, other_end), (last, last_end) = places
    if text[key_end:value] != text[other_end:last][: len(text[key_end:value])]:
        return None
    return name, text[name + len(_NAME) : key], text[key_end:value], text[value_end:other], text[last_end:]


def _shared_end(one: str, other: str) -> str:
    """What both texts end with."""
    number = num_shared(one[::-1], other[::-1])
    return one[len(one) - number :]


def _json_at(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """The JSON object at place *at*, and the place behind it."""
    with suppress(ValueError, RecursionError):
        value, end = _DECODER.raw_decode(text, at)
        return (cast("dict[str, Any]", value), end) if isinstance(value, dict) else None
    return None


def _call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "callgg001" if name == _NAME else "callgg002", "function": {"name": name, "arguments": arguments}}
