"""`Message` and `Conversation`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable as IterableABC
from collections.abc import Mapping
from collections.abc import Sequence as SequenceABC
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

from attrs import evolve, field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius._validators import is_number, number, one_of, optional, reject, text
from glowgenius.data.columns import Fault
from glowgenius.data.json_values import (
    MAX_INTEGER_BITS,
    NOTHING,
    FrozenMapping,
    as_list,
    as_mapping,
    describe,
    freeze,
    json_fault,
    thaw,
    unpaired_surrogate,
)
from glowgenius.data.message_fields import (
    CALL_ROLES,
    ROLES,
    SOME_TEXT,
    TOOL_ROLES,
    answer_text,
    calls_in_text,
    message_fields,
    read_call,
    read_tool,
    role_hint,
    text_fault,
)
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attrs import Attribute


def _string(owner: object, attribute: Attribute[Any], value: Any) -> None:
    """A string that can be written to a file; empty is allowed, since a model may answer with nothing."""
    if not isinstance(value, str):
        raise reject(owner, attribute.name, "a string", value)
    if half := unpaired_surrogate(value):
        raise reject(owner, attribute.name, f"text without half a character ({half})", value)


def _tuple_of(kind: type) -> Any:
    """A tuple whose items are all of *kind*."""

    def check(owner: object, attribute: Attribute[Any], value: Any) -> None:
        for item in value:
            if not isinstance(item, kind):
                raise reject(owner, attribute.name, f"a sequence of {kind.__name__}", item)
            if isinstance(item, str):
                text()(owner, attribute, item)

    return check


def _float(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return math.inf  # refused by the validator; float() would raise an OverflowError
    return float(value) if is_number(value) else value


def _frozen_json(value: Any) -> Any:
    if fault := json_fault(value):
        raise ConfigError(f"tools, tool calls and metadata hold JSON values only, got {fault}")
    return freeze(value)


def _frozen(field_name: str, read: Callable[[str, object], FrozenMapping | Fault], values: Any) -> Any:
    """*read* applied to each of *values*; the validator refuses anything but a list of them."""
    items = as_list(values)
    if items is None:
        raise ConfigError(f"{field_name} must be a list, got {describe(values)}")
    made: list[FrozenMapping] = []
    for position, item in enumerate(items):
        found = read(f"{field_name}[{position}]", item)
        if not isinstance(found, FrozenMapping):
            raise ConfigError(f"{found.field}: {found.found} → {found.accepted}")
        made.append(found)
    return tuple(made)


def _frozen_calls(calls: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    found: tuple[Mapping[str, Any], ...] = _frozen("Message.tool_calls", read_call, calls)
    return found


def _frozen_tools(tools: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    found: tuple[Mapping[str, Any], ...] = _frozen("Conversation.tools", read_tool, tools)
    return found


def _strings(values: str | Iterable[str]) -> tuple[str, ...]:
    # A bare string is one value: tuple("Bronx") would be five accepted answers.
    given: Any = values
    return (given,) if isinstance(given, str) or not isinstance(given, IterableABC) else tuple(values)


def _reasoning(value: str | None) -> str | None:
    """None for blank reasoning: templates would write an empty thinking block for it."""
    given: Any = value
    blank = isinstance(given, str) and not given.strip()
    return None if blank else value


def _messages(values: Messages) -> tuple[Message, ...]:
    return as_messages(values, "Conversation.messages")


def _arguments(values: Mapping[str, Any]) -> list[str]:
    """`name=value` of the fields that are set, for a short repr."""
    return [f"{name}={value!r}" for name, value in values.items()]


@final
@frozen(repr=False)
class Message:
    """One turn of a conversation."""

    role: str = field(validator=one_of(ROLES))
    """Who speaks: `system`, `developer`, `user`, `assistant` or `tool`."""

    content: str = field(validator=_string)
    """The text, exactly as it will be rendered; nothing strips or normalises it."""

    weight: float | None = field(default=None, converter=_float, validator=optional(number(at_least=0)))
    """Loss weight of this message for `TrainOn.CUSTOMIZED`; 0 is not trained, None leaves it to `TrainOn`."""

    reasoning_content: str | None = field(default=None, converter=_reasoning, validator=optional(_string))
    """What a thinking model wrote before its answer; blank text counts as none."""

    name: str | None = field(default=None, validator=optional(text()))
    """Which participant of this role speaks, or which tool answered."""

    tool_call_id: str | None = field(default=None, validator=optional(text()))
    """The call that a `tool` message answers."""

    tool_calls: tuple[Mapping[str, Any], ...] = field(
        default=(), converter=_frozen_calls, validator=_tuple_of(FrozenMapping)
    )
    """The calls that the assistant makes, in OpenAI's form: `{"id", "type", "function": {"name", "arguments"}}`.

    Arguments are given as an object or as JSON text, and kept as an object.
    """

    @override
    def __repr__(self) -> str:
        options = {key: value for key, value in self.to_record().items() if key not in ("role", "content")}
        return f"Message({', '.join([repr(self.role), repr(self.content), *_arguments(options)])})"

    def to_dict(self) -> dict[str, Any]:
        """The message in the form chat templates take: role, content and other set fields; never the weight."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning_content is not None:
            fields["reasoning_content"] = self.reasoning_content
        if self.name is not None:
            fields["name"] = self.name
        if self.tool_call_id is not None:
            fields["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            fields["tool_calls"] = thaw(self.tool_calls)
        return fields

    def to_record(self) -> dict[str, Any]:
        """The message as a data file stores it: `to_dict`, and the weight if there is one."""
        fields = self.to_dict()
        if self.weight is not None:
            fields["weight"] = self.weight
        return fields


if TYPE_CHECKING:
    Messages: TypeAlias = Iterable[Message | Mapping[str, Any]]
    """The turns of a conversation; a mapping is read as data files are: `{"role": "user", "content": "Hi"}`."""


def as_messages(values: Messages, name: str = "messages") -> tuple[Message, ...]:
    """*values* as messages; mappings such as `{"role": "user", "content": "Hi"}` are read as in data files.

    Args:
        values: Messages, or mappings with `role` and `content` and whatever else a message has.
        name: What the argument is called in an error.

    Raises:
        ConfigError: One is neither, or says what no message can say.
    """
    given: Any = values
    if isinstance(given, str | bytes | Mapping | Message) or not isinstance(given, IterableABC):
        found = cast("object", given)
        raise ConfigError(f"{name} must be a list of messages, got {describe(found)}")
    items: tuple[Any, ...] = tuple(given)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType] - untyped callers
    if all(isinstance(item, Message) for item in items):
        return items
    faults: list[Fault] = []
    read = [_as_message(f"{name}[{at}]", item, faults) for at, item in enumerate(items)]
    if faults:
        raise ConfigError("; ".join(f"{fault.field}: {fault.found} → {fault.accepted}" for fault in faults))
    return tuple(message for message in read if message is not None)


