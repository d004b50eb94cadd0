"""The training and sampling clients of a scripted service."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, final

import numpy as np
from attrs import frozen

from glowgenius.engines.datum import read_data
from glowgenius.engines.tinker_types import (
    AdamParams,
    ForwardBackwardOutput,
    GetInfoResponse,
    ModelData,
    OptimStepResponse,
    SampledSequence,
    SampleResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    TensorData,
)
from glowgenius.engines.top import topk_of
from glowgenius.errors import CheckpointError, RequestRejectedError, nearest
from glowgenius.testing.drawing import draw
from glowgenius.testing.journal import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from glowgenius.engines.datum import DatumArrays
    from glowgenius.engines.futures import EngineFuture
    from glowgenius.engines.tinker_types import Datum, LossFnType, ModelInput, SamplingParams, TopkLogprobs
    from glowgenius.testing.bigram import Bigram, Table
    from glowgenius.testing.script import OrderedQueue, Script
    from glowgenius.typing import TokenArray, WeightArray

T = TypeVar("T")

SHORTEST_TTL, LONGEST_TTL = 3600, 10 * 365 * 24 * 3600
"""Seconds that a checkpoint may be kept for, if not for ever."""


@final
@frozen(kw_only=True, eq=False)
class ScriptedCheckpoint:
    """What was saved under one path."""

    path: str
    """Where it is found again, `tinker://…`."""

    model: Bigram
    """The weights, and the optimizer's state where it was kept."""

    rank: int
    """The rank of the adapter."""

    resumable: bool
    """True for `save_state`, False for weights to sample from."""

    user_metadata: Mapping[str, str]
    """What the caller stored with it."""


@final
class Checkpoints:
    """Everything saved through one service, by path."""

    def __init__(self) -> None:
        self._saved: dict[str, ScriptedCheckpoint] = {}

    def all(self) -> dict[str, ScriptedCheckpoint]:
        """Every checkpoint, in the order in which they were saved."""
        return dict(self._saved)

    def save(self, checkpoint: ScriptedCheckpoint, *, overwrite: bool) -> None:
        """Keep *checkpoint*.

        Raises:
            RequestRejectedError: There is one of this path, and *overwrite* is False.
        """
        if checkpoint.path in self._saved and not overwrite:
            raise RequestRejectedError(
                f"there is a checkpoint {checkpoint.path!r} already; put the step into its name, or save a state with "
                "overwrite=True"
            )
        self._saved[checkpoint.path] = checkpoint

    def find(self, path: str, *, resumable: bool) -> ScriptedCheckpoint:
        """The checkpoint at *path*, for training on (*resumable*) or for sampling.

        Raises:
            CheckpointError: There is none, or it is of the other kind.
        """
        if path not in self._saved:
            known = ", ".join(map(repr, self._saved)) or "none"
            raise CheckpointError(f"there is no checkpoint {path!r}{nearest(path, self._saved)}; saved so far: {known}")
        checkpoint = self._saved[path]
        if resumable and not checkpoint.resumable:
            raise CheckpointError(
                f"{path!r} was written by save_weights_for_sampler and holds no optimizer state; training goes on from "
                "a save_state"
            )
        if checkpoint.resumable and not resumable:
            raise CheckpointError(
                f"{path!r} was written by save_state; sampling needs weights from save_weights_for_sampler"
            )
        return checkpoint

    def delete(self, path: str) -> None:
        """Forget the checkpoint at *path*.

        Raises:
            CheckpointError: There is none.
        """
        if self._saved.pop(path, None) is None:
            raise CheckpointError(f"there is no checkpoint {path!r}, so nothing was deleted")


