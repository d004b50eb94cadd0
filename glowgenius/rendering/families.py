"""`FamilyRenderer`: adapter for the package `renderers`, which has one hand-written renderer per model family."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any, Final, cast, final

import numpy as np
from typing_extensions import override

from glowgenius._lazy import require
from glowgenius.data.json_values import thaw
from glowgenius.data.message import Message, as_messages, as_tools
from glowgenius.errors import ConfigError, RenderingError, nearest
from glowgenius.rendering.call_markup import LossCheck
from glowgenius.rendering.encoder import ControlTokens, double_bos
from glowgenius.rendering.renderer import (
    RenderedExample,
    Renderer,
    TrainOn,
    as_token_array,
    begins_with_reasoning,
    fingerprint_of,
    match_results,
    message_weights,
    unrenderable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from glowgenius.data.message import Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import JSON, TokenArray, Tools

_NO_FAMILY: Final = ("auto", "custom", "default")
"""Names of `renderers` that stand for no family."""


_DAY: Final = "conversation_start_date"
"""The option of `renderers` that says which day is written into prompts."""


def _as_day(said: object) -> date | None:
    """The date in an option; None if it is another word, which is written as it is."""
    with suppress(TypeError, ValueError):
        return date.fromisoformat(str(said))
    return None


_UNREAD_KEPT: Final = 1024
"""Texts of calls that could not be read, of which the latest are remembered."""


def _library() -> ModuleType:
    return require("renderers", extra="families", purpose="a renderer of a model family")


def family_names() -> tuple[str, ...]:
    """Names of the supported model families, such as `qwen3` or `glm-4.5`.

    Raises:
        MissingDependencyError: The package `renderers` is not installed.
    """
    configs: Any = _library().configs
    found: list[Any] = [getattr(configs, name) for name in dir(configs)]
    kinds = [kind for kind in found if isinstance(kind, type) and kind.__module__ == configs.__name__]
    fields: list[Any] = [getattr(kind, "model_fields", {}).get("name") for kind in kinds]
    names = {str(field.default) for field in fields if field is not None}
    return tuple(sorted(name for name in names if name not in _NO_FAMILY and name.islower()))


@final
class FamilyRenderer(Renderer):
    """Wraps a renderer of the package `renderers`, which writes one model family's tokens without a template.

    For models whose chat template `ChatTemplateRenderer` refuses. It says of each token whether the model would sample
    it; those are trained. As everywhere, each answer is checked to follow the tokens that sampling starts from, and
    where earlier answers are written otherwise, `render_examples` makes an example of each.
    """

    def __init__(self, tokenizer: Tokenizer, family: str, **options: JSON) -> None:
        """Set up the renderer of a model family.

        Args:
            tokenizer: The tokenizer of a model of that family.
            family: One of `family_names()`, such as `"qwen3"`.
            options: Settings of that renderer, such as `enable_thinking=False`.

        Raises:
            ConfigError: There is no such family or option, or the tokenizer is none of that family.
            MissingDependencyError: The package `renderers` is not installed.
        """
        library: Any = _library()
        known = family_names()
        if family not in known:
            raise ConfigError(
                f"family must be one of {', '.join(map(repr, known))}, got {family!r}{_hint(family, known)}"
            )
        kind: Any = cast("Any", type(library.config_from_name(family)))
        fields: set[str] = {*kind.model_fields} - {"name"}
        for option in options:
            if option not in fields:
                listed = ", ".join(sorted(fields))
                raise ConfigError(
                    f"the family {family!r} has the options {listed}, not {option!r}{nearest(option, fields)}"
                )
        # gpt-oss writes the date into every prompt; here it stays the date on which the renderer was created.
        self._options = dict(options)
        self._unread: deque[str] = deque(maxlen=_UNREAD_KEPT)
        self._switches = "enable_thinking" in fields
        self._day: date | None = None
        if _DAY in fields:
            said = options.get(_DAY) or date.today().isoformat()  # noqa: DTZ011 - the day where the user is
            options[_DAY] = said
            self._day = _as_day(said)
        try:
            self._renderer: Any = library.create_renderer(tokenizer, kind(**options))
        except Exception as error:  # whatever that package raises: a token that is missing, a value that is none
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"the tokenizer or the options do not fit the family {family!r}: {reason}") from error
        self._tokenizer = tokenizer
        self._family = family
        self._settings: dict[str, Any] = {"family": family, "options": dict(options), "version": library.__version__}
        self._control = ControlTokens(tokenizer)
        self._stops = tuple(int(token) for token in self._renderer.get_stop_token_ids())
        self._losses = LossCheck(self._write, by=f"the renderer of the family {family!r}", spell=self._spell)

    @property
    @override
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    @override
    def stop_sequences(self) -> tuple[int, ...]:
        return self._stops

    @property
    @override
    def fingerprint(self) -> str:
        return fingerprint_of("FamilyRenderer", self._tokenizer, self._settings)

    @property
    @override
    def description(self) -> str:
        day = "" if self._day is None else f", writes the date {self._day.isoformat()} into every prompt"
        return f"family {self._family} (renderers {self._settings['version']}{day})"

    @property
    @override
    def day(self) -> date | None:
        return self._day

    @override
    def on_day(self, day: date) -> FamilyRenderer:
        if self._options.get(_DAY) or self._day in (None, day):
            return self
        return FamilyRenderer(self._tokenizer, self._family, **{**self._options, _DAY: day.isoformat()})

    @override
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        weights = message_weights(messages, train_on)
        example, rewritten = self._example(messages, weights, tools, whole=train_on is TrainOn.ALL_TOKENS)
        if rewritten:
            raise self._rewritten(messages, rewritten[0])
        return example

    @override
    def split_messages(
        self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()
    ) -> tuple[RenderedExample, ...]:
        weights = message_weights(messages, train_on)
        if train_on is TrainOn.ALL_TOKENS:
            return (self.render_messages(messages, train_on, tools),)
        examples: list[RenderedExample] = []
        while True:
            example, rewritten = self._example(messages, weights, tools, whole=False)
            examples.append(example)
            if not rewritten:
                return tuple(reversed(examples))
            last = rewritten[-1]
            if last == len(messages) - 1:
                raise self._rewritten(messages, last)
            messages = messages[: last + 1]
            weights = [weight if at in rewritten else 0.0 for at, weight in enumerate(weights[: last + 1])]

    @override
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        messages, tools = as_messages(messages), as_tools(tools)
        tokens = self._render(messages, tools, prompt=True).token_ids
        self._losses.refuse(messages, tools, self._text(tokens))
        return as_token_array(tokens)

    @override
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant message in sampled *tokens*; calls that cannot be parsed stay in the text."""
        ids = [int(token) for token in tokens]
        found: Any = self._renderer.parse_response(ids)
        # The package reports non-JSON strings as invalid, although arguments in tags are written that way.
        good = [call for call in found.tool_calls if call.name and isinstance(call.arguments, dict)]
        bad = [str(call.raw) for call in found.tool_calls if call not in good]
        self._unread += bad
        return Message(
            "assistant",
            found.content.removeprefix("\n") + "".join(bad),
            reasoning_content=(found.reasoning_content or "").removeprefix("\n") or None,
            tool_calls=tuple(
                {"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in good
            ),
        )

    @override
    def holds_unread_call(self, message: Message) -> bool:
        return any(raw and raw in message.content for raw in self._unread)

    def _example(
        self, messages: Sequence[Message], weights: Sequence[float], tools: Tools, *, whole: bool
    ) -> tuple[RenderedExample, list[int]]:
        """The example, and the trained messages it writes differently from sampling."""
        tokens, owners, sampled, content = self._columns(messages, tools)
        if double := double_bos(tokens, self._tokenizer):
            raise double
        trained = np.zeros(len(tokens))
        rewritten: list[int] = []
        for index, weight in enumerate(weights):
            if not weight:
                continue
            own = owners == index
            if messages[index].role == "assistant":
                span = self._answer(messages, index, tools, tokens, own, sampled)
                if span is None:
                    rewritten.append(index)
                    continue
                trained[own if whole else slice(*span)] = weight
            else:
                trained[own if whole else own & content] = weight
        answers = {at for at, weight in enumerate(weights) if weight and messages[at].role == "assistant"}
        self._losses.refuse(messages, tools, self._text(tokens), answers.difference(rewritten))
        trained[:1] = 0
        return RenderedExample(tokens, trained), rewritten

    def _answer(
        self, messages: Sequence[Message], index: int, tools: Tools, tokens: Sequence[int], own: Any, sampled: Any
    ) -> tuple[int, int] | None:
        """Token span of an answer, from the end of its prompt through its stop token.

        None where the tokens are not those that sampling would go through.
        """
        places = np.flatnonzero(own & sampled)
        end = int(places[-1]) + 1 if len(places) else 0
        if not end or tokens[end - 1] not in self._stops:
            raise unrenderable(
                f"the renderer of the family {self._family!r} does not end it with a token that stops it",
                "an answer that ends its turn, or do not train this one",
                field=f"messages[{index}]",
            )
        prompt = list(self._render(messages[:index], tools, prompt=True).token_ids)
        start = len(prompt)
        if list(tokens[:start]) != prompt or start >= end or not bool(np.all(own[start:end])):
            return None
        # Later messages must not have changed what the model would have written then.
        alone = tokens if index == len(messages) - 1 else self._columns(messages[: index + 1], tools)[0]
        return (start, end) if list(alone[:end]) == list(tokens[:end]) else None

    def _columns(self, messages: Sequence[Message], tools: Tools) -> tuple[list[int], Any, Any, Any]:
        """The tokens, and for each its message, whether it is sampled, and whether it is message content.

        Where a model stops by the header of the next turn (GLM does), a last answer has no stop token of its own.
        It gets the one that it has as soon as somebody answers.
        """
        rendered = self._render(messages, tools, prompt=False)
        tokens, *columns = _listed(rendered)
        owners, sampled, content = (np.array(column) for column in columns)
        last = len(messages) - 1
        own = np.flatnonzero((owners == last) & sampled)
        if messages[last].role == "assistant" and len(own) and tokens[int(own[-1])] not in self._stops:
            after = Message("tool", "…", name="…") if messages[last].tool_calls else Message("user", "…")
            longer = zip(*_listed(self._render([*messages, after], tools, prompt=False)), strict=True)
            for token, owner, is_sampled, _ in longer:
                if owner == last and is_sampled and token in self._stops:
                    place = int(own[-1]) + 1
                    tokens = [*tokens[:place], token]
                    owners, sampled, content = (
                        np.append(column[:place], value)
                        for column, value in ((owners, last), (sampled, True), (content, True))
                    )
                    break
        return tokens, owners, sampled, content

    def _render(self, messages: Sequence[Message], tools: Tools, *, prompt: bool) -> Any:
        if not messages:
            raise unrenderable(
                f"nothing comes before the assistant's first message, and the renderer of the family {self._family!r} "
                "cannot render nothing",
                "begin with a system or user message, or do not train the assistant's first message",
                field="messages[0]",
            )
        self._refuse_mention(messages)
        rows = [message.to_dict() for message in match_results(messages)]
        specs: Any = thaw(tuple(tools)) if tools else None
        self._refuse_control(rows, "messages")
        self._refuse_control(specs, "tools")
        try:
            return self._renderer.render(rows, tools=specs, add_generation_prompt=prompt)
        except Exception as error:  # whatever that package raises
            reason = f"{type(error).__name__}: {error}"
            raise unrenderable(
                f"the renderer of the family {self._family!r} refuses it: {reason}",
                "messages that it accepts",
                field="messages",
            ) from error

    def _rewritten(self, messages: Sequence[Message], index: int) -> RenderingError:
        """The error for an answer that does not continue its prompt."""
        accepted = "each turn as an example of its own, as render_examples() makes them"
        if index == len(messages) - 1:
            thinks = bool(messages[index].reasoning_content)
            accepted = (
                "answers without 'reasoning_content'" if thinks else "'reasoning_content' in every trained answer"
            )
            if self._switches:
                accepted += f", or FamilyRenderer(tokenizer, {self._family!r}, enable_thinking={thinks})"
        return unrenderable(
            f"the renderer of the family {self._family!r} does not write it as sampling would begin it",
            accepted,
            field=f"messages[{index}]",
        )

    def _write(self, messages: Sequence[Message], tools: Tools) -> str:
        return self._text(self._render(messages, tools, prompt=messages[-1].role != "assistant").token_ids)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _spell(self, text: str) -> str:
        return self._text(self._tokenizer.encode(text, add_special_tokens=False))

    def _refuse_mention(self, messages: Sequence[Message]) -> None:
        """Refuse an answer whose text contains the end-of-reasoning tag: these renderers cut it there."""
        for index, message in enumerate(messages):
            if message.role == "assistant" and "</think>" in message.content:
                if begins_with_reasoning(message.content):
                    continue
                raise unrenderable(
                    f"the text holds '</think>', at which the renderer of the family {self._family!r} may cut it",
                    "write it differently, for example with a space inside",
                    field=f"messages[{index}].content",
                )

    def _refuse_control(self, value: Any, name: str) -> None:
        """Refuse text that contains a control token, which these renderers would encode as one."""
        if isinstance(value, dict):
            for key, item in value.items():  # pyright: ignore[reportUnknownVariableType] - JSON
                self._refuse_control(item, f"{name}.{key}")
        elif isinstance(value, list):
            for at, item in enumerate(value):  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType] - JSON
                self._refuse_control(item, f"{name}[{at}]")
        elif isinstance(value, str) and (found := self._control.first_in(value)):
            raise unrenderable(
                f"the text holds {found[1]!r} at character {found[0]}, "
                f"which the renderer of the family {self._family!r} would encode as a control token",
                "write it differently, for example with a space inside",
                field=name,
            )


def _listed(rendered: Any) -> tuple[list[int], list[int], list[bool], list[bool]]:
    """For each token: its id, its message, whether it is sampled, whether it is message content."""
    columns = (rendered.token_ids, rendered.message_indices, rendered.sampled_mask, rendered.is_content)
    if len({len(column) for column in columns}) > 1:
        raise RenderingError(
            "this renderer does not say which tokens the model would sample, so nothing can be trained"
        )
    return columns


def _hint(family: object, known: Sequence[str]) -> str:
    return nearest(family, known) if isinstance(family, str) else ""
