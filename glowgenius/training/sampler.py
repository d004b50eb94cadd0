"""`Sampler`: generated answers and log-probabilities for conversations, from any engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._validators import is_integer, is_number
from glowgenius.data.message import Conversation, Message, as_messages
from glowgenius.engines.datum import read_top
from glowgenius.engines.errors import mapped
from glowgenius.engines.keys import find_key
from glowgenius.engines.process import HomeProcess
from glowgenius.engines.sdk import adapted, sampler_from_handle, sampler_handle
from glowgenius.engines.tinker_types import ModelInput, SamplingParams
from glowgenius.errors import ConfigError, EngineError, Problem, SequenceTooLongError, nearest
from glowgenius.training.prices import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Never

    from glowgenius.batching.shift import ShiftedExample
    from glowgenius.data.trained import Trained
    from glowgenius.engines.protocol import FutureLike, SamplingClient
    from glowgenius.engines.tinker_types import SampleResponse, StopReason
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.typing import LogprobArray, TokenArray, Tools

    Prompt: TypeAlias = str | Sequence[Message | Mapping[str, Any]] | Conversation
    """A single question, the messages before the answer, or a conversation whose last answer is left out.

    A message may be a mapping: `{"role": "user", "content": "Hi"}`.
    """

    Stop: TypeAlias = str | int | Sequence[str | int]
    """Texts or token ids that end an answer."""

    OnProgress: TypeAlias = Callable[[int, int], None]
    """Called with the number of answers that have arrived, and the number asked for."""


_SETTINGS: Final = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop")

_ELSEWHERE: Final = {
    **dict.fromkeys(("max_new_tokens", "max_length", "max_completion_tokens", "max_output_tokens"), "max_tokens"),
    **dict.fromkeys(("stop_sequences", "stop_strings", "stop_words", "stop_token_ids", "eos_token_id"), "stop"),
    **dict.fromkeys(("do_sample", "greedy"), "temperature (0 takes the most probable token, 1 draws)"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("n", "num_samples", "num_return_sequences", "best_of"), "complete([prompt] * n, seed=…)"),
    **dict.fromkeys(("messages", "inputs", "input", "question"), "the first argument, without a name"),
    "tools": "a prompt of its own: Conversation(messages=…, tools=…)",
}
"""Names of other libraries → what the same is called here."""


@final
@frozen(kw_only=True)
class Completion:
    """One generated answer."""

    text: str
    """The answer, without the stop token."""

    tokens: tuple[int, ...]
    """The sampled tokens, with the stop token where there was one."""

    stop_reason: StopReason
    """`stop` where the model or a `stop` ended the answer, `length` where `max_tokens` cut it off."""

    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """The calls that the answer makes, as in `Message.tool_calls`."""

    reasoning_content: str | None = None
    """What the model wrote before its answer, where it thinks first."""

    unread_call: bool = False
    """Whether `text` holds the markup of a call that could not be read."""


@final
class Sampler:
    """Generates answers to conversations: a sampling client and the renderer its weights were trained with.

    All requests of a call are submitted before any is waited for, so that the engine can work on them together.
    One on Tinker can be pickled: the pickle holds no key, and the sampler connects again where it is first used, with
    the key that is found there. One of an engine in this process cannot. Copies share the client.

    Args:
        client: Where the tokens come from.
        renderer: Between messages and tokens; the one of the training run.
        name: What the model is called in tables and reports.
        trained: What it was trained on, so that an evaluation can tell; None where that is not known, or nothing.
        context_length: The most tokens that a prompt and its answer may have together, or a function that finds it out
            when it is first needed. None: what the client says, if it does.
    """

    def __init__(
        self,
        client: SamplingClient,
        renderer: Renderer,
        *,
        name: str = "model",
        trained: Trained | None = None,
        context_length: int | Callable[[], int | None] | None = None,
    ) -> None:
        self._context: int | Callable[[], int | None] | None = context_length
        self._trained = trained
        self._client: SamplingClient | str = adapted(client)
        self._renderer = renderer
        self._name = name
        self._home = HomeProcess()

    @override
    def __reduce__(self) -> Any:
        handle = self._client if isinstance(self._client, str) else sampler_handle(self._client)
        return _from_handle, (handle, self._renderer, self._name, self._trained, self.context_length)

    def __copy__(self) -> Sampler:
        return Sampler(
            self.client, self._renderer, name=self._name, trained=self._trained, context_length=self._context
        )

    def __deepcopy__(self, _memo: object) -> Sampler:
        return self.__copy__()

    @override
    def __repr__(self) -> str:
        return f"Sampler(name={self._name!r}, renderer={type(self._renderer).__name__})"

    @property
    def client(self) -> SamplingClient:
        """The sampling client, for requests that this class does not make.

        Raises:
            AuthenticationError: This sampler came out of a pickle, and there is no usable key here.
            EngineError: This is a fork of the process that made the sampler.
        """
        if isinstance(self._client, str):
            self._client = sampler_from_handle(self._client, find_key("Sampler", os.environ))
            self._home = HomeProcess()
        self._home.check(f"the Sampler {self._name!r}")
        return self._client

    @property
    def renderer(self) -> Renderer:
        """The renderer between messages and tokens."""
        return self._renderer

    @property
    def trained(self) -> Trained | None:
        """Hashes of the training rows; None if unknown or untrained."""
        return self._trained

    @property
    def name(self) -> str:
        """Name of the model in tables and reports."""
        return self._name

    @property
    def context_length(self) -> int | None:
        """The most tokens a prompt and its answer may have together; None if unknown.

        Raises:
            AuthenticationError: The service was asked for it, and refuses the key.
        """
        known = self._context
        if not isinstance(known, int | None):
            known = known()
        if known is None and not isinstance(self._client, str):
            told: Any = getattr(self._client, "context_length", None)
            known = told if is_integer(told) else None
        self._context = known
        return known

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = -1,
        seed: int | None = None,
        stop: Stop = (),
        **unknown: Never,
    ) -> str:
        """The answer to one prompt; the settings and errors are those of `complete`."""
        _refuse_unknown("generate", unknown)
        prompt_parts(prompt)  # raises if it is not a prompt
        completions = self.complete(
            [prompt], max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop
        )
        return completions[0].text

    async def generate_async(self, prompt: Prompt, **settings: Any) -> str:
        """Async version of `generate`; does not block the event loop."""
        return await asyncio.to_thread(self.generate, prompt, **settings)

    async def complete_async(self, prompts: Sequence[Prompt], **settings: Any) -> list[Completion]:
        """Async version of `complete`; does not block the event loop."""
        return await asyncio.to_thread(self.complete, prompts, **settings)

    def complete(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = -1,
        seed: int | None = None,
        stop: Stop = (),
        on_progress: OnProgress | None = None,
        **unknown: Never,
    ) -> list[Completion]:
        """One answer per prompt, in order.

        Args:
            prompts: Questions as text, messages up to where the assistant speaks, or conversations, of which the last
                answer is left out. A message may be a mapping such as `{"role": "user", "content": "Hi"}`.
            max_tokens: The longest answer, the stop token included.
            temperature: 0 takes the most probable token every time; 1 draws from the model's own probabilities.
            top_p: Draws from the smallest set of tokens that reaches this probability.
            top_k: Draws from this many tokens; -1 from all.
            seed: Makes draws repeatable; the prompt at place i is drawn with `seed + i`, so that equal prompts can get
                different answers.
            stop: Texts or token ids that end an answer, besides the stop tokens of the renderer. The answer is cut
                in front of the first one. Texts are looked for in the finished answer, so they save no tokens.
            on_progress: Called after each answer.
            unknown: Nothing; a setting of another library is answered with its name here.

        Raises:
            ConfigError: A setting is out of range, or a prompt is not one.
            RenderingError: A prompt cannot be rendered.
            SequenceTooLongError: A prompt and *max_tokens* are more than the model takes; nothing has been sent.
            EngineError: The engine refused or failed.
        """
        if isinstance(prompts, str):
            raise ConfigError(f"Sampler.complete takes a list of prompts, got one string {prompts!r}; use generate()")
        if isinstance(prompts, Conversation | Message | Mapping) or _is_prompt(prompts):
            raise ConfigError("Sampler.complete takes a list of prompts, got one prompt; use generate(), or [prompt]")
        _refuse_unknown("complete", unknown)
        _check_settings(max_tokens, temperature, top_p, top_k, seed)
        ends = _Stops.of(stop, self._renderer.stop_sequences)
        inputs = [self._prompt_input(prompt) for prompt in prompts]
        lengths = [each.length for each in inputs]
        self._refuse_long(prompts_over_context(prompts, lengths, self.context_length, max_tokens=max_tokens))
        futures: list[FutureLike[SampleResponse]] = []
        with mapped("sample"):
            for index, model_input in enumerate(inputs):
                params = SamplingParams(
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    top_k=top_k,
                    seed=None if seed is None else seed + index,
                    stop=list(ends.sent),
                )
                futures.append(self.client.sample(model_input, 1, params))
        completions: list[Completion] = []
        for index, future in enumerate(futures):
            with mapped(f"sample (prompt {index})"):
                sequence = future.result().sequences[0]
            completions.append(self._completion(list(sequence.tokens), sequence.stop_reason, ends))
            if on_progress is not None:
                on_progress(len(completions), len(futures))
        return completions

    def _completion(self, tokens: list[int], stop_reason: StopReason, ends: _Stops) -> Completion:
        """The answer in *tokens*, up to the first stop token or stop text."""
        at = next((place for place, token in enumerate(tokens) if token in ends.tokens), len(tokens))
        message = self._renderer.parse(tokens[:at])
        found = [place for text in ends.texts if (place := message.content.find(text)) >= 0]
        cut = min(found, default=None)
        return Completion(
            text=message.content[:cut],
            tokens=tuple(tokens),
            stop_reason="stop" if found or at < len(tokens) else stop_reason,
            tool_calls=() if found else message.tool_calls,
            reasoning_content=message.reasoning_content,
            unread_call=self._renderer.holds_unread_call(message),
        )

    def answer_logprobs(
        self, conversations: Sequence[Conversation], *, on_progress: OnProgress | None = None
    ) -> list[LogprobArray]:
        """Log-probability of each token of the given answers, stop token included.

        Args:
            conversations: Each ends with the answer to be scored.
            on_progress: Called after each conversation.

        Returns:
            For each conversation the natural-log probability of every token that training would count, `N × [T]`.

        Raises:
            RenderingError: A conversation cannot be rendered, or has no answer.
            SequenceTooLongError: A conversation has more tokens than the model takes; nothing has been sent.
            EngineError: The engine refused or failed.
        """
        examples = [self._renderer.render(conversation) for conversation in conversations]
        lengths = [len(example.tokens) for example in examples]
        self._refuse_long(prompts_over_context(conversations, lengths, self.context_length, max_tokens=None))
        # The first token has no context to be predicted from, so it never counts.
        trained = [np.flatnonzero(example.weights[1:]) + 1 for example in examples]
        futures: list[FutureLike[list[float | None]]] = []
        with mapped("compute_logprobs"):
            for example, positions in zip(examples, trained, strict=True):
                last_n = len(example.tokens) - int(positions[0])
                futures.append(self.client.compute_logprobs(self._model_input(example.tokens), last_n))
        rows: list[LogprobArray] = []
        for index, (future, positions) in enumerate(zip(futures, trained, strict=True)):
            with mapped(f"compute_logprobs (row {index})"):
                found = future.result()
            rows.append(_at_positions(found, positions.tolist(), len(examples[index].tokens), index))
            if on_progress is not None:
                on_progress(len(rows), len(futures))
        return rows

    def answer_nll(
        self, conversations: Sequence[Conversation], *, on_progress: OnProgress | None = None
    ) -> list[float]:
        """Mean negative log-likelihood of each answer, in nats per trained token; see `answer_logprobs`."""
        rows = self.answer_logprobs(conversations, on_progress=on_progress)
        return [-float(row.mean(dtype=np.float64)) for row in rows]

    def likeliest(self, examples: Sequence[ShiftedExample], k: int) -> list[tuple[TokenArray, LogprobArray]]:
        """The top-k tokens of the model at the position of every trained target.

        Args:
            examples: What is read.
            k: At most 20.

        Returns:
            For each example ids and natural-log probabilities, `[n, k]` each, the likeliest first.

        Raises:
            EngineError: The engine refused, failed, or left them out.
        """
        futures: list[FutureLike[SampleResponse]] = []
        one_token = SamplingParams(max_tokens=1, temperature=0.0)
        with mapped("sample (the likeliest tokens along a row)"):
            for example in examples:
                # The last target is appended to the prompt, so that its position has a distribution.
                whole = np.append(example.inputs, example.targets[-1])
                futures.append(self.client.sample(self._model_input(whole), 1, one_token, topk_prompt_logprobs=k))
        found: list[tuple[TokenArray, LogprobArray]] = []
        for index, (future, example) in enumerate(zip(futures, examples, strict=True)):
            with mapped(f"sample (the likeliest tokens along row {index})"):
                found.append(read_top(future.result(), np.flatnonzero(example.weights) + 1, k))
        return found

    def check_lengths(self, rows: Sequence[Conversation], *, max_tokens: int, scored: bool = False) -> None:
        """Refuse rows that exceed the context length, before any request; `evaluate` calls this.

        Args:
            rows: The questions, each with its answer.
            max_tokens: The longest answer.
            scored: Whether the given answers are read, too, as for `answer_logprobs`.

        Raises:
            RenderingError: A row cannot be rendered.
            SequenceTooLongError: A row is too long.
        """
        context = self.context_length
        problems = sampling_problems(self._renderer, rows, max_tokens=max_tokens, context=context)
        if scored and context is not None and not problems:
            lengths = [len(self._renderer.render(row).tokens) for row in rows]
            problems = prompts_over_context(rows, lengths, context, max_tokens=None)
        self._refuse_long(problems)

    def _refuse_long(self, problems: Sequence[Problem]) -> None:
        if problems:
            raise SequenceTooLongError(
                f"{self._name!r} takes {self.context_length:,} tokens, prompt and answer together; nothing was sent",
                problems,
            )

    def _prompt_input(self, prompt: Prompt) -> ModelInput:
        return self._model_input(prompt_tokens(self._renderer, prompt))

    def _model_input(self, tokens: Any) -> ModelInput:
        return ModelInput.from_ints(tokens.tolist())


@final
@frozen(kw_only=True)
class _Stops:
    """Stop tokens and stop texts of a request."""

    sent: tuple[Any, ...]
    """What the engine is told: token ids, or texts, as the renderer has them."""

    tokens: frozenset[int]
    """Token ids of the caller's."""

    texts: tuple[str, ...]
    """Texts of the caller's."""

    @classmethod
    def of(cls, given: Any, own: Sequence[Any]) -> _Stops:
        """*given* and the renderer's *own* stops combined; an engine takes ids or texts, never both."""
        items: list[Any] = [given] if isinstance(given, str | int) or given is None else list(given)
        items = [item for item in items if item is not None]
        for item in items:
            if not (bool(item) if isinstance(item, str) else is_integer(item) and item >= 0):
                raise ConfigError(
                    f"stop of a Sampler must be texts with something in them, or token ids, got {item!r} "
                    f"({type(item).__name__})"
                )
        texts = tuple(item for item in items if isinstance(item, str))
        tokens = [item for item in items if not isinstance(item, str)]
        added: list[Any] = list(texts if any(isinstance(stop, str) for stop in own) else tokens)
        sent = tuple(dict.fromkeys([*own, *added]))
        return cls(sent=sent, tokens=frozenset(tokens), texts=texts)


