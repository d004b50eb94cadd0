"""Scripts of the testing service: what it answers, draws and records."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import numpy as np
from attrs import frozen

from glowgenius._validators import is_integer, is_number
from glowgenius.engines.process import HomeProcess
from glowgenius.engines.tinker_types import EngineFuture, completed, failed
from glowgenius.errors import ConfigError, EngineError, RequestRejectedError, nearest
from glowgenius.testing.byte_tokenizer import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.engines.datum import DatumArrays
    from glowgenius.engines.tinker_types import AdamParams, SamplingParams, StopReason
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.testing.byte_tokenizer import Bigram, Table

    Answers: TypeAlias = Mapping[str, str] | Callable[[list[int], SamplingParams], Sequence[int]]
    """Answers by the question that the prompt ends with, or a function from prompt tokens to answer tokens."""

MAX_TOKENS = 128
"""How many tokens are drawn where `max_tokens` is None."""


def draw(
    script: Script, model: Bigram, prompt: list[int], params: SamplingParams, index: int
) -> tuple[list[int], StopReason]:
    """The tokens of sequence *index*, the stop included, and why they end.

    The script's answer where it has one, cut at `max_tokens`; else the bigram model is followed, the most probable
    token at temperature 0, and drawn at random otherwise: with one `seed`, the same tokens.
    """
    limit = MAX_TOKENS if params.max_tokens is None else params.max_tokens
    if limit < 1:
        raise RequestRejectedError(f"max_tokens must be an integer ≥ 1, got {limit!r}")
    scripted = script.answer(prompt, params, model)
    if scripted is not None:
        return scripted[:limit], "length" if len(scripted) > limit else "stop"
    # The model knows classes of tokens only: the class of a stop is that stop, so that a trained answer can end.
    stops = {stop % CLASSES: stop for stop in _stop_ids(script, params)}
    generator = np.random.default_rng(None if params.seed is None else (params.seed, index))
    tokens: list[int] = []
    last = prompt[-1]
    while len(tokens) < limit:
        last = _next_token(model.next_logprobs(np.array([last]))[0], params, generator)
        tokens.append(stops.get(last, last))
        if last in stops:
            return tokens, "stop"
    return tokens, "length"


def _stop_ids(script: Script, params: SamplingParams) -> set[int]:
    """The tokens that end a sequence, as ids: a bigram model stops at single tokens."""
    match params.stop:
        case None:
            eos = None if script.tokenizer is None else script.tokenizer.eos_token_id
            return set() if eos is None else {eos}
        case str() as text:
            stops: list[str | int] = [text]
        case listed:
            stops = list(listed)
    return {stop if isinstance(stop, int) else _single_token(script, stop) for stop in stops}


def _single_token(script: Script, stop: str) -> int:
    tokens = script.need_tokenizer("a stop given as text").encode(stop, add_special_tokens=False)
    if len(tokens) != 1:
        raise RequestRejectedError(
            f"without scripted answers, a stop must be a single token; {stop!r} is {len(tokens)} tokens"
        )
    return tokens[0]


def _next_token(logprobs: Table, params: SamplingParams, generator: np.random.Generator) -> int:
    if params.temperature == 0:
        return int(logprobs.argmax())
    order = np.argsort(-logprobs, kind="stable")
    scaled = logprobs[order] / params.temperature
    probabilities = np.exp(scaled - scaled.max())
    if params.top_k > 0:
        probabilities[params.top_k :] = 0
    probabilities /= probabilities.sum()
    # The smallest set of tokens whose probability reaches top_p: a token stays while those before it have not.
    probabilities[np.cumsum(probabilities) - probabilities >= params.top_p] = 0
    return int(generator.choice(order, p=probabilities / probabilities.sum()))


SERVICE_KINDS = (
    "create_lora_training_client",
    "create_training_client_from_state",
    "create_training_client_from_state_with_optimizer",
    "create_sampling_client",
    "close",
)
"""The operations of a service."""

TRAINING_KINDS = (
    "forward",
    "forward_backward",
    "optim_step",
    "save_state",
    "save_weights_for_sampler",
    "save_weights_and_get_sampling_client",
)
"""The ordered operations of a training client."""

SAMPLING_KINDS = ("sample", "compute_logprobs")
"""The operations of a sampling client."""

KINDS = (*SERVICE_KINDS, *TRAINING_KINDS, *SAMPLING_KINDS, "delete_checkpoint")
"""Every kind of operation, by the name of its method."""


@final
@frozen(kw_only=True)
class Operation:
    """One call, entered in the order in which the calls were made."""

    kind: str
    """The name of the method, one of `KINDS`."""

    client: str | None = None
    """The id of the training or sampling client; None for a call of the service."""

    sequence: int | None = None
    """1-based place in the order of this training client; None outside of it."""

    num_data: int | None = None
    """How many data the request held."""

    num_tokens: int | None = None
    """How many input tokens the request held."""

    weight_sum: float | None = None
    """The sum of all loss weights of the request."""

    fingerprint: str | None = None
    """sha256 over tokens, targets and weights of the request: two requests with one fingerprint are the same."""

    adam_params: AdamParams | None = None
    """What `optim_step` was given."""

    name: str | None = None
    """What a save was to be called, the base model of a new client, or the status of `close`."""

    path: str | None = None
    """The checkpoint that was written or read."""

    user_metadata: tuple[tuple[str, str], ...] = ()
    """What was stored with it, sorted by key."""

    error: str | None = None
    """The error that the script answered with; None where the script let it pass."""


def fingerprint(data: Sequence[DatumArrays]) -> str:
    """sha256 over all rows of a request, the same on every machine."""
    digest = hashlib.sha256()
    for datum in data:
        digest.update(len(datum.inputs).to_bytes(8, "little"))
        digest.update(datum.inputs.astype("<i8").tobytes())
        digest.update(datum.targets.astype("<i8").tobytes())
        digest.update(datum.weights.astype("<f4").tobytes())
    return digest.hexdigest()


def describe(data: Sequence[DatumArrays]) -> dict[str, int | float | str]:
    """The fields of an `Operation` that describe a request's data."""
    return {
        "num_data": len(data),
        "num_tokens": sum(len(datum.inputs) for datum in data),
        "weight_sum": float(sum(datum.weights.sum(dtype=np.float64) for datum in data)),
        "fingerprint": fingerprint(data),
    }


