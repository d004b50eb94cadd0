"""`ScriptedService`: the clients of a service that follows a script, without a model."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self, TypeVar, final

import numpy as np
from attrs import frozen

from glowgenius.engines.datum import read_data, topk_of
from glowgenius.engines.sdk import sequence_name
from glowgenius.engines.tinker_types import (
    AdamParams,
    ForwardBackwardOutput,
    GetInfoResponse,
    GetServerCapabilitiesResponse,
    ModelData,
    OptimStepResponse,
    SampledSequence,
    SampleResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    SupportedModel,
    TensorData,
)
from glowgenius.errors import CheckpointError, ConfigError, ModelNotFoundError, RequestRejectedError, nearest
from glowgenius.testing.byte_tokenizer import Bigram
from glowgenius.testing.script import KINDS, Operation, OrderedQueue, Script, describe, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy.typing as npt

    from glowgenius.engines.datum import DatumArrays
    from glowgenius.engines.tinker_types import (
        Datum,
        EngineFuture,
        LossFnType,
        ModelInput,
        SamplingParams,
        TopkLogprobs,
    )
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.testing.byte_tokenizer import Table
    from glowgenius.testing.script import Answers
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

    @property
    def context_length(self) -> int | None:
        """The most tokens that a prompt and its answer may have together."""
        return self._script.context

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
            **sequence_name(f"{self._name}:{index}"),
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


@final
class ScriptedService:
    """A test double for `tinker.ServiceClient`, to run a trainer, a callback or an evaluation without a model.

    Operations take effect in the order of the calls. Behind them stands a bigram model with true gradients and a true
    AdamW, so that losses fall when one trains, gradients accumulate until `optim_step`, seeds matter, and a checkpoint
    holds what was there when it was saved.

        service = ScriptedService(answers={"Where is Yankee Stadium?": "The Bronx"}, tokenizer=ByteTokenizer())
        trainer = SupervisedTrainer("scripted", service=service, renderer=renderer)
        trainer.train(dataset)
        assert [operation.kind for operation in service.journal][:2] == ["create_lora_training_client", "forward"]

    Args:
        answers: What trained weights say: a mapping from question to answer (the question that stands last in the
            prompt counts; a prompt without any is refused), or a function from prompt tokens and `SamplingParams` to
            answer tokens, which have to end with a stop token by themselves. None: tokens of the bigram model.
        base_answers: What weights without an update say, the base model among them. None: the same as trained ones.
        tokenizer: Needed where answers are a mapping or stops are text: the tokenizer of the renderer.
        loss: Nats per token as a function of the number of updates, for a curve of your own: `lambda n: 2 / (n + 1)`.
            None: what the bigram model has learned.
        fail_on: Errors by kind of operation and count of that kind: `{"forward_backward": {3: error}}` lets the future
            of the third `forward_backward` of this service raise *error*. The operation then has no effect, and the
            operations behind it still run, as on the real service.
        models: The base models that exist. None: every name.
        latency: Seconds that every operation takes. 0: futures are done when they are returned.
        supports_alpha: Whether `alpha` is accepted, as by the local engine.
        context: The most tokens that a row or a prompt may have; longer ones are refused. None: any number.

    Raises:
        ConfigError: A setting does not fit.
    """

    def __init__(
        self,
        *,
        answers: Answers | None = None,
        base_answers: Answers | None = None,
        tokenizer: Tokenizer | None = None,
        loss: Callable[[int], float] | None = None,
        fail_on: Mapping[str, Mapping[int, Exception]] = MappingProxyType({}),
        models: Collection[str] | None = None,
        latency: float = 0.0,
        supports_alpha: bool = False,
        context: int | None = None,
    ) -> None:
        self._script = Script(
            answers=answers,
            base_answers=base_answers,
            tokenizer=tokenizer,
            loss=loss,
            fail_on={kind: dict(errors) for kind, errors in fail_on.items()},
            models=None if models is None else frozenset(models),
            latency=latency,
            supports_alpha=supports_alpha,
            context=context,
        )
        self._queue = OrderedQueue(self._script)
        self._checkpoints = Checkpoints()
        self._numbers = itertools.count()

    @property
    def journal(self) -> tuple[Operation, ...]:
        """Every operation so far, in the order of the calls."""
        return self._queue.journal

    @property
    def checkpoints(self) -> dict[str, ScriptedCheckpoint]:
        """Every checkpoint by path, in the order in which they were saved."""
        return self._checkpoints.all()

    @property
    def supports_alpha(self) -> bool:
        """Whether *alpha* of `create_lora_training_client` is accepted."""
        return self._script.supports_alpha

    def operations(self, kind: str) -> tuple[Operation, ...]:
        """The part of the journal that is of one kind.

        Raises:
            ConfigError: There is no such kind of operation.
        """
        if kind not in KINDS:
            raise ConfigError(f"there is no operation {kind!r}{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}")
        return tuple(operation for operation in self.journal if operation.kind == kind)

    def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """The base models that exist, sorted; empty where every name does. Not an operation of the journal."""
        names = sorted(self._script.models or ())
        limit = self._script.context
        models = [SupportedModel(model_name=name, max_context_length=limit) for name in names]
        return GetServerCapabilitiesResponse(supported_models=models)

    def context_length(self, base_model: str) -> int | None:
        """The most tokens that a row or a prompt of *base_model* may have; not an operation of the journal.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        self._check_model(base_model)
        return self._script.context

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
        *,
        alpha: float | None = None,
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A fresh adapter; without a *seed*, the number of the client is its seed."""
        if alpha is not None and not self._script.supports_alpha:
            raise RequestRejectedError("alpha is not accepted: this ScriptedService was made with supports_alpha=False")
        if rank < 1:
            raise RequestRejectedError(f"rank must be an integer ≥ 1, got {rank!r}")
        if not (train_mlp or train_attn or train_unembed):
            raise RequestRejectedError("one of train_mlp, train_attn and train_unembed must be True")
        number = next(self._numbers)

        def work() -> ScriptedTrainingClient:
            self._check_model(base_model)
            return self._client(number, Bigram.fresh(base_model, number if seed is None else seed), rank)

        return self._queue.submit(
            "create_lora_training_client", work, name=base_model, user_metadata=_pairs(user_metadata)
        )

    def create_training_client_from_state(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A new run from saved weights; the optimizer starts afresh."""
        return self._resume("create_training_client_from_state", path, base_model, user_metadata, optimizer=False)

    def create_training_client_from_state_with_optimizer(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[ScriptedTrainingClient]:
        """A new run that goes on exactly where `save_state` stood."""
        kind = "create_training_client_from_state_with_optimizer"
        return self._resume(kind, path, base_model, user_metadata, optimizer=True)

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> EngineFuture[ScriptedSamplingClient]:
        """A client for saved weights, or for the base model as it is."""
        if model_path is None and base_model is None:
            raise RequestRejectedError("create_sampling_client needs a model_path or a base_model, got neither")

        def work() -> ScriptedSamplingClient:
            if model_path is not None:
                model = self._checkpoints.find(model_path, resumable=False).model
            else:
                model = Bigram.fresh(self._check_model(str(base_model)), 0)
            return ScriptedSamplingClient(queue=self._queue, script=self._script, model=model)

        return self._queue.submit("create_sampling_client", work, name=base_model, path=model_path)

    def close(
        self, status: Literal["success", "errored", "interrupted"], detail: str | None = None
    ) -> EngineFuture[None]:
        """Take no more operations, from this service or its clients."""
        return self._queue.close(status if detail is None else f"{status}: {detail}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("success" if kind is None else "errored").result()

    def _resume(
        self, kind: str, path: str, base_model: str | None, user_metadata: dict[str, str] | None, *, optimizer: bool
    ) -> EngineFuture[ScriptedTrainingClient]:
        number = next(self._numbers)

        def work() -> ScriptedTrainingClient:
            saved = self._checkpoints.find(path, resumable=True)
            if base_model is not None and base_model != saved.model.base_model:
                raise RequestRejectedError(
                    f"the checkpoint {path!r} belongs to the base model {saved.model.base_model!r}, not {base_model!r}"
                )
            model = saved.model if optimizer else saved.model.without_optimizer_state()
            return self._client(number, model, saved.rank)

        return self._queue.submit(kind, work, name=base_model, path=path, user_metadata=_pairs(user_metadata))

    def _client(self, number: int, model: Bigram, rank: int) -> ScriptedTrainingClient:
        return ScriptedTrainingClient(
            queue=self._queue,
            script=self._script,
            checkpoints=self._checkpoints,
            model=model,
            model_id=f"scripted:train:{number}",
            rank=rank,
        )

    def _check_model(self, name: str) -> str:
        models = self._script.models
        if models is not None and name not in models:
            known = ", ".join(map(repr, sorted(models))) or "none"
            raise ModelNotFoundError(f"there is no model {name!r}{nearest(name, models)}; there are: {known}")
        return name


def _pairs(user_metadata: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((user_metadata or {}).items()))