def _from_handle(
    handle: str, renderer: Renderer, name: str, trained: Trained | None, context_length: int | None = None
) -> Sampler:
    client = cast("SamplingClient", handle)
    return Sampler(client, renderer, name=name, trained=trained, context_length=context_length)


def prompts_over_context(
    prompts: Sequence[Prompt], lengths: Sequence[int], context: int | None, *, max_tokens: int | None
) -> list[Problem]:
    """Prompts that exceed the model's context together with their answer.

    Args:
        prompts: What is asked; a conversation names its place in its file.
        lengths: Tokens of each.
        context: The most tokens that prompt and answer may have together; None where that is not known.
        max_tokens: The longest answer; None where a given answer is among the tokens of its prompt.
    """
    if context is None:
        return []
    return [
        _too_long(index, prompt, length, context, max_tokens)
        for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        if length + (max_tokens or 0) > context
    ]


def _too_long(index: int, prompt: Prompt, length: int, context: int, max_tokens: int | None) -> Problem:
    row = prompt if isinstance(prompt, Conversation) else None
    source = None if row is None else row.source
    found, accepted = f"{length:,} tokens", f"at most {context:,}: shorten it"
    if max_tokens is not None:
        found = f"{length:,} tokens and an answer of up to {max_tokens:,} make {length + max_tokens:,}"
        accepted = f"{context:,} at most: " + (
            f"max_tokens={context - length}, or a shorter prompt"
            if length < context
            else f"a prompt of {context - max_tokens:,} at this max_tokens"
            if max_tokens < context
            else "a shorter prompt and a lower max_tokens"
        )
    return Problem(
        found=found,
        accepted=accepted,
        path=None if source is None else source.path,
        line=None if source is None else source.line,
        row=index,
        row_id=None if row is None else row.id,
    )


