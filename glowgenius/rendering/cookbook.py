"""Adapter for renderers of tinker-cookbook; imports neither tinker nor torch."""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
from collections import deque
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from attrs import evolve
from typing_extensions import override

from glowgenius.data.json_values import thaw
from glowgenius.data.message import Message, as_messages, as_tools
from glowgenius.errors import ConfigError, RenderingError
from glowgenius.rendering.call_markup import LossCheck
from glowgenius.rendering.renderer import (
    RenderedExample,
    Renderer,
    TrainOn,
    as_token_array,
    begins_with_reasoning,
    fingerprint_of,
    match_results,
    message_weights,
    split_reasoning,
    unrenderable,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from glowgenius.data.message import Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import TokenArray, Tools

_METHODS: Final = ("build_supervised_example", "build_generation_prompt", "get_stop_sequences", "parse_response")


_UNREAD_KEPT: Final = 1024
"""Texts of calls that could not be read, of which the latest are remembered."""


def as_renderer(renderer: object) -> Renderer:
    """*renderer* itself, or a cookbook renderer wrapped in a `Renderer`.

    Raises:
        ConfigError: It is neither; the message lists the methods that are missing.
    """
    if isinstance(renderer, Renderer):
        return renderer
    missing = [name for name in _METHODS if not callable(getattr(renderer, name, None))]
    if missing:
        kind = renderer.__name__ if isinstance(renderer, type) else type(renderer).__name__
        raise ConfigError(
            f"a renderer must be a glowgenius Renderer or have the four methods of a tinker-cookbook renderer, "
            f"got {kind} without {', '.join(missing)}"
        )
    if isinstance(renderer, type):
        raise ConfigError(
            f"a renderer must be an object, got the class {renderer.__name__}; build one with a tokenizer"
        )
    return CookbookRenderer(renderer)


@final
class CookbookRenderer(Renderer):
    """Wraps a renderer of tinker-cookbook; its tokens and weights are unchanged."""

    def __init__(self, renderer: Any) -> None:
        self._given = renderer
        self._unread: deque[str] = deque(maxlen=_UNREAD_KEPT)
        self._day: date | None = None
        if getattr(renderer, "use_system_prompt", False) and getattr(renderer, "current_date", "") is None:
            # The gpt-oss renderer writes the current date; here it stays the date on which it was wrapped.
            self._day = date.today()  # noqa: DTZ011 - the day where the user is, as there
            renderer = _on_day(renderer, self._day)
        self._renderer = renderer
        self._losses = LossCheck(self._write, by=type(renderer).__name__, spell=self._spell)

    @property
    @override
    def day(self) -> date | None:
        return self._day

    @override
    def on_day(self, day: date) -> CookbookRenderer:
        if self._day in (None, day):
            return self
        other = CookbookRenderer(self._given)
        other._day, other._renderer = day, _on_day(self._given, day)
        return other

    @property
    @override
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the wrapped renderer.

        Raises:
            ConfigError: It keeps none.
        """
        tokenizer: Tokenizer | None = getattr(self._renderer, "tokenizer", None)
        if tokenizer is None:
            raise ConfigError(f"{self._name} has no attribute 'tokenizer', which is needed to show tokens as text")
        return tokenizer

    @property
    @override
    def stop_sequences(self) -> tuple[int, ...] | tuple[str, ...]:
        return tuple(self._renderer.get_stop_sequences())

    @property
    @override
    def fingerprint(self) -> str:
        """A sha256 of the renderer's class, its stop sequences and the tokens of a short conversation.

        The settings of a foreign renderer cannot be listed, so what it does with a sample stands for them.
        """
        sample = [Message("system", "Be brief."), Message("user", "One?"), Message("assistant", "Two.")]
        turns = [*sample, Message("user", "Three?"), Message("assistant", "Four.")]
        rendered = self._rendered(turns, TrainOn.LAST_ASSISTANT_MESSAGE, ())
        settings: Mapping[str, Any] = {
            "class": f"{type(self._renderer).__module__}.{type(self._renderer).__qualname__}",
            "stop": list(self.stop_sequences),
            "tokens": rendered.tokens.tolist(),
            "weights": rendered.weights.tolist(),
            "prompt": self._prompt(turns[:-1], ()),
        }
        if getattr(self._renderer, "tokenizer", None) is None:
            return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()
        return fingerprint_of("CookbookRenderer", self.tokenizer, settings)

    @property
    @override
    def description(self) -> str:
        day = "" if self._day is None else f", writes the date {self._day.isoformat()} into every prompt"
        return f"{self._name} (a tinker-cookbook renderer{day})"

    @override
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        """The wrapped renderer's tokens and weights.

        A message's own weight becomes its `trainable` under `TrainOn.CUSTOMIZED`, where it has to be 0 or 1;
        under any other *train_on* the cookbook has no per-message weights, and one that is set is refused.
        """
        example = self._rendered(messages, train_on, tools)
        self._refuse_cut(messages, example.tokens.tolist())
        answers = {
            at
            for at, weight in enumerate(message_weights(messages, train_on))
            if weight and messages[at].role == "assistant"
        }
        self._refuse_lost(messages, tools, example.tokens.tolist(), answers)
        return example

    def _rendered(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools) -> RenderedExample:
        try:
            rows = self._rows(messages, train_on, tools)
            model_input, weights = self._renderer.build_supervised_example(rows, train_on_what=_train_on_what(train_on))
        except Exception as error:
            raise self._refusal(error) from error
        return RenderedExample(model_input.to_ints(), np.asarray(weights))

    def _refuse_lost(
        self, messages: Sequence[Message], tools: Tools, tokens: Sequence[int], answers: Container[int]
    ) -> None:
        """Refuse *tokens* that lack part of the conversation, if there is a tokenizer to decode them."""
        if getattr(self._renderer, "tokenizer", None) is not None:
            self._losses.refuse(messages, tools, self._text(tokens), answers)

    def _write(self, messages: Sequence[Message], tools: Tools) -> str:
        if messages[-1].role != "assistant":
            return self._text(self._prompt(messages, tools))
        plain = [evolve(message, weight=None) for message in messages]
        return self._text(self._rendered(plain, TrainOn.ALL_MESSAGES, tools).tokens.tolist())

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _spell(self, text: str) -> str:
        return self._text(self.tokenizer.encode(text, add_special_tokens=False))

    def _refuse_cut(self, messages: Sequence[Message], tokens: Sequence[int]) -> None:
        """Refuse an answer whose text contains the end-of-reasoning tag, if the wrapped renderer cuts it there."""
        for index, message in enumerate(messages):
            mentions = message.role == "assistant" and "</think>" in message.content
            if not mentions or begins_with_reasoning(message.content):
                continue
            if message.content not in self.tokenizer.decode(list(tokens), skip_special_tokens=False):
                raise unrenderable(
                    f"the text holds '</think>', at which {self._name} cuts it",
                    "write it differently, for example with a space inside",
                    field=f"messages[{index}].content",
                )

    @override
    def split_messages(
        self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()
    ) -> tuple[RenderedExample, ...]:
        """One example, or one per trained answer if the wrapped renderer rewrites earlier answers.

        The cookbook says which by `has_extension_property`, and splits with `build_supervised_examples`.
        Here that is done message by message, so that `TrainOn.CUSTOMIZED` can be split as well.

        Raises:
            RenderingError: It refuses the messages, or *train_on* trains earlier answers together with what is no
                answer, which cannot be divided.
        """
        weights = message_weights(messages, train_on)
        chosen = [index for index, weight in enumerate(weights) if weight]
        answers = [index for index in chosen if messages[index].role == "assistant"]
        whole = getattr(self._renderer, "has_extension_property", True) or not answers
        if whole or (len(chosen) == 1 and chosen[0] == len(messages) - 1):
            return (self.render_messages(messages, train_on, tools),)
        if train_on is TrainOn.ALL_TOKENS or len(answers) < len(chosen):
            raise unrenderable(
                f"{self._name} writes earlier answers otherwise once later messages follow, "
                f"and train_on={train_on.value!r} trains more than answers, so that it cannot be divided by turn",
                f"train_on={TrainOn.ALL_ASSISTANT_MESSAGES.value!r}",
                field="messages",
            )
        for index, message in enumerate(messages):
            _to_cookbook(index, message, train_on)  # refuses weights that a cookbook renderer cannot express
        plain = [evolve(message, weight=None) for message in messages]
        last = TrainOn.LAST_ASSISTANT_MESSAGE
        return tuple(self.render_messages(plain[: index + 1], last, tools) for index in answers)

    @override
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        messages, tools = as_messages(messages), as_tools(tools)
        tokens = self._prompt(messages, tools)
        self._refuse_lost(messages, tools, tokens, ())
        return as_token_array(tokens)

    def _prompt(self, messages: Sequence[Message], tools: Tools) -> list[int]:
        try:
            rows = self._rows(messages, None, tools)
            return [int(token) for token in as_token_array(self._renderer.build_generation_prompt(rows).to_ints())]
        except Exception as error:
            raise self._refusal(error) from error

    @override
    def parse(self, tokens: Sequence[int]) -> Message:
        """The wrapped renderer's own parse of *tokens*; thinking parts become `reasoning_content`."""
        message, _ = self._renderer.parse_response([int(token) for token in tokens])
        self._unread += [str(call.raw_text) for call in message.get("unparsed_tool_calls", ())]
        return _from_cookbook(message)

    @override
    def holds_unread_call(self, message: Message) -> bool:
        return any(raw in message.content for raw in self._unread)

    def _rows(self, messages: Sequence[Message], train_on: TrainOn | None, tools: Tools) -> list[dict[str, Any]]:
        """*messages* in the cookbook's form, preceded by the wrapped renderer's message about *tools*."""
        if any("<think" in message.content for message in messages) and self._thinks:
            messages = split_reasoning(messages)
        messages = match_results(messages)
        rows = [_to_cookbook(index, message, train_on) for index, message in enumerate(messages)]
        if not tools:
            return rows
        speaks = bool(rows) and rows[0]["role"] == "system"
        specs: list[Any] = [thaw(tool.get("function", tool)) for tool in tools]
        opening: Sequence[Mapping[str, Any]] = self._renderer.create_conversation_prefix_with_tools(
            specs, rows[0]["content"] if speaks else ""
        )
        trained = {"trainable": bool(speaks and rows[0]["trainable"])} if train_on is TrainOn.CUSTOMIZED else {}
        return [*({**row, **trained} for row in opening), *rows[speaks:]]

    @cached_property
    def _thinks(self) -> bool:
        """Whether the wrapped renderer represents reasoning as a separate part."""
        answer = [{"type": "thinking", "thinking": "glowgenius ponders"}, {"type": "text", "text": "So."}]
        rows = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": answer}]
        try:
            model_input, _ = self._renderer.build_supervised_example(rows)
        except Exception:  # noqa: BLE001 - whatever it raises for what it does not know
            return False
        return "glowgenius ponders" in self.tokenizer.decode(model_input.to_ints())

    @property
    def _name(self) -> str:
        return type(self._renderer).__name__

    def _refusal(self, error: Exception) -> RenderingError:
        if isinstance(error, RenderingError):
            return error
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return unrenderable(f"{self._name} refuses it: {reason}", "messages that it accepts", field="messages")


def _on_day(renderer: Any, day: date) -> Any:
    """A copy of *renderer* that writes the date *day*."""
    twin = copy.copy(renderer)
    twin.current_date = day.isoformat()
    return twin


def _train_on_what(train_on: TrainOn) -> Any:
    # The cookbook's enum is a StrEnum of the same words, so the plain word compares equal to its member
    # (its `match` compares with ==) and its package need not be imported.
    return train_on.value


def _to_cookbook(index: int, message: Message, train_on: TrainOn | None) -> dict[str, Any]:
    """*message* in the form of the cookbook's renderers."""
    row = message.to_dict()
    reasoning = row.pop("reasoning_content", None)
    if reasoning is not None:
        row["content"] = [{"type": "thinking", "thinking": reasoning}, {"type": "text", "text": message.content}]
    if message.tool_calls:
        row["tool_calls"] = _tool_calls(index, row["tool_calls"])
    if train_on is TrainOn.CUSTOMIZED:
        if message.weight not in (None, 0.0, 1.0):
            raise unrenderable(
                f"a tinker-cookbook renderer trains a message or does not, and cannot weigh it {message.weight}",
                "a weight of 0 or 1",
                field=f"messages[{index}].weight",
            )
        row["trainable"] = bool(message.weight)
    elif train_on is not None and message.weight not in (None, 1.0):
        raise unrenderable(
            f"a tinker-cookbook renderer knows no weight of a message (here {message.weight}) but with "
            f"train_on={TrainOn.CUSTOMIZED.value!r}",
            f"train_on={TrainOn.CUSTOMIZED.value!r}, or no weight",
            field=f"messages[{index}].weight",
        )
    return row


def _tool_calls(index: int, calls: Sequence[Any]) -> list[Any]:
    """The calls as the cookbook's own class, which is loaded whenever one of its renderers is."""
    try:
        kind: Any = importlib.import_module("tinker_cookbook.renderers").ToolCall
        return [kind.model_validate(_with_text(call)) for call in calls]
    except (ImportError, ValueError) as error:
        raise unrenderable(
            f"they cannot be handed to a tinker-cookbook renderer: {str(error).splitlines()[0]}",
            '{"id": …, "type": "function", "function": {"name": …, "arguments": a string of JSON}}',
            field=f"messages[{index}].tool_calls",
        ) from error


def _with_text(call: Mapping[str, Any]) -> dict[str, Any]:
    """*call* with its arguments as JSON text, as the cookbook requires."""
    function = call["function"]
    text = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _from_cookbook(message: Mapping[str, Any]) -> Message:
    """The cookbook's message as a `Message` mapping; calls it could not parse stay in the text."""
    content: Any = message["content"]
    parts: Sequence[Mapping[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "".join(str(part["text"]) for part in parts if part["type"] == "text")
    thoughts = [str(part["thinking"]) for part in parts if part["type"] == "thinking"]
    unread: Sequence[Any] = message.get("unparsed_tool_calls", ())
    calls: Sequence[Any] = message.get("tool_calls", ())
    if calls:
        text = text.rstrip("\n")  # the wrapped renderers write it before a call
    return Message(
        str(message["role"]),
        text + "".join(str(call.raw_text) for call in unread),
        reasoning_content="".join(thoughts) if thoughts else None,
        tool_calls=tuple(call.model_dump(exclude_none=True) for call in calls),
    )