@final
class ScriptedTrainingClient:
    """A training run of a scripted service; made by its `create_…` methods."""

    def __init__(
        self, *, queue: OrderedQueue, script: Script, checkpoints: Checkpoints, model: Bigram, model_id: str, rank: int
    ) -> None:
        self._queue = queue
        self._script = script
        self._checkpoints = checkpoints
        self._model = model
        self._model_id = model_id
        self._rank = rank
        self._gradient: Table | None = None

    @property
    def model_id(self) -> str:
        """The id of this run."""
        return self._model_id

    def get_info(self) -> GetInfoResponse:
        """Base model, rank and id of this run."""
        name = self._model.base_model
        return GetInfoResponse(
            model_data=ModelData(model_name=name),
            model_id=self._model_id,
            model_name=name,
            is_lora=True,
            lora_rank=self._rank,
        )

    def forward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> EngineFuture[ForwardBackwardOutput]:
        """The loss of *data* under the weights as they are now; changes nothing."""
        return self._run("forward", data, loss_fn, loss_fn_config, backward=False)

    def forward_backward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> EngineFuture[ForwardBackwardOutput]:
        """As `forward`, and the gradient is added to what has accumulated."""
        return self._run("forward_backward", data, loss_fn, loss_fn_config, backward=True)

    def _run(
        self,
        kind: str,
        data: list[Datum],
        loss_fn: LossFnType,
        loss_fn_config: Mapping[str, float | str] | None,
        *,
        backward: bool,
    ) -> EngineFuture[ForwardBackwardOutput]:
        # Read at once: the service also keeps what it was sent, whatever the caller does to the arrays afterwards.
        arrays = read_data(data, loss_fn)
        for index, one in enumerate(arrays):
            self._script.check_length(f"datum {index}", len(one.inputs))
        if loss_fn_config:
            raise RequestRejectedError(f"{kind}: cross_entropy has no settings, got loss_fn_config={loss_fn_config!r}")

        def work() -> ForwardBackwardOutput:
            output = self._output(arrays)
            if backward:
                gradient = self._model.gradient(*_joined(arrays))
                self._gradient = gradient if self._gradient is None else self._gradient + gradient
            return output

        return self._queue.submit(kind, work, ordered=True, client=self._model_id, **describe(arrays))

    def _output(self, arrays: list[DatumArrays]) -> ForwardBackwardOutput:
        rows = [self._logprobs(datum) for datum in arrays]
        # An infinite loss has no effect where nothing is trained.
        total = -sum(
            float((row[datum.weights != 0] * datum.weights[datum.weights != 0]).sum())
            for row, datum in zip(rows, arrays, strict=True)
        )
        outputs = [{"logprobs": TensorData.from_numpy(row.astype(np.float32))} for row in rows]
        return ForwardBackwardOutput(
            loss_fn_output_type="ArrayRecord", loss_fn_outputs=outputs, metrics={"loss:sum": total}
        )

    def _logprobs(self, datum: DatumArrays) -> npt.NDArray[np.float64]:
        if self._script.loss is None:
            inputs, targets, _ = _joined([datum])
            return self._model.logprobs(inputs, targets).reshape(datum.targets.shape)
        return np.full(datum.targets.shape, -float(self._script.loss(self._model.updates)))

    def optim_step(self, optim_params: AdamParams) -> EngineFuture[OptimStepResponse]:
        """One AdamW update with the accumulated gradient, which is then cleared."""

        def work() -> OptimStepResponse:
            gradient = np.zeros_like(self._model.parameters) if self._gradient is None else self._gradient
            self._model = self._model.step(gradient, optim_params)
            self._gradient = None
            return OptimStepResponse()

        return self._queue.submit("optim_step", work, ordered=True, client=self._model_id, adam_params=optim_params)

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> EngineFuture[SaveWeightsResponse]:
        """Keep weights and optimizer state under *name*."""
        path = self._path("weights", name, ttl_seconds)
        kept = dict(user_metadata or {})

        def work() -> SaveWeightsResponse:
            self._save(path, resumable=True, overwrite=overwrite, user_metadata=kept)
            return SaveWeightsResponse(path=path)

        return self._submit_save("save_state", work, name, path, kept)

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[SaveWeightsForSamplerResponse]:
        """Keep the weights alone under *name*, to sample from."""
        path = self._path("sampler_weights", name, ttl_seconds)
        kept = dict(user_metadata or {})

        def work() -> SaveWeightsForSamplerResponse:
            self._save(path, resumable=False, overwrite=False, user_metadata=kept)
            return SaveWeightsForSamplerResponse(path=path)

        return self._submit_save("save_weights_for_sampler", work, name, path, kept)

    def _submit_save(
        self, kind: str, work: Callable[[], T], name: str, path: str, user_metadata: dict[str, str]
    ) -> EngineFuture[T]:
        return self._queue.submit(
            kind,
            work,
            ordered=True,
            client=self._model_id,
            name=name,
            path=path,
            user_metadata=tuple(sorted(user_metadata.items())),
        )

    def _path(self, folder: str, name: str, ttl_seconds: int | None) -> str:
        if not name or "/" in name:
            raise RequestRejectedError(f"a checkpoint's name must be one non-empty segment without '/', got {name!r}")
        if ttl_seconds is not None and not SHORTEST_TTL <= ttl_seconds <= LONGEST_TTL:
            raise RequestRejectedError(
                f"ttl_seconds must be None or between {SHORTEST_TTL} (an hour) and {LONGEST_TTL} (ten years), got "
                f"{ttl_seconds!r}"
            )
        return f"tinker://{self._model_id}/{folder}/{name}"

    def _save(self, path: str, *, resumable: bool, overwrite: bool, user_metadata: dict[str, str]) -> None:
        checkpoint = ScriptedCheckpoint(
            path=path, model=self._model, rank=self._rank, resumable=resumable, user_metadata=user_metadata
        )
        self._checkpoints.save(checkpoint, overwrite=overwrite)

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> EngineFuture[ScriptedSamplingClient]:
        """A client that samples from the weights as they are now."""
        return self._queue.submit(
            "save_weights_and_get_sampling_client",
            lambda: ScriptedSamplingClient(queue=self._queue, script=self._script, model=self._model),
            ordered=True,
            client=self._model_id,
            name=name,
        )

    def create_sampling_client(self, model_path: str) -> EngineFuture[ScriptedSamplingClient]:
        """A client that samples from the saved weights at *model_path*."""
        return self._queue.submit(
            "create_sampling_client",
            lambda: ScriptedSamplingClient(
                queue=self._queue,
                script=self._script,
                model=self._checkpoints.find(model_path, resumable=False).model,
            ),
            client=self._model_id,
            path=model_path,
        )

    def delete_checkpoint(self, path: str) -> EngineFuture[None]:
        """Forget the saved state or weights at *path*."""
        return self._queue.submit(
            "delete_checkpoint", lambda: self._checkpoints.delete(path), client=self._model_id, path=path
        )