def sampling_problems(
    renderer: Renderer, prompts: Sequence[Prompt], *, max_tokens: int, context: int | None
) -> list[Problem]:
    """Prompts that `Sampler.complete` would refuse as too long, checked before training; for callbacks.

    Raises:
        ConfigError: A prompt is not one.
        RenderingError: A prompt cannot be rendered.
    """
    if context is None:
        return []
    lengths = [len(prompt_tokens(renderer, prompt)) for prompt in prompts]
    return prompts_over_context(prompts, lengths, context, max_tokens=max_tokens)


def sampling_usage(renderer: Renderer, prompts: Sequence[Prompt], *, max_tokens: int) -> TokenUsage:
    """The most tokens `Sampler.complete` reads and generates, for an estimate.

    Raises:
        ConfigError: A prompt is not one.
        RenderingError: A prompt cannot be rendered.
    """
    read = sum(len(prompt_tokens(renderer, prompt)) for prompt in prompts)
    return TokenUsage(prefilled=read, sampled=max_tokens * len(prompts))


def scoring_usage(renderer: Renderer, conversations: Sequence[Conversation]) -> TokenUsage:
    """Tokens `Sampler.answer_logprobs` reads, and the one sampled token each request needs, for an estimate.

    Raises:
        RenderingError: A conversation cannot be rendered.
    """
    read = sum(len(renderer.render(conversation).tokens) for conversation in conversations)
    return TokenUsage(prefilled=read, sampled=len(conversations))