def as_conversation(value: object, name: str = "conversation") -> Conversation:
    """*value* as a conversation: one already, its messages, or `{"messages": […], "tools": […]}`.

    Raises:
        ConfigError: It is none of these; a row of columns is told how it is read.
    """
    if isinstance(value, Conversation):
        return value
    row = as_mapping(value)
    if row is not None and "messages" in row and set(row) <= {"messages", "tools"}:
        given: Any = row
        return Conversation(messages=as_messages(given["messages"], name), tools=as_tools(given.get("tools") or ()))
    if row is not None:
        raise ConfigError(
            f"{name} must be a Conversation or its messages, got {describe(row)}; a row of columns is read by "
            "Dataset.from_records([row])[0]"
        )
    said: Any = value
    return Conversation(messages=as_messages(said, name))


def require_rows(rows: object, name: str) -> None:
    """Refuse what is no data set and no sequence of conversations, with the way to make one.

    Raises:
        ConfigError: *rows* is a path, a row, or rows that were not read yet.
    """
    if isinstance(rows, SequenceABC) and not isinstance(rows, str | bytes):
        items = cast("Sequence[object]", rows)
        wrong = next((item for item in items if not isinstance(item, Conversation)), None)
        if wrong is None:
            return
        found = f"a {type(items).__name__} with {describe(wrong)} in it"
    else:
        found = "a path" if isinstance(rows, str | bytes | os.PathLike) else f"a {type(rows).__name__}"
    made = "from_file" if found == "a path" else "from_records"
    raise ConfigError(f"{name} must be a Dataset, got {found}; make one with Dataset.{made}(...)")