T = TypeVar("T")


@final
@frozen(kw_only=True, eq=False)
class Script:
    """The checked settings of a scripted service; see `ScriptedService` for what they mean."""

    answers: Answers | None
    """What trained weights say; None draws from the bigram model."""

    base_answers: Answers | None
    """What weights without an update say; None says the same."""

    tokenizer: Tokenizer | None
    """Between text and tokens, where answers are text."""

    loss: Callable[[int], float] | None
    """Nats per token after so many updates; None asks the bigram model."""

    fail_on: Mapping[str, Mapping[int, Exception]]
    """Errors by kind of operation and 1-based count of that kind."""

    models: frozenset[str] | None
    """The base models that exist; None means any name."""

    latency: float
    """Seconds that every operation takes."""

    supports_alpha: bool
    """Whether `alpha` is accepted."""

    context: int | None = None
    """The most tokens that a row or a prompt may have."""

    def __attrs_post_init__(self) -> None:
        if not is_number(self.latency) or self.latency < 0:
            raise ConfigError(f"ScriptedService: latency must be a number of seconds ≥ 0, got {self.latency!r}")
        if self.context is not None and not (is_integer(self.context) and self.context >= 1):
            raise ConfigError(f"ScriptedService: context must be None or an integer ≥ 1, got {self.context!r}")
        for name, answers in (("answers", self.answers), ("base_answers", self.base_answers)):
            if answers is not None and not callable(answers) and self.tokenizer is None:
                raise ConfigError(
                    f"ScriptedService: {name} are text, so a tokenizer is needed; pass tokenizer=ByteTokenizer(), or "
                    "the one that the prompts are made with"
                )
        for kind, errors in self.fail_on.items():
            if kind not in KINDS:
                raise ConfigError(
                    f"ScriptedService: fail_on has the unknown operation {kind!r}{nearest(kind, KINDS)}; "
                    f"there are: {', '.join(KINDS)}"
                )
            for count in errors:
                if not is_integer(count) or count < 1:
                    raise ConfigError(f"ScriptedService: fail_on[{kind!r}] counts calls from 1, got {count!r}")

    def answer(self, prompt: list[int], params: SamplingParams, model: Bigram) -> list[int] | None:
        """The scripted answer to *prompt*, or None where the model is to answer itself.

        Raises:
            RequestRejectedError: The answers are a mapping, and none of its questions is in the prompt.
        """
        answers = self.answers if self.base_answers is None or model.updates else self.base_answers
        if answers is None:
            return None
        if callable(answers):
            return list(answers(prompt, params))
        tokenizer = self.need_tokenizer("a scripted answer")
        text = _look_up(answers, tokenizer.decode(prompt, skip_special_tokens=False))
        return tokenizer.encode(text, add_special_tokens=False) + _stop_tokens(params, tokenizer)

    def check_length(self, what: str, tokens: int) -> None:
        """Refuse what is too long.

        Raises:
            RequestRejectedError: It has more tokens than a model takes.
        """
        if self.context is not None and tokens > self.context:
            raise RequestRejectedError(f"{what}: {tokens} tokens are too long, the model takes {self.context} at most")

    def need_tokenizer(self, purpose: str) -> Tokenizer:
        """The tokenizer of the script.

        Raises:
            RequestRejectedError: There is none.
        """
        if self.tokenizer is None:
            raise RequestRejectedError(f"{purpose} needs a tokenizer: ScriptedService(tokenizer=ByteTokenizer())")
        return self.tokenizer