def prompt_tokens(renderer: Renderer, prompt: Prompt) -> TokenArray:
    """Tokens sent for *prompt*, including its tools."""
    messages, tools = prompt_parts(prompt)
    # A user's renderer may not accept tools.
    return renderer.render_prompt(messages, tools) if tools else renderer.render_prompt(messages)


def prompt_parts(prompt: Any) -> tuple[Sequence[Message], Tools]:
    """Messages and tools of a prompt."""
    if isinstance(prompt, str):
        return (Message("user", prompt),), ()
    if isinstance(prompt, Conversation):
        return prompt.prompt, prompt.tools
    messages = as_messages(prompt, "a prompt")
    if not messages:
        raise ConfigError("a prompt is a string, a Conversation, or at least one message, got none")
    return messages, ()


def _is_prompt(prompts: Any) -> bool:
    """Whether *prompts* is a single prompt, given as its messages; untyped callers may pass anything."""
    items: list[Any] = [*prompts] if isinstance(prompts, list) else []  # pyright: ignore[reportUnknownVariableType] - as above
    return bool(items) and all(
        isinstance(item, Message) or (isinstance(item, Mapping) and "role" in item) for item in items
    )


def _refuse_unknown(method: str, unknown: Mapping[str, object]) -> None:
    for name in unknown:
        here = _ELSEWHERE.get(name)
        raise ConfigError(
            f"Sampler.{method} cannot take {name!r}: "
            + (
                f"it is called {here} here"
                if here in _SETTINGS
                else f"use {here}"
                if here
                else f"no such setting{nearest(name, _SETTINGS)}; the settings are {', '.join(_SETTINGS)}"
            )
        )


