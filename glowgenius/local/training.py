"""The local `TrainingClient`: trains one adapter; calls take effect in the order of submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch.optim.adamw import adamw

from glowgenius.engines.datum import CROSS_ENTROPY, read_data
from glowgenius.engines.tinker_types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    ModelData,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    TensorData,
)
from glowgenius.errors import RequestRejectedError
from glowgenius.local import checkpoint
from glowgenius.local.loss import score
from glowgenius.local.packing import Row
from glowgenius.local.sampling import SamplingClient, from_checkpoint
from glowgenius.models.hub import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from glowgenius.engines.tinker_types import EngineFuture
    from glowgenius.local.adapter import Adapter
    from glowgenius.local.machine import Runtime
    from glowgenius.local.model import BaseModel
    from glowgenius.models.tokenizer import Tokenizer

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What is remembered of each matrix, as `torch.optim.AdamW` calls it."""


@final
class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) on fp32 matrices, one kernel for all of them."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        self._parameters = dict(parameters)
        self._moments: dict[str, dict[str, torch.Tensor]] = {}

    @property
    def moments(self) -> dict[str, torch.Tensor]:
        """Every moment as `{matrix}.{moment}`, on the CPU; none before the first step."""
        return {f"{name}.{moment}": value.cpu() for name, one in self._moments.items() for moment, value in one.items()}

    def restore(self, moments: Mapping[str, torch.Tensor]) -> None:
        """Go on from *moments*; a matrix of which there are none begins afresh."""
        for name, parameter in self._parameters.items():
            if f"{name}.step" in moments:
                self._moments[name] = {
                    key: moments[f"{name}.{key}"].to(parameter.device, copy=True) for key in _MOMENTS
                }

    @torch.no_grad()
    def step(self, params: AdamParams) -> None:
        """Move every matrix by its gradient, which is taken away; one without a gradient goes on by its momentum."""
        parameters = list(self._parameters.values())
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        for one, gradient in zip(parameters, gradients, strict=True):
            one.grad = gradient
        if params.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, params.grad_clip_norm)
        for name, one in self._parameters.items():
            if name not in self._moments:
                start = (torch.zeros((), device=one.device), torch.zeros_like(one), torch.zeros_like(one))
                self._moments[name] = dict(zip(_MOMENTS, start, strict=True))
        steps, averages, squares = ([self._moments[name][key] for name in self._parameters] for key in _MOMENTS)
        adamw(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=params.beta1,
            beta2=params.beta2,
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            eps=params.eps,
            maximize=False,
        )
        for one in parameters:
            one.grad = None


