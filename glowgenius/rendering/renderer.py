"""What turns conversations into tokens and back: the interface, and what all renderers have in common."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from attrs import evolve

from glowgenius.errors import NothingToTrainError, Problem, RenderingError
from glowgenius.rendering.example import RenderedExample
from glowgenius.rendering.train_on import TrainOn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from glowgenius.data.message import Conversation, Message, Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import JSON, TokenArray, Tools

    Factory = Callable[[Tokenizer], "Renderer | None"]

_FACTORIES: list[Factory] = []
"""Tried in order by `Renderer.for_model`; filled by the package, so that this module knows no concrete renderer."""


_CHUNK: Final = 256
"""Conversations that are encoded at once."""


def offer(factory: Factory) -> None:
    """Let `Renderer.for_model` try *factory*, after those offered before it; it returns None to pass."""
    _FACTORIES.append(factory)


def unrenderable(found: str, accepted: str, *, field: str | None = None) -> RenderingError:
    """The error for one conversation, ready to be raised; `Renderer.render` adds file, line and id."""
    problem = Problem(found=found, accepted=accepted, field=field)
    return RenderingError("the conversation cannot be rendered", [problem])


class Renderer(ABC):
    """Turns conversations into tokens with loss weights, and sampled tokens back into messages.

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
        """The tokenizer behind the tokens."""

    @property
    @abstractmethod
    def stop_sequences(self) -> tuple[int, ...] | tuple[str, ...]:
        """Where sampling stops: token ids or strings, as `SamplingParams.stop` takes them."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A sha256 in hexadecimal of everything that decides the tokens: kind, template, vocabulary, settings."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What renders, in one line for the header of a run."""

    @property
    def day(self) -> date | None:
        """The day that is written into the prompts; None where they are the same on every day."""
        return None

    def on_day(self, day: date) -> Renderer:  # noqa: ARG002 - for those that write it
        """The same renderer on another *day*; itself where no day is written, or where its day was chosen."""
        return self

    @abstractmethod
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        """The tokens and weights of *messages* as one example, before the weight of the conversation.

        Args:
            messages: The conversation.
            train_on: Which of them are trained.
            tools: What the assistant may call, as in `Conversation.tools`.

        Raises:
            RenderingError: The messages cannot be expressed, or no one example trains them in the contexts of sampling.
        """

    @abstractmethod
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        """The tokens `[T]` of *messages* and *tools*, up to where the assistant starts to speak.

        A message may be a mapping such as `{"role": "user", "content": "Hi"}`.

        Raises:
            ConfigError: A message or a tool is none.
            RenderingError: The messages cannot be expressed.
        """

    @abstractmethod
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant's message in sampled *tokens*; the stop token and anything behind it is left out."""

    def holds_unread_call(self, message: Message) -> bool:  # noqa: ARG002 - for those that can tell
        """Whether the content of a *message* that `parse` gave holds a call that could not be read."""
        return False

    def split_messages(
        self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()
    ) -> tuple[RenderedExample, ...]:
        """As `render_messages`, in as many examples as it takes to train every turn in the context of sampling.

        One, unless a renderer writes an earlier turn otherwise once later ones follow.

        Raises:
            RenderingError: The messages cannot be expressed.
        """
        return (self.render_messages(messages, train_on, *_given(tools)),)

    def split_all(
        self, conversations: Sequence[Conversation], train_on: TrainOn
    ) -> Iterator[tuple[RenderedExample, ...] | RenderingError]:
        """`split_messages` of each conversation, with the error as a value; a renderer may work on all at once."""
        for conversation in conversations:
            try:
                yield self.split_messages(conversation.messages, train_on, *_given(conversation.tools))
            except RenderingError as error:
                yield error

    def render(self, conversation: Conversation, train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE) -> RenderedExample:
        """The tokens of *conversation* and the loss weight of each.

        Args:
            conversation: Its `weight` multiplies the weight of every token.
            train_on: Which messages are trained.

        Raises:
            RenderingError: It cannot be expressed; the problem names the file and line it came from.
                Also where one example cannot train all its turns in the contexts in which they are sampled.
            NothingToTrainError: No token would carry loss.
        """
        train_on = TrainOn(train_on)
        try:
            example = self.render_messages(conversation.messages, train_on, *_given(conversation.tools))
        except RenderingError as error:
            raise _located(error, conversation) from error.__cause__
        return _result(_finished((example,), conversation, train_on))[0]

    def render_examples(
        self, conversation: Conversation, train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE
    ) -> tuple[RenderedExample, ...]:
        """As `render`, in as many examples as it takes to train every turn in the context in which it is sampled.

        That is one for most renderers. Thinking models drop the reasoning of earlier turns, so that no one text has
        every turn as it is sampled: then each example ends with a turn, and no message is trained in two of them.
        This is what the trainer trains on.

        Args:
            conversation: Its `weight` multiplies the weight of every token.
            train_on: Which messages are trained.

        Returns:
            At least one example, those that end earlier first.

        Raises:
            RenderingError: It cannot be expressed; the problem names the file and line it came from.
            NothingToTrainError: No token would carry loss.
        """
        return _result(next(self.render_rows((conversation,), train_on)))

    def render_rows(
        self, conversations: Iterable[Conversation], train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE
    ) -> Iterator[tuple[RenderedExample, ...] | RenderingError]:
        """`render_examples` of one conversation after the other; many are encoded at once.

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
    def for_model(name_or_directory: str, *, tokenizer: Tokenizer | None = None) -> Renderer:
        """The renderer that fits a model: its chat template where it has one, else `Question: …` and `Answer: …`.

        Args:
            name_or_directory: A hub name, a local directory or a name of the catalogue.
            tokenizer: Taken instead of the model's own.

        Raises:
            ModelNotFoundError: There is no such model.
            RenderingError: No renderer can be built on the tokenizer, for example because it has no token to stop at.
        """
        if tokenizer is None:
            from glowgenius.models.hub import load_tokenizer

            tokenizer = load_tokenizer(name_or_directory)
        for factory in _FACTORIES:
            renderer = factory(tokenizer)
            if renderer is not None:
                return renderer
        raise RenderingError(f"no renderer fits the tokenizer of {name_or_directory!r}; pass one as renderer=")


def _given(tools: Tools) -> tuple[Tools, ...]:
    """The argument for *tools*, where there are any: a renderer of a user's may know none."""
    return (tools,) if tools else ()


def fingerprint_of(kind: str, tokenizer: Tokenizer, settings: Mapping[str, JSON]) -> str:
    """The sha256 of a renderer's kind and settings and of its tokenizer's vocabulary and special tokens."""
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
    """*examples* with the weight of their conversation, or an error that says where it stands."""
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
    """What was found, if it is no error."""
    if isinstance(found, RenderingError):
        raise found
    return found


def _located(error: RenderingError, conversation: Conversation) -> RenderingError:
    """*error* again, with the place of *conversation* in each of its problems."""
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
    """What left every weight at zero."""
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