def _check_settings(max_tokens: Any, temperature: Any, top_p: Any, top_k: Any, seed: Any) -> None:
    checks = (
        ("max_tokens", max_tokens, "an integer ≥ 1", is_integer(max_tokens) and max_tokens >= 1),
        ("temperature", temperature, "a number ≥ 0", is_number(temperature) and temperature >= 0),
        ("top_p", top_p, "a number > 0 and ≤ 1", is_number(top_p) and 0 < top_p <= 1),
        ("top_k", top_k, "-1 or an integer ≥ 1", is_integer(top_k) and (top_k == -1 or top_k >= 1)),
        ("seed", seed, "None or an integer ≥ 0", seed is None or (is_integer(seed) and seed >= 0)),
    )
    for name, value, rule, fits in checks:
        if not fits:
            raise ConfigError(f"{name} of a Sampler must be {rule}, got {value!r} ({type(value).__name__})")


def _at_positions(found: Sequence[float | None], positions: list[int], length: int, index: int) -> LogprobArray:
    values = [found[position] for position in positions] if len(found) == length else [None]
    if None in values:
        raise EngineError(
            f"compute_logprobs (row {index}): the engine left out log-probabilities of the answer; it gave "
            f"{sum(value is not None for value in found)} for the last {length - positions[0]} of {length} tokens"
        )
    return np.array(values, dtype=np.float32)
