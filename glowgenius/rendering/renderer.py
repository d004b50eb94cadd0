"""`Renderer`, `RenderedExample`, and the choice of trained messages."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from datetime import date, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, assert_never, final

import numpy as np
from attrs import evolve, field, frozen
from typing_extensions import override

from glowgenius.data.message import as_conversation
from glowgenius.errors import ConfigError, NothingToTrainError, Problem, RenderingError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from glowgenius.data.message import Conversation, Message, Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import JSON, TokenArray, Tools, WeightArray

    Factory = Callable[[Tokenizer], "Renderer | None"]


def as_token_array(tokens: Any) -> TokenArray:
    """A read-only `[T]` copy of token ids; anything but a list of integers is refused."""
    given = np.asarray(tokens)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise RenderingError(f"tokens must be integers of shape [T], got {given.dtype} of shape {list(given.shape)}")
    array = given.astype(np.int64, copy=True)
    array.setflags(write=False)
    return array


def as_weight_array(weights: Any) -> WeightArray:
    """A read-only `[T]` copy of loss weights; negative and non-finite ones are refused."""
    given = np.asarray(weights)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biuf"):
        raise RenderingError(f"weights must be numbers of shape [T], got {given.dtype} of shape {list(given.shape)}")
    array = given.astype(np.float32, copy=True)
    if not bool(np.all(np.isfinite(array) & (array >= 0))):
        worst = int(np.argmin(np.isfinite(array) & (array >= 0)))
        raise RenderingError(f"weights must be finite and ≥ 0, got {given[worst]} at position {worst}")
    array.setflags(write=False)
    return array


@final
@frozen(eq=False)
class RenderedExample:
    """Tokens of a conversation and their loss weights; equal if tokens and weights are."""

    tokens: TokenArray = field(converter=as_token_array)
    """Token ids, `[T]`, read-only."""

    weights: WeightArray = field(converter=as_weight_array)
    """Loss weight of each token as a target, `[T]`, read-only; 0 is not trained."""

    def __attrs_post_init__(self) -> None:
        if len(self.tokens) != len(self.weights):
            raise RenderingError(
                f"tokens and weights must have the same length, got {len(self.tokens)} and {len(self.weights)}"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RenderedExample):
            return NotImplemented
        return bool(np.array_equal(self.tokens, other.tokens) and np.array_equal(self.weights, other.weights))

    @override
    def __hash__(self) -> int:
        return hash((self.tokens.tobytes(), self.weights.tobytes()))

    @property
    def num_trained(self) -> int:
        """Number of tokens that carry loss; never the first, because no context predicts it."""
        return int(np.count_nonzero(self.weights[1:]))


@final
class ExampleBuilder:
    """Builds tokens and weights together, so that the mask is never searched for afterwards."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._runs: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, tokens: Iterable[int], weight: float) -> None:
        """Append *tokens*, each with *weight*."""
        before = len(self._tokens)
        self._tokens.extend(tokens)
        self._runs.append((weight, len(self._tokens) - before))

    def build(self) -> RenderedExample:
        """The example so far; its first token is never trained, because no context predicts it."""
        weights = np.repeat([weight for weight, _ in self._runs], [number for _, number in self._runs])
        weights[:1] = 0
        return RenderedExample(np.array(self._tokens, dtype=np.int64), weights)


_ASSISTANT = "assistant"


