"""What turns conversations into tokens and back: the interface, and what all renderers have in common."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve

from glowgenius.errors import NothingToTrainError, Problem, RenderingError
from glowgenius.rendering.example import RenderedExample
from glowgenius.rendering.train_on import TrainOn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.message import Conversation, Message
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import JSON, TokenArray

    Factory = Callable[[Tokenizer], "Renderer | None"]

_FACTORIES: list[Factory] = []
"""Tried in order by `Renderer.for_model`; filled by the package, so that this module knows no concrete renderer."""


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

    @abstractmethod
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn) -> RenderedExample:
        """The tokens and weights of *messages*, before the weight of the conversation.

        Raises:
            RenderingError: The messages cannot be expressed.
        """

    @abstractmethod
    def render_prompt(self, messages: Sequence[Message]) -> TokenArray:
        """The tokens `[T]` of *messages*, up to where the assistant starts to speak.

        Raises:
            RenderingError: The messages cannot be expressed.
        """

    @abstractmethod
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant's message in sampled *tokens*; the stop token and anything behind it is left out."""

    def render(self, conversation: Conversation, train_on: TrainOn = TrainOn.LAST_ASSISTANT_MESSAGE) -> RenderedExample:
        """The tokens of *conversation* and the loss weight of each.

        Args:
            conversation: Its `weight` multiplies the weight of every token.
            train_on: Which messages are trained.

        Raises:
            RenderingError: It cannot be expressed; the problem names the file and line it came from.
            NothingToTrainError: No token would carry loss.
        """
        train_on = TrainOn(train_on)
        try:
            example = self.render_messages(conversation.messages, train_on)
        except RenderingError as error:
            raise _located(error, conversation) from error.__cause__
        if conversation.weight != 1.0:
            example = RenderedExample(example.tokens, example.weights * np.float32(conversation.weight))
        if example.num_trained == 0:
            problem = _why_nothing_is_trained(conversation, train_on)
            raise _located(
                NothingToTrainError("no token of the conversation would be trained", [problem]), conversation
            )
        return example

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
