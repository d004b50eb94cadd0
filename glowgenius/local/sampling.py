"""The local `SamplingClient`: requests that arrive together are generated together."""

from __future__ import annotations

import itertools
import math
import secrets
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from glowgenius.engines.datum import MOST_ALTERNATIVES, topk_of
from glowgenius.engines.sdk import sequence_name
from glowgenius.engines.tinker_types import EngineFuture, SampledSequence, SampleResponse, completed
from glowgenius.errors import RequestRejectedError
from glowgenius.local import checkpoint
from glowgenius.local.loss import load, score, top_logprobs
from glowgenius.local.native.decode import Memory, generate
from glowgenius.local.native.stream import Generated, Request, note
from glowgenius.local.packing import Row
from glowgenius.models.hub import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.engines.tinker_types import ModelInput, SamplingParams
    from glowgenius.local.adapter import Adapter
    from glowgenius.local.machine import Runtime
    from glowgenius.local.model import BaseModel
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import LogprobArray, TokenArray

_QUIET_SECONDS = 0.005
"""How long the queue must be quiet before a batch starts: requests submitted in a loop then share one batch."""


@final
class SamplingClient:
    """Samples from fixed weights: a snapshot of an adapter, or the base model as it is."""

    def __init__(self, runtime: Runtime, model: BaseModel, adapter: Adapter | None) -> None:
        self._runtime = runtime
        self._model = model
        self._adapter = adapter
        self._lock = threading.Lock()
        self._samples: list[tuple[Future[SampleResponse], list[Request], int]] = []
        self._scores: list[tuple[Future[list[float | None]], Row, int]] = []
        self._memory = Memory()
        self._ids = itertools.count()
        self._tokenizer: Tokenizer | None = None

    def get_base_model(self) -> str:
        """The name of the base model."""
        return self._model.name

    @property
    def context_length(self) -> int | None:
        """The most tokens that a prompt and its answer may have together; None where the config names no limit."""
        return self._model.max_length

    def get_tokenizer(self) -> Tokenizer:
        """The base model's tokenizer."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(str(self._model.directory))
        return self._tokenizer

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams,
        *,
        topk_prompt_logprobs: int = 0,
    ) -> EngineFuture[SampleResponse]:
        """Continue *prompt* *num_samples* times.

        A sequence ends with its stop token, which is part of it, or after `max_tokens`. `temperature=0` takes the most
        probable token. With a seed the answer is always the same; sample i of one request uses seed + i.
        With *topk_prompt_logprobs* the answer also has so many most probable tokens at each place of the prompt but
        the first, which nothing predicts.

        Raises:
            RequestRejectedError: The prompt or a parameter cannot be used.
        """
        tokens = self._prompt(prompt)
        requests = self._requests(tokens, num_samples, sampling_params)
        if not 0 <= topk_prompt_logprobs <= MOST_ALTERNATIVES:
            raise RequestRejectedError(
                f"topk_prompt_logprobs must be between 0 and {MOST_ALTERNATIVES}, got {topk_prompt_logprobs}"
            )
        future: Future[SampleResponse] = Future()
        with self._lock:
            self._samples.append((future, requests, topk_prompt_logprobs))
        self._runtime.worker.submit(self._flush)
        return EngineFuture(future)

    def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> EngineFuture[list[float | None]]:
        """Natural-log probability of each token of *prompt* given those before it, `[T]`.

        None stands at the first token, and at every token before the last *prompt_logprobs_last_n*.

        Raises:
            RequestRejectedError: The prompt cannot be used.
        """
        tokens = np.array(self._prompt(prompt), dtype=np.int64)
        known = len(tokens) - 1
        wanted = known if prompt_logprobs_last_n is None else prompt_logprobs_last_n
        if prompt_logprobs_last_n is not None and not 1 <= wanted <= known:
            raise RequestRejectedError(
                f"prompt_logprobs_last_n must be between 1 and {known}, the tokens of the prompt but the first, "
                f"got {prompt_logprobs_last_n}"
            )
        if not wanted:
            return completed([None])
        future: Future[list[float | None]] = Future()
        weights = np.zeros(known, np.float32)
        weights[known - wanted :] = 1
        with self._lock:
            self._scores.append((future, Row(inputs=tokens[:-1], targets=tokens[1:], weights=weights), wanted))
        self._runtime.worker.submit(self._flush)
        return EngineFuture(future)

    def _prompt(self, prompt: ModelInput) -> tuple[int, ...]:
        try:
            tokens = tuple(prompt.to_ints())
        except ValueError as error:
            raise RequestRejectedError("the prompt must hold text tokens only, got other chunks") from error
        if not tokens:
            raise RequestRejectedError("the prompt must hold at least one token, got none")
        size = self._model.vocabulary_size
        if outside := [token for token in tokens if not 0 <= token < size]:
            raise RequestRejectedError(
                f"the prompt holds token id {outside[0]}; {self._model.name!r} knows 0 to {size - 1}. "
                f"Was it encoded with another model's tokenizer?"
            )
        limit = self._model.max_length
        if limit is not None and len(tokens) > limit:
            raise RequestRejectedError(
                f"the prompt is {len(tokens)} tokens long; {self._model.name!r} was made for {limit} at most"
            )
        return tokens

    def _requests(self, prompt: tuple[int, ...], count: int, params: SamplingParams) -> list[Request]:
        room = (self._model.max_length or len(prompt) + 2048) - len(prompt)
        limit = room if params.max_tokens is None else params.max_tokens
        seed = secrets.randbits(62) if params.seed is None else params.seed
        wrong = [
            f"{name} must be {accepted}, got {value}"
            for name, accepted, value, good in (
                ("num_samples", "1 or more", count, count >= 1),
                ("max_tokens", "0 or more", limit, limit >= 0),
                ("temperature", "a finite number ≥ 0", params.temperature, 0 <= params.temperature < math.inf),
                ("top_k", "1 or more, or -1 for no limit", params.top_k, params.top_k >= 1 or params.top_k in {0, -1}),
                ("top_p", "above 0 and at most 1", params.top_p, 0 < params.top_p <= 1),
                ("seed", "0 or more, and below 2**63", seed, 0 <= seed < 2**63 - count),
            )
            if not good
        ]
        if wrong:
            raise RequestRejectedError("; ".join(wrong))
        tokens, texts = self._stops(params.stop)
        return [
            Request(
                prompt=prompt,
                max_tokens=min(limit, room),
                temperature=params.temperature,
                top_k=params.top_k,
                top_p=params.top_p,
                seed=seed + index,
                stop_tokens=tokens,
                stop_texts=texts,
            )
            for index in range(count)
        ]

    def _stops(self, stop: str | Sequence[str] | Sequence[int] | None) -> tuple[frozenset[int], tuple[str, ...]]:
        """Stop tokens and stop texts; nothing given means the tokenizer's end token, an empty list means none."""
        if stop is None:
            end = self.get_tokenizer().eos_token_id
            return frozenset(() if end is None else (end,)), ()
        several = [stop] if isinstance(stop, str) else stop
        texts = tuple(item for item in several if isinstance(item, str))
        if "" in texts:
            raise RequestRejectedError("stop must not hold an empty text: every answer would end with its first token")
        return frozenset(item for item in several if isinstance(item, int)), texts

    def _flush(self) -> None:
        """Do everything that has been asked for by now; the calls behind it in the queue then find nothing to do."""
        with self._lock:
            waiting = len(self._samples) + len(self._scores)
        while waiting:
            time.sleep(_QUIET_SECONDS)
            with self._lock:
                now = len(self._samples) + len(self._scores)
                if now == waiting:
                    samples, self._samples = self._samples, []
                    scores, self._scores = self._scores, []
                    break
            waiting = now
        else:
            return
        self._answer_scores(scores)
        self._answer_samples(samples)

    def _answer_scores(self, scores: list[tuple[Future[list[float | None]], Row, int]]) -> None:
        if not scores:
            return
        try:
            rows = [row for _, row, _ in scores]
            runtime = self._runtime
            _, logprobs = score(
                self._model,
                self._adapter,
                rows,
                max_tokens=runtime.max_tokens_per_pass,
                threads=runtime.threads,
                backward=False,
            )
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the result
            for future, _, _ in scores:
                future.set_exception(error)
            return
        for (future, row, wanted), values in zip(scores, logprobs, strict=True):
            unknown: list[float | None] = [None] * (len(row.inputs) + 1 - wanted)
            future.set_result(unknown + [float(value) for value in values[len(values) - wanted :]])

    def _answer_samples(self, samples: list[tuple[Future[SampleResponse], list[Request], int]]) -> None:
        if not samples:
            return
        runtime = self._runtime
        try:
            tops = self._tops([(several[0].prompt, k) for _, several, k in samples])
            known = [self._in(top, several) for (_, several, _), top in zip(samples, tops, strict=True)]
            rest = [several for (_, several, _), answers in zip(samples, known, strict=True) if not answers]
            generated = generate(
                self._model,
                self._adapter,
                [request for several in rest for request in several],
                batch_size=runtime.sampling_batch_size,
                decode=self._decode,
                max_tokens=runtime.max_tokens_per_pass,
                threads=runtime.threads,
                memory=self._memory,
            )
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the result
            for future, _, _ in samples:
                future.set_exception(error)
            return
        others = iter(generated)
        for (future, several, k), top, answers in zip(samples, tops, known, strict=True):
            sequences = [self._sequence(answer) for answer in answers or [next(others) for _ in several]]
            along = None if top is None else topk_of(top[0][:-1, :k], top[1][:-1, :k])
            future.set_result(SampleResponse(sequences=sequences, topk_prompt_logprobs_np=along))

    def _tops(self, asked: list[tuple[tuple[int, ...], int]]) -> list[tuple[TokenArray, LogprobArray] | None]:
        """The most probable tokens behind each token of each prompt, where some are asked for: ids and logprobs."""
        most = max((k for _, k in asked), default=0)
        if not most:
            return [None] * len(asked)
        rows: list[Row] = []
        for prompt, k in asked:
            tokens = np.array(prompt, dtype=np.int64)
            rows.append(Row(inputs=tokens, targets=tokens, weights=np.full(len(tokens), float(k > 0), np.float32)))
        runtime = self._runtime
        found = top_logprobs(
            self._model,
            self._adapter,
            rows,
            most,
            max_tokens=runtime.max_tokens_per_pass,
            threads=runtime.threads,
        )
        return [top if k else None for top, (_, k) in zip(found, asked, strict=True)]

    def _in(self, top: tuple[TokenArray, LogprobArray] | None, requests: Sequence[Request]) -> list[Generated]:
        """The answer to *requests* if *top* holds it: to one that wants the likeliest token and no other."""
        if top is None or len(requests) > 1 or requests[0].temperature > 0 or requests[0].max_tokens != 1:
            return []
        answer = Generated(request=requests[0], generator=torch.Generator())
        note(answer, int(top[0][-1, 0]), float(top[1][-1, 0]), self._decode)
        return [answer]

    def _decode(self, tokens: Sequence[int]) -> str:
        return self.get_tokenizer().decode(tokens)

    def _sequence(self, generated: Generated) -> SampledSequence:
        return SampledSequence(
            stop_reason="stop" if generated.stopped else "length",
            **sequence_name(f"local-{next(self._ids)}"),
            tokens_np=np.array(generated.tokens, dtype=np.int64),
            logprobs_np=np.array(generated.logprobs, dtype=np.float32),
        )


def from_checkpoint(runtime: Runtime, path: str, base: str | None = None) -> SamplingClient:
    """A client for the weights saved at *path*, on the base model they were trained on or on *base*.

    A folder in PEFT's format will do as well.

    Raises:
        CheckpointError: There is no checkpoint at *path*, or it does not fit the base model.
    """
    saved = checkpoint.read_adapter(path)
    model = load(base or saved.base_model, runtime.device, runtime.dtype)
    return SamplingClient(runtime, model, checkpoint.adapter_of(saved, model))