class TrainOn(StrEnum):
    """Which tokens carry loss; the names and meanings are those of tinker-cookbook's `TrainOnWhat`.

    A trained message is its content together with the token that ends its turn.
    The header in front of it (`<|im_start|>assistant`) belongs to the prompt; only `ALL_TOKENS` trains it.
    A `weight` on a message multiplies whatever is chosen here.
    """

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    """The last message, which has to be the assistant's."""

    LAST_ASSISTANT_TURN = "last_assistant_turn"
    """Every assistant message after the last user message: tool calls and the reply they lead to."""

    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    """Every assistant message."""

    ALL_MESSAGES = "all_messages"
    """Every message, whoever speaks."""

    ALL_TOKENS = "all_tokens"
    """Every token, headers too; the first one never, because nothing comes before it to predict it from."""

    ALL_USER_AND_SYSTEM_MESSAGES = "all_user_and_system_messages"
    """Every user, system and developer message."""

    CUSTOMIZED = "customized"
    """The messages that say so by their own `weight`; a message without one is not trained."""

    @classmethod
    @override
    def _missing_(cls, value: object) -> TrainOn:
        known = [member.value for member in cls]
        hint = nearest(value, known) if isinstance(value, str) else ""
        choices = ", ".join(repr(word) for word in known)
        raise ConfigError(f"train_on must be one of {choices}, got {value!r}{hint}")


def message_weights(messages: Sequence[Message], train_on: TrainOn) -> list[float]:
    """Loss weight of each message: 0 if *train_on* excludes it, else its own `weight` or 1."""
    return [
        (1.0 if message.weight is None else message.weight) if chosen else 0.0
        for message, chosen in zip(messages, _chosen(messages, train_on), strict=True)
    ]


def _chosen(messages: Sequence[Message], train_on: TrainOn) -> list[bool]:
    """Whether *train_on* includes each message."""
    roles = [message.role for message in messages]
    match train_on:
        case TrainOn.LAST_ASSISTANT_MESSAGE:
            last = len(roles) - 1
            return [role == _ASSISTANT and index == last for index, role in enumerate(roles)]
        case TrainOn.LAST_ASSISTANT_TURN:
            last_user = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
            return [role == _ASSISTANT and index > last_user for index, role in enumerate(roles)]
        case TrainOn.ALL_ASSISTANT_MESSAGES:
            return [role == _ASSISTANT for role in roles]
        case TrainOn.ALL_MESSAGES | TrainOn.ALL_TOKENS:
            return [True] * len(roles)
        case TrainOn.ALL_USER_AND_SYSTEM_MESSAGES:
            return [role in ("user", "system", "developer") for role in roles]
        case TrainOn.CUSTOMIZED:
            return [message.weight is not None for message in messages]
        case _:
            assert_never(train_on)


_FACTORIES: list[Factory] = []
"""Tried in order by `Renderer.for_model`; filled by the package, so that this module knows no concrete renderer."""


_CHUNK: Final = 256
"""Conversations that are encoded at once."""


def offer(factory: Factory) -> None:
    """Register *factory* for `Renderer.for_model`, after those registered before; it returns None for other models."""
    _FACTORIES.append(factory)


def as_day(today: object) -> date:
    """*today*, if it is a date; else an error.

    Raises:
        ConfigError: It is none; a datetime would bring the hour along.
    """
    if not isinstance(today, date) or isinstance(today, datetime):
        raise ConfigError(f"today must be a datetime.date, got {today!r} ({type(today).__name__})")
    return today


def unrenderable(found: str, accepted: str, *, field: str | None = None) -> RenderingError:
    """The error for one conversation that cannot be rendered; `Renderer.render` adds file, line and id."""
    problem = Problem(found=found, accepted=accepted, field=field)
    return RenderingError("the conversation cannot be rendered", [problem])