@final
class TrainingClient:
    """One adapter being trained; made by `ServiceClient.create_lora_training_client`.

    Every method returns a future at once; the work is done in the order of the calls.
    """

    def __init__(self, runtime: Runtime, model: BaseModel, adapter: Adapter, *, model_id: str, folder: Path) -> None:
        self._runtime = runtime
        self._model = model
        self._adapter = adapter
        self._model_id = model_id
        self._folder = folder
        self._updates = 0
        self._optimizer = AdamW(dict(adapter.named_parameters()))

    @property
    def model_id(self) -> str:
        """The name of this run, new for every client."""
        return self._model_id

    @property
    def checkpoint_directory(self) -> Path:
        """The folder that this client alone saves into."""
        return self._folder

    @property
    def trainable_parameters(self) -> int:
        """Number of trainable parameters of the adapter."""
        return self._adapter.count()

    def get_info(self) -> GetInfoResponse:
        """Base model, rank and id."""
        data = ModelData(arch=self._model.architecture, model_name=self._model.name)
        return GetInfoResponse(
            type="get_info",
            model_data=data,
            model_id=self._model_id,
            is_lora=True,
            lora_rank=self._adapter.spec.rank,
            model_name=self._model.name,
        )

    def get_tokenizer(self) -> Tokenizer:
        """The base model's tokenizer."""
        return load_tokenizer(str(self._model.directory))

    def forward(
        self, data: list[Datum], loss_fn: str, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> EngineFuture[ForwardBackwardOutput]:
        """Loss of *data* under the current weights, in submission order; changes nothing.

        Raises:
            RequestRejectedError: The data or the loss function cannot be used.
        """
        return self._score(data, loss_fn, loss_fn_config, backward=False)

    def forward_backward(
        self, data: list[Datum], loss_fn: str, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> EngineFuture[ForwardBackwardOutput]:
        """As `forward`, and the gradient is added to what has accumulated since the last `optim_step`.

        `metrics["loss:sum"]` is Σ −log p · weight in nats. `logprobs` of a datum, `[T]`, are 0 where the weight is 0:
        those positions are never computed.

        Raises:
            RequestRejectedError: The data or the loss function cannot be used.
        """
        return self._score(data, loss_fn, loss_fn_config, backward=True)

    def optim_step(self, optim_params: AdamParams) -> EngineFuture[OptimStepResponse]:
        """One AdamW update (decoupled weight decay, global-norm clipping) with the accumulated gradient.

        Raises:
            RequestRejectedError: *optim_params* is not an `AdamParams`.
        """
        if not isinstance(optim_params, AdamParams):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not typed
            raise RequestRejectedError(
                f"optim_step() takes tinker.AdamParams on the local engine, got {type(optim_params).__name__}"
            )
        params = optim_params.model_copy()
        return self._runtime.worker.submit(lambda: self._step(params))

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> EngineFuture[SaveWeightsResponse]:
        """Keep weights and optimizer under *name*; `.path` is the folder. Local files never expire (*ttl_seconds*)."""
        del ttl_seconds
        folder = self._folder / "weights" / _checked(name)
        return self._runtime.worker.submit(
            lambda: SaveWeightsResponse(path=self._save(folder, user_metadata, overwrite=overwrite, optimizer=True))
        )

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[SaveWeightsForSamplerResponse]:
        """Keep the weights alone under *name*, in PEFT's format. Local files never expire (*ttl_seconds*)."""
        del ttl_seconds
        folder = self._folder / "sampler_weights" / _checked(name)
        return self._runtime.worker.submit(
            lambda: SaveWeightsForSamplerResponse(
                path=self._save(folder, user_metadata, overwrite=False, optimizer=False)
            )
        )

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> EngineFuture[SamplingClient]:
        """A client that samples from the weights as they are in this place of the order; *name* is not used."""
        del name
        return self._runtime.worker.submit(lambda: SamplingClient(self._runtime, self._model, self._adapter.snapshot()))

    def create_sampling_client(self, model_path: str) -> EngineFuture[SamplingClient]:
        """A client for the saved weights at *model_path*."""
        return self._runtime.worker.submit(lambda: from_checkpoint(self._runtime, model_path))

    def delete_checkpoint(self, path: str) -> EngineFuture[None]:
        """Delete the saved state or weights at *path*."""
        return self._runtime.worker.submit(lambda: checkpoint.delete(path))

    def restore_optimizer(self, saved: checkpoint.Saved) -> None:
        """Put the saved moments in place; called once, before the client is handed out."""
        self._updates = saved.updates
        self._optimizer.restore(saved.optimizer or {})

    def _score(
        self, data: list[Datum], loss_fn: str, config: Mapping[str, float | str] | None, *, backward: bool
    ) -> EngineFuture[ForwardBackwardOutput]:
        if config:
            raise RequestRejectedError(
                f"loss_fn_config must be None on the local engine: {CROSS_ENTROPY!r} has no settings, got {config!r}"
            )
        rows = rows_of(data, loss_fn, self._model)
        return self._runtime.worker.submit(lambda: self._scored(rows, backward=backward))

    def _scored(self, rows: list[Row], *, backward: bool) -> ForwardBackwardOutput:
        runtime = self._runtime
        parameters = list(self._adapter.parameters())
        before = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
        try:
            total, logprobs = score(
                self._model,
                self._adapter,
                rows,
                max_tokens=runtime.max_tokens_per_pass,
                threads=runtime.threads,
                backward=backward,
                checkpointing=runtime.checkpointing,
            )
        except BaseException:
            # Out of memory in the third pass: what the first two have added must not be counted with the next try.
            for parameter, gradient in zip(parameters, before, strict=True):
                parameter.grad = gradient
            raise
        return ForwardBackwardOutput(
            loss_fn_output_type="ArrayRecord",
            loss_fn_outputs=[{"logprobs": TensorData.from_numpy(values)} for values in logprobs],
            metrics={"loss:sum": total},
        )

    def _step(self, params: AdamParams) -> OptimStepResponse:
        self._optimizer.step(params)
        self._updates += 1
        return OptimStepResponse()

    def _save(self, folder: Path, metadata: dict[str, str] | None, *, overwrite: bool, optimizer: bool) -> str:
        written = checkpoint.write(
            folder,
            self._adapter,
            base_model=self._model.name,
            updates=self._updates,
            optimizer=self._optimizer.moments if optimizer else None,
            metadata=metadata or {},
            overwrite=overwrite,
        )
        return str(written)


def rows_of(data: list[Datum], loss_fn: str, model: BaseModel) -> list[Row]:
    """The arrays of each datum, copied, so that buffers reused by the caller change nothing.

    Raises:
        RequestRejectedError: Another loss, or a datum that is empty, unequal in length, not text, too long, or has
            ids outside the vocabulary.
    """
    arrays = read_data(data, loss_fn, vocabulary_size=model.vocabulary_size)
    for index, one in enumerate(arrays):
        if model.max_length is not None and len(one.inputs) > model.max_length:
            raise RequestRejectedError(
                f"datum {index}: {len(one.inputs)} tokens are too long for {model.name!r}, which was made for "
                f"{model.max_length} at most; shorten the example or set max_length"
            )
    return [Row(inputs=one.inputs.copy(), targets=one.targets.copy(), weights=one.weights.copy()) for one in arrays]


def _checked(name: str) -> str:
    if not name or name in {".", ".."} or any(sign in name for sign in "/\\:"):
        raise RequestRejectedError(f"a checkpoint's name is one word without '/', '\\' or ':', got {name!r}")
    return name