def as_tools(tools: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """*tools* in the library's normal form.

    Raises:
        ConfigError: One is no tool.
    """
    found: tuple[Mapping[str, Any], ...] = _frozen("tools", read_tool, tools)
    return found


def _as_message(field_name: str, value: Any, faults: list[Fault]) -> Message | None:
    if isinstance(value, Message):
        return value
    fields = message_fields(field_name, value, faults, may_be_blank=True)
    return None if fields is None else Message(**fields)


@final
@frozen
class Source:
    """Where a row was read from."""

    path: str
    """The file, as the user named it."""

    line: int | None
    """1-based line on which the row starts; None in files without lines, such as Parquet."""

    row: int
    """0-based position among the rows of the file."""

    @override
    def __str__(self) -> str:
        return showable(f"{self.path}, row {self.row}" if self.line is None else f"{self.path}:{self.line}")


@final
@frozen(kw_only=True, repr=False)
class Conversation:
    """One row of a data set: messages and metadata.

    A row of a `Dataset` always ends with the assistant's answer.
    A conversation by itself may end earlier, as the prompt of a question that nobody has answered.
    """

    messages: tuple[Message, ...] = field(converter=_messages, validator=_tuple_of(Message))
    """The turns, in order; at least one."""

    id: str | None = field(default=None, validator=optional(text()))
    """The row's own name, for error messages and results."""

    group: str | None = field(default=None, validator=optional(text()))
    """Rows of one group, such as the wordings of one fact, stay on one side of every split."""

    split: str | None = field(default=None, validator=optional(text()))
    """Which part of the data the author meant the row for, such as `train` or `test`; see `Dataset.splits`."""

    tags: tuple[str, ...] = field(default=(), converter=_strings, validator=_tuple_of(str))
    """Labels to filter and to report by."""

    references: tuple[str, ...] = field(default=(), converter=_strings, validator=_tuple_of(str))
    """Every answer that evaluation accepts; empty means only the answer itself."""

    tools: tuple[Mapping[str, Any], ...] = field(
        default=(), converter=_frozen_tools, validator=_tuple_of(FrozenMapping)
    )
    """The tools that the assistant may call, in OpenAI's form: `{"type": "function", "function": {"name", …}}`.

    A function alone and Anthropic's `input_schema` are taken too, and kept in this form.
    """

    weight: float = field(default=1.0, converter=_float, validator=number(above=0))
    """How much the row counts in the loss, relative to other rows."""

    metadata: Mapping[str, Any] = field(default=NOTHING, converter=_frozen_json)
    """Columns that mean nothing to the library, kept and written back; part of the fingerprint."""

    source: Source | None = field(default=None, eq=False)
    """Where the row was read; two rows with the same content are equal wherever they came from."""

    def __attrs_post_init__(self) -> None:
        if not self.messages:
            raise reject(self, "messages", "at least one message", self.messages)
        if not isinstance(self.metadata, FrozenMapping):
            raise reject(self, "metadata", "a mapping", self.metadata)

    @classmethod
    def from_question(
        cls,
        question: str,
        answer: str,
        *,
        system: str | None = None,
        id: str | None = None,  # noqa: A002 - the name of the column
        group: str | None = None,
        split: str | None = None,
        tags: Iterable[str] = (),
        references: Iterable[str] = (),
        weight: float = 1.0,
        metadata: Mapping[str, Any] = NOTHING,
    ) -> Conversation:
        """A conversation of one question and its answer, with an optional system message."""
        opening = [] if system is None else [Message("system", system)]
        return cls(
            messages=[*opening, Message("user", question), Message("assistant", answer)],
            id=id,
            group=group,
            split=split,
            tags=tags,
            references=references,
            weight=weight,
            metadata=metadata,
        )

    @override
    def __repr__(self) -> str:
        return f"Conversation({', '.join(_arguments({**self.to_record(), 'messages': self.messages}))})"

    def _last(self, role: str, before: int) -> int | None:
        """Position of the last message of *role* among the first *before* messages."""
        return next((i for i in range(before - 1, -1, -1) if self.messages[i].role == role), None)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages before the last assistant message; all messages if there is none."""
        return self.messages[: self._last("assistant", len(self.messages))]

    @property
    def question(self) -> str:
        """Text of the last user message of the prompt; empty if there is none."""
        position = self._last("user", len(self.prompt))
        return "" if position is None else self.messages[position].content

    @property
    def answer(self) -> str:
        """Text of the last assistant message; empty if there is none."""
        position = self._last("assistant", len(self.messages))
        return "" if position is None else self.messages[position].content

    @property
    def accepted_answers(self) -> tuple[str, ...]:
        """Answers that evaluation accepts: the references, else the answer, with one line of JSON per tool call."""
        if self.references:
            return self.references
        position = self._last("assistant", len(self.messages))
        return (self.answer,) if position is None else (answer_text(self.answer, self.messages[position].tool_calls),)

    def to_record(self) -> dict[str, Any]:
        """The row as `Dataset.to_jsonl` writes it; unset fields are left out, so new fields keep fingerprints."""
        record: dict[str, Any] = {"id": self.id, "group": self.group, "split": self.split}
        record = {column: value for column, value in record.items() if value is not None}
        record["messages"] = [message.to_record() for message in self.messages]
        if self.tools:
            record["tools"] = thaw(self.tools)
        if self.tags:
            record["tags"] = list(self.tags)
        if self.references:
            record["references"] = list(self.references)
        if self.weight != 1.0:
            record["weight"] = self.weight
        if self.metadata:
            record["metadata"] = thaw(self.metadata)
        return record


__all__ = ["SHAREGPT_ROLES", "SOME_TEXT", "blank_fault", "order_faults", "read_messages", "read_sharegpt", "text_fault"]

SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    **dict.fromkeys(("tool", *TOOL_ROLES), "tool"),
    **dict.fromkeys(CALL_ROLES, "assistant"),
}
"""What may stand in `from`, and the role that it becomes."""

_SPEAKERS = ("human", "gpt", "user", "assistant", "system", "tool")
"""Those that an error lists."""


def order_faults(field: str, turns: Sequence[Message]) -> list[Fault]:
    """Why these messages cannot be trained as a row: no answer, or the answer is not last."""
    if not turns:
        return [Fault(field, "an empty list", "at least a user's and an assistant's message")]
    if turns[-1].role == "assistant":
        return []
    if not any(turn.role == "assistant" for turn in turns):
        return [
            Fault(
                field,
                "no message of the assistant",
                "a last message with the role 'assistant', which is what is trained",
            )
        ]
    return [Fault(field, f"a last message of the {turns[-1].role}", "the assistant's answer as the last message")]


def blank_fault(field: str, message: Message) -> Fault | None:
    """The fault for an empty message where text is required.

    An empty system message is meant (many templates insert their own without it), and so is an empty tool result.
    """
    speaks = message.role in ("user", "assistant") and not message.tool_calls
    return text_fault(field, message.content, may_be_blank=not speaks)


def read_messages(field: str, value: object, faults: list[Fault]) -> tuple[Message, ...]:
    """Messages of a `messages` column; faults are appended to *faults*."""
    turns = as_list(value)
    if turns is None:
        faults.append(Fault(field, describe(value), "a list of messages with 'role' and 'content'"))
        return ()
    already = len(faults)
    messages = [_read_message(f"{field}[{position}]", turn, faults) for position, turn in enumerate(turns)]
    if len(faults) > already:
        return ()
    complete = _joined(messages, [_speaker(turn, "role") for turn in turns])
    faults.extend(order_faults(field, complete))
    return complete


def _speaker(turn: object, key: str) -> object:
    given = as_mapping(turn)
    return None if given is None else given.get(key)


def _joined(messages: Sequence[Message | None], speakers: Sequence[object]) -> tuple[Message, ...]:
    """*messages*, with a tool call in a turn of its own merged into the assistant message before it."""
    joined: list[Message] = []
    for message, speaker in zip(messages, speakers, strict=True):
        if message is None:
            continue
        if speaker in CALL_ROLES and joined and joined[-1].role == "assistant":
            joined[-1] = evolve(joined[-1], tool_calls=(*joined[-1].tool_calls, *message.tool_calls))
        else:
            joined.append(message)
    return tuple(joined)


def _read_message(field: str, turn: object, faults: list[Fault]) -> Message | None:
    if isinstance(turn, Message):
        fault = blank_fault(f"{field}.content", turn)
        faults.extend([fault] if fault else [])
        return turn
    fields = message_fields(field, turn, faults)
    return None if fields is None else Message(**fields)


def read_sharegpt(field: str, value: object, faults: list[Fault]) -> tuple[Message, ...]:
    """Messages of a `conversations` column; faults are appended to *faults*."""
    turns = as_list(value)
    if turns is None:
        faults.append(Fault(field, describe(value), "a list of turns with 'from' and 'value'"))
        return ()
    if turns and all({"role", "content"} <= {*(as_mapping(turn) or ())} for turn in turns):
        accepted = "'from' and 'value', or the name 'messages' for the column"
        faults.append(Fault(field, "turns with 'role' and 'content'", accepted))
        return ()
    already = len(faults)
    read = [_read_turn(f"{field}[{position}]", turn, faults) for position, turn in enumerate(turns)]
    if len(faults) > already:
        return ()
    messages = _joined(read, [_speaker(turn, "from") for turn in turns])
    faults.extend(order_faults(field, messages))
    return messages


def _read_turn(field: str, turn: object, faults: list[Fault]) -> Message | None:
    keys = as_mapping(turn)
    if keys is None:
        faults.append(Fault(field, describe(turn), "an object with 'from' and 'value'"))
        return None
    found = [
        Fault(f"{field}.{key}", "no such key of a turn", "'from' and 'value' only ('messages' can carry more)")
        for key, item in keys.items()
        if key not in ("from", "value") and item is not None
    ]
    speaker = keys.get("from")
    role = SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        said = describe(speaker) if "from" in keys else "missing"
        hint = role_hint(speaker, tuple(SHAREGPT_ROLES))
        found.append(Fault(f"{field}.from", said, f"one of {', '.join(_SPEAKERS)}{hint}"))
    fields: dict[str, Any] = {"role": role, "content": keys.get("value")}
    fault = text_fault(f"{field}.value", keys.get("value"), may_be_blank=role in ("system", "tool"))
    if fault:
        found.append(fault if "value" in keys else fault._replace(found="missing"))
    elif speaker in CALL_ROLES:
        calls = calls_in_text(f"{field}.value", keys["value"])
        fields = {"role": role, "content": "", "tool_calls": calls}
        found += [calls] if isinstance(calls, Fault) else []
    faults.extend(found)
    return None if found or role is None else Message(**fields)