class Renderer(ABC):
    """Renders messages to tokens with loss weights, and parses sampled tokens back to messages.

    The renderer of training is the renderer of sampling.
    Its laws: `render_prompt(messages[:-1])` is a prefix of the rendered conversation that ends in an assistant message,
    the token that ends that message carries weight, there is one BOS at most,
    and parsing the trained tokens gives the message back.
    """

    keeps_prompts: ClassVar[bool] = False
    """Whether it refuses by itself to train an answer behind other tokens than those of `render_prompt`.

    False lets a run compare the two in every row before it begins.
    """

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that encodes the text."""

    @property
    @abstractmethod
    def stop_sequences(self) -> tuple[int, ...] | tuple[str, ...]:
        """Stop token ids or stop strings for sampling, in the form of `SamplingParams.stop`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal of everything that decides the tokens: kind, template, vocabulary, settings."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line about the renderer for the header of a run."""

    @property
    def day(self) -> date | None:
        """The date written into prompts; None if they contain no date."""
        return None

    def on_day(self, day: date) -> Renderer:  # noqa: ARG002 - for those that write it
        """This renderer with the date *day*; the same object if no date is written or the user chose it."""
        return self

    @abstractmethod
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        """*messages* as one example, without the weight of the conversation.

        Args:
            messages: The conversation.
            train_on: Which of them are trained.
            tools: What the assistant may call, as in `Conversation.tools`.

        Raises:
            RenderingError: The messages cannot be expressed, or no one example trains them in the contexts of sampling.
        """

    @abstractmethod
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        """Tokens `[T]` of *messages* and *tools*, up to where the assistant's answer starts.

        A message may be a mapping such as `{"role": "user", "content": "Hi"}`.

        Raises:
            ConfigError: A message or a tool is none.
            RenderingError: The messages cannot be expressed.
        """

    @abstractmethod
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant message in sampled *tokens*, without the stop token and anything after it."""

    def holds_unread_call(self, message: Message) -> bool:  # noqa: ARG002 - for those that can tell
        """Whether the content of a parsed *message* contains a tool call that could not be parsed."""
        return False

    def split_messages(
        self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()
    ) -> tuple[RenderedExample, ...]:
        """Like `render_messages`, with as many examples as needed to train every turn in its sampling context.

        One, unless a renderer writes an earlier turn otherwise once later ones follow.

        Raises:
            RenderingError: The messages cannot be expressed.
        """
        return (self.render_messages(messages, train_on, *_given(tools)),)

    def split_all(
        self, conversations: Sequence[Conversation], train_on: TrainOn
    ) -> Iterator[tuple[RenderedExample, ...] | RenderingError]:
        """`split_messages` for each conversation, with errors as values; a renderer may process them in a batch."""
        for conversation in conversations:
            try:
                yield self.split_messages(conversation.messages, train_on, *_given(conversation.tools))
            except RenderingError as error:
                yield error

    def render(
        self, conversation: Conversation | Messages, train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE
    ) -> RenderedExample:
        """Tokens and loss weights of *conversation* as one example.

        Args:
            conversation: Its `weight` multiplies the weight of every token; also its messages alone.
            train_on: Which messages are trained.

        Raises:
            RenderingError: It cannot be expressed; the problem names the file and line it came from.
                Also where one example cannot train all its turns in the contexts in which they are sampled.
            NothingToTrainError: No token would carry loss.
        """
        train_on, conversation = TrainOn(train_on), as_conversation(conversation)
        try:
            example = self.render_messages(conversation.messages, train_on, *_given(conversation.tools))
        except RenderingError as error:
            raise _located(error, conversation) from error.__cause__
        return _result(_finished((example,), conversation, train_on))[0]

    def render_examples(
        self, conversation: Conversation | Messages, train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE
    ) -> tuple[RenderedExample, ...]:
        """Like `render`, with as many examples as needed to train every turn in its sampling context.

        That is one for most renderers. Thinking models drop the reasoning of earlier turns, so that no one text has
        every turn as it is sampled: then each example ends with a turn, and no message is trained in two of them.
        This is what the trainer trains on.

        Args:
            conversation: Its `weight` multiplies the weight of every token; also its messages alone.
            train_on: Which messages are trained.

        Returns:
            At least one example, those that end earlier first.

        Raises:
            RenderingError: It cannot be expressed; the problem names the file and line it came from.
            NothingToTrainError: No token would carry loss.
        """
        return _result(next(self.render_rows((as_conversation(conversation),), train_on)))

    def render_rows(
        self, conversations: Iterable[Conversation], train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE
    ) -> Iterator[tuple[RenderedExample, ...] | RenderingError]:
        """`render_examples` of each conversation, encoded in batches.

        Args:
            conversations: Taken a few hundred at a time, so they may be more than fit into memory.
            train_on: Which messages are trained.

        Yields:
            For each conversation its examples, or the error that `render_examples` would raise.
        """
        train_on = TrainOn(train_on)
        rows = iter(conversations)
        while chunk := list(islice(rows, _CHUNK)):
            found = self.split_all(chunk, train_on)
            for conversation, examples in zip(chunk, found, strict=True):
                yield _finished(examples, conversation, train_on)

    @staticmethod
    def for_model(name_or_directory: str, *, tokenizer: Tokenizer | None = None, today: date | None = None) -> Renderer:
        """The renderer of a model: its chat template if it has one, else `Question: …` and `Answer: …`.

        Args:
            name_or_directory: A hub name, a local directory or a name of the catalogue.
            tokenizer: Taken instead of the model's own.
            today: The date for chat templates that write today's into their prompts; others write the same on every
                day. None is the day on which the renderer is made; a run that is resumed goes on with its own.

        Raises:
            ConfigError: *today* is no date.
            ModelNotFoundError: There is no such model.
            RenderingError: No renderer can be built on the tokenizer, for example because it has no token to stop at.
        """
        if today is not None:
            as_day(today)
        if tokenizer is None:
            from glowgenius.models.hub import load_tokenizer

            tokenizer = load_tokenizer(name_or_directory)
        for factory in _FACTORIES:
            renderer = factory(tokenizer)
            if renderer is not None:
                return renderer if today is None else renderer.on_day(today)
        raise RenderingError(f"no renderer fits the tokenizer of {name_or_directory!r}; pass one as renderer=")


def _given(tools: Tools) -> tuple[Tools, ...]:
    """The `tools` argument, only if there are tools: a user's renderer may not accept it."""
    return (tools,) if tools else ()