def _joined(arrays: list[DatumArrays]) -> tuple[TokenArray, TokenArray, WeightArray]:
    """Input, target and weight of every target; an input stands as often as it has targets."""
    return (
        np.concatenate([np.repeat(datum.inputs, datum.targets[:1].size) for datum in arrays]),
        np.concatenate([datum.targets.reshape(-1) for datum in arrays]),
        np.concatenate([datum.weights.reshape(-1) for datum in arrays]),
    )


@final
class ScriptedSamplingClient:
    """Answers from the script, or from the bigram model where the script has no answers."""

    def __init__(self, *, queue: OrderedQueue, script: Script, model: Bigram) -> None:
        self._queue = queue
        self._script = script
        self._model = model

    @property
    def updates(self) -> int:
        """How many updates the weights have had: 0 for the base model."""
        return self._model.updates

    def get_base_model(self) -> str:
        """The name of the base model."""
        return self._model.base_model

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams,
        *,
        topk_prompt_logprobs: int = 0,
    ) -> EngineFuture[SampleResponse]:
        """Continue *prompt* *num_samples* times; with *topk_prompt_logprobs*, say what else was likely along it."""
        tokens = _prompt_tokens(prompt)
        self._script.check_length("the prompt", len(tokens))
        if num_samples < 1:
            raise RequestRejectedError(f"num_samples must be an integer ≥ 1, got {num_samples!r}")

        def work() -> SampleResponse:
            return SampleResponse(
                sequences=[self._sequence(tokens, sampling_params, index) for index in range(num_samples)],
                topk_prompt_logprobs_np=self._top(tokens, topk_prompt_logprobs) if topk_prompt_logprobs else None,
            )

        return self._queue.submit("sample", work, client=self._name, num_data=num_samples, num_tokens=len(tokens))

    def _sequence(self, prompt: list[int], params: SamplingParams, index: int) -> SampledSequence:
        sampled, stop_reason = draw(self._script, self._model, prompt, params, index)
        whole = np.array([*prompt, *sampled], dtype=np.int64)
        logprobs = self._model.logprobs(whole[:-1], whole[1:])[len(prompt) - 1 :]
        return SampledSequence(
            stop_reason=stop_reason,
            sequence_id=f"{self._name}:{index}",
            tokens_np=np.array(sampled, dtype=np.int32),
            logprobs_np=logprobs.astype(np.float32),
        )

    def _top(self, tokens: list[int], k: int) -> TopkLogprobs:
        known = self._model.next_logprobs(np.array(tokens[:-1], dtype=np.int64))
        ids = np.argsort(-known, axis=1, kind="stable")[:, :k]
        return topk_of(ids, np.take_along_axis(known, ids, axis=1).astype(np.float32))

    def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> EngineFuture[list[float | None]]:
        """Natural-log probability of each token of *prompt*; None at the first, and before the last n."""
        tokens = _prompt_tokens(prompt)
        self._script.check_length("the prompt", len(tokens))
        last = len(tokens) - 1 if prompt_logprobs_last_n is None else prompt_logprobs_last_n
        if prompt_logprobs_last_n is not None and not 1 <= last < len(tokens):
            raise RequestRejectedError(
                f"prompt_logprobs_last_n must be between 1 and {len(tokens) - 1} for a prompt of {len(tokens)} tokens, "
                f"got {prompt_logprobs_last_n!r}"
            )

        def work() -> list[float | None]:
            array = np.array(tokens, dtype=np.int64)
            known = [float(value) for value in self._prompt_logprobs(array)]
            return [None] * (len(tokens) - last) + known[len(known) - last :]

        return self._queue.submit("compute_logprobs", work, client=self._name, num_tokens=len(tokens))

    def _prompt_logprobs(self, tokens: TokenArray) -> npt.NDArray[np.float64]:
        if self._script.loss is None:
            return self._model.logprobs(tokens[:-1], tokens[1:])
        return np.full(len(tokens) - 1, -float(self._script.loss(self._model.updates)))

    @property
    def _name(self) -> str:
        return f"{self._model.base_model}@{self._model.updates}"


def _prompt_tokens(prompt: ModelInput) -> list[int]:
    tokens = [int(token) for token in prompt.to_ints()]
    if not tokens:
        raise RequestRejectedError("the prompt must hold at least one token, got none")
    return tokens