def _look_up(answers: Mapping[str, str], prompt: str) -> str:
    # The question asked last decides, so that earlier turns and worked examples do not; of two that end together,
    # the longer one.
    asked = [(prompt.rfind(question) + len(question), len(question), question) for question in answers]
    found = [entry for entry in asked if entry[0] >= entry[1]]
    if not found:
        known = "\n".join(f"  {question!r}" for question in answers)
        raise RequestRejectedError(f"ScriptedService has no answer for the prompt {prompt!r}; it knows:\n{known}")
    return answers[max(found)[2]]


def _stop_tokens(params: SamplingParams, tokenizer: Tokenizer) -> list[int]:
    """What ends an answer: the first stop of the request, or the end-of-sequence token."""
    match params.stop:
        case None:
            return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        case str() as text:
            return tokenizer.encode(text, add_special_tokens=False)
        case stops:
            first = stops[0] if stops else ""
            return [first] if isinstance(first, int) else tokenizer.encode(first, add_special_tokens=False)


@final
class OrderedQueue:
    """Runs operations in submission order, and records them in a journal.

    Without latency an operation has run when its future is returned. With latency, one thread works through them.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._lock = threading.RLock()
        self._home = HomeProcess()
        self._journal: list[Operation] = []
        self._counts: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._closed = False
        self._worker = ThreadPoolExecutor(1, "scripted-service") if script.latency else None

    @property
    def journal(self) -> tuple[Operation, ...]:
        """Every operation so far."""
        with self._lock:
            return tuple(self._journal)

    def submit(self, kind: str, work: Callable[[], T], *, ordered: bool = False, **details: Any) -> EngineFuture[T]:
        """Enter an operation and run it when its turn comes; the script's error for it replaces its work.

        Args:
            kind: One of `KINDS`.
            work: What the operation does; it runs at most once.
            ordered: Whether it has a place in the order of its training client.
            details: The other fields of its `Operation`.

        Raises:
            EngineError: The service is closed, or this is a fork of the process that made it.
        """
        self._home.check(f"{kind}: this ScriptedService")
        with self._lock:
            if self._closed:
                raise EngineError(f"{kind}: this ScriptedService is closed; make a new one")
            self._counts[kind] += 1
            error = self._script.fail_on.get(kind, {}).get(self._counts[kind])
            if ordered:
                self._places[details["client"]] += 1
                details["sequence"] = self._places[details["client"]]
            described = None if error is None else f"{type(error).__name__}: {error}"
            self._journal.append(Operation(kind=kind, error=described, **details))
            if self._worker is None:
                return _run_now(work, error)
            return EngineFuture(self._worker.submit(_run_later, self._script.latency, work, error))

    def close(self, status: str) -> EngineFuture[None]:
        """Take no more operations; those submitted before still run."""
        future = self.submit("close", lambda: None, name=status)
        with self._lock:
            self._closed = True
        if self._worker is not None:
            self._worker.shutdown(wait=False)
        return future


def _run_now(work: Callable[[], T], error: Exception | None) -> EngineFuture[T]:
    if error is not None:
        return failed(error)
    try:
        return completed(work())
    except Exception as raised:  # noqa: BLE001 - every error of an operation is its future's
        return failed(raised)


def _run_later(latency: float, work: Callable[[], T], error: Exception | None) -> T:
    time.sleep(latency)
    if error is not None:
        raise error
    return work()