def fingerprint_of(kind: str, tokenizer: Tokenizer, settings: Mapping[str, JSON]) -> str:
    """SHA-256 of a renderer's kind and settings and of its tokenizer's vocabulary and special tokens."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), separators=(",", ":"))
    content = {
        "kind": kind,
        "vocabulary": hashlib.sha256(vocabulary.encode("utf-8", "surrogatepass")).hexdigest(),
        "special_tokens": sorted(tokenizer.all_special_tokens),
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _finished(
    examples: tuple[RenderedExample, ...] | RenderingError, conversation: Conversation, train_on: TrainOn
) -> tuple[RenderedExample, ...] | RenderingError:
    """*examples* with the conversation's weight, or an error with its place."""
    if isinstance(examples, RenderingError):
        error = _located(examples, conversation)
        error.__cause__ = examples.__cause__
        return error
    if conversation.weight != 1.0:
        factor = np.float32(conversation.weight)
        examples = tuple(RenderedExample(example.tokens, example.weights * factor) for example in examples)
    trained = tuple(example for example in examples if example.num_trained)
    if not trained:
        problem = _why_nothing_is_trained(conversation, train_on)
        return _located(NothingToTrainError("no token of the conversation would be trained", [problem]), conversation)
    return trained


def _result(found: tuple[RenderedExample, ...] | RenderingError) -> tuple[RenderedExample, ...]:
    """The value, or raise it if it is an error."""
    if isinstance(found, RenderingError):
        raise found
    return found


def _located(error: RenderingError, conversation: Conversation) -> RenderingError:
    """*error* with the place of *conversation* added to each of its problems."""
    source = conversation.source
    place = (
        {"path": None, "line": None, "row": None}
        if source is None
        else {
            "path": source.path,
            "line": source.line,
            "row": source.row,
        }
    )
    problems = error.problems or (Problem(found=error.message, accepted="see the message"),)
    located = [evolve(problem, row_id=conversation.id, **place) for problem in problems]
    return type(error)(error.message, located)


def _why_nothing_is_trained(conversation: Conversation, train_on: TrainOn) -> Problem:
    """The reason why every weight is zero."""
    last = conversation.messages[-1].role
    match train_on:
        case TrainOn.LAST_ASSISTANT_MESSAGE if last != "assistant":
            found = f"the last message is from {last!r}"
            accepted = f"end with an assistant message, or train_on={TrainOn.ALL_ASSISTANT_MESSAGES.value!r}"
        case TrainOn.CUSTOMIZED:
            found = "no message has a weight above 0"
            accepted = "give the messages to train a weight"
        case _:
            found = f"train_on={train_on.value!r} and the messages' own weights leave nothing"
            accepted = "add a message that is trained, or choose another train_on"
    return Problem(found=found, accepted=accepted, field="messages")


_INLINE: Final = re.compile(r"\s*<(think|thinking)>(.*?)</\1>\s*(.*)", re.DOTALL)
_OPENED: Final = re.compile(r"\s*<(think|thinking)>")


def begins_with_reasoning(content: str) -> bool:
    """Whether an answer begins with `<think>`; later mentions do not count."""
    return "<think" in content and _OPENED.match(content) is not None


def match_results(messages: Sequence[Message]) -> Sequence[Message]:
    """*messages* with the call id added to every tool result, as far as it can be inferred.

    A result without an id answers the first open call, of its own name if it has one; so does every result where calls
    have no ids. It gets the id of its call, or its name where there is none. A result before any call stays as it is.

    Raises:
        RenderingError: A result answers a call that nobody made.
    """
    if not any(message.role == "tool" for message in messages):
        return messages
    made: list[Message] = []
    ids: set[str] = set()
    pending: list[Mapping[str, Any]] = []
    for index, message in enumerate(messages):
        if message.tool_calls:
            pending = list(message.tool_calls)
            ids |= {call["id"] for call in pending if "id" in call}
        made.append(_matched(index, message, ids, pending) if message.role == "tool" else message)
    return made


def _matched(index: int, result: Message, ids: set[str], pending: list[Mapping[str, Any]]) -> Message:
    """*result* with the id of its call, which is removed from *pending*."""
    answers = result.tool_call_id
    if answers in ids:
        pending[:] = [call for call in pending if call.get("id") != answers]
        return result
    if answers is not None and ids:
        raise unrenderable(
            f"no call before it has the id {answers!r}",
            f"the id of a call before it: {', '.join(map(repr, sorted(ids)))}",
            field=f"messages[{index}].tool_call_id",
        )
    fitting = (call for call in pending if result.name in (None, call["function"]["name"]))
    call = next(fitting, None)
    if call is None:
        return result
    pending.remove(call)
    if "id" in call:
        return evolve(result, tool_call_id=call["id"])
    return evolve(result, name=call["function"]["name"])


def split_reasoning(messages: Sequence[Message]) -> Sequence[Message]:
    """*messages* with leading `<think>` reasoning of assistant content moved to `reasoning_content`.

    White space around both parts goes: the template writes its own. What is only mentioned stays text.

    Raises:
        RenderingError: Reasoning begins and does not end, or stands there twice.
    """
    if not any("<think" in message.content for message in messages):
        return messages
    return [_split(index, message) for index, message in enumerate(messages)]


def _split(index: int, message: Message) -> Message:
    if message.role != "assistant" or not begins_with_reasoning(message.content):
        return message
    found = _INLINE.fullmatch(message.content)
    if found is None:
        raise unrenderable(
            "it begins with reasoning that does not end",
            "'</think>' and the answer behind it, or the reasoning as 'reasoning_content'",
            field=f"messages[{index}].content",
        )
    if message.reasoning_content is not None:
        raise unrenderable(
            "it begins with reasoning beside 'reasoning_content'", "one of the two", field=f"messages[{index}].content"
        )
    return evolve(message, reasoning_content=found[2].strip(), content=found[3])
