"""The local `ServiceClient`: where clients for training and sampling come from."""

from __future__ import annotations

import copy
import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, final

import torch

from glowgenius.engines.process import temporary_folder
from glowgenius.engines.tinker_types import GetServerCapabilitiesResponse, SupportedModel
from glowgenius.errors import CheckpointError, ConfigError, RequestRejectedError
from glowgenius.local import checkpoint
from glowgenius.local.adapter import DEFAULT_ALPHA, Adapter, AdapterSpec, trainable
from glowgenius.local.loss import load
from glowgenius.local.machine import Checkpointing, Runtime, choose_precision, free_bytes, usable_threads
from glowgenius.local.sampling import SamplingClient, from_checkpoint
from glowgenius.local.training import TrainingClient
from glowgenius.local.worker import Worker
from glowgenius.lora.config import LARGEST_RANK
from glowgenius.models.catalog import available_models, cache_directory
from glowgenius.models.hub import context_length

if TYPE_CHECKING:
    from glowgenius.engines.tinker_types import EngineFuture
    from glowgenius.local.model import BaseModel


@final
class ServiceClient:
    """LoRA training and sampling on this machine, behind the interface of `tinker.ServiceClient`.

    Args:
        checkpoint_directory: Where checkpoints go; by default a folder of glowgenius' cache.
        device: `cpu`, `cuda`, `mps`, or `auto` for the best one that torch finds.
        dtype: Of the frozen weights: `float32`, the reference; `bfloat16`, less exact, and faster on some hardware
            only; `auto`, whichever a short measurement finds faster here. Adapters and optimizer are float32 in any
            case.
        max_tokens_per_pass: How many tokens go through the network at once. A batch is done in as many passes as it
            takes, with the same gradient; fewer tokens need less memory.
        sampling_batch_size: How many sequences are generated side by side, over all threads; fewer where they may
            become so long that together they are more than 65,536 tokens, whose keys and values must be held.
        gradient_checkpointing: Whether layers keep their input alone and are computed again in the backward pass, to
            the same bits: `True` all of them, `False` none, `auto` as many as it takes to keep no more than half of the
            memory that is free. The first time it is too little, the logger `glowgenius.local` says so.

    Raises:
        ConfigError: The device is not known or not there, or another argument is not one that is accepted.
    """

    supports_alpha = True
    """`create_lora_training_client` takes *alpha* here, which Tinker's does not."""

    def __init__(
        self,
        *,
        checkpoint_directory: str | Path | None = None,
        device: str = "auto",
        dtype: str = "float32",
        max_tokens_per_pass: int = 1024,
        sampling_batch_size: int = 128,
        gradient_checkpointing: bool | Literal["auto"] = "auto",
    ) -> None:
        if max_tokens_per_pass < 1 or sampling_batch_size < 1:
            raise ConfigError(
                f"ServiceClient needs max_tokens_per_pass ≥ 1 and sampling_batch_size ≥ 1, got "
                f"{max_tokens_per_pass} and {sampling_batch_size}"
            )
        where = _device(device)
        self._precision = choose_precision(dtype, where)
        self._worker = Worker()
        self._runtime = Runtime(
            worker=self._worker,
            device=where,
            dtype=self._precision.dtype,
            max_tokens_per_pass=max_tokens_per_pass,
            sampling_batch_size=sampling_batch_size,
            checkpointing=Checkpointing(gradient_checkpointing, where),
            threads=usable_threads(),
        )
        self._session = f"local-{secrets.token_hex(4)}"
        root = cache_directory() / "checkpoints" if checkpoint_directory is None else Path(checkpoint_directory)
        self._checkpoints = root.expanduser().resolve()
        self._chose_directory = checkpoint_directory is not None
        self.keeps_checkpoints = True
        """Whether they stay when the service is dropped."""
        self._runs = 0
        self._paths: dict[str, str] = {}

    def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """The base models that are on this machine already; any folder and any hub name may be used as well."""
        return GetServerCapabilitiesResponse(
            supported_models=[SupportedModel(model_name=name) for name in available_models()]
        )

    def context_length(self, base_model: str) -> int | None:
        """The most tokens that a row or a prompt of *base_model* may have; None where its config names no limit.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        return context_length(base_model)

    @property
    def free_memory(self) -> int | None:
        """Bytes that are free on the device; None where that is not known."""
        return free_bytes(self.device)

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
    ) -> EngineFuture[TrainingClient]:
        """A fresh adapter on *base_model*; with one *seed*, the same adapter; without, a random one.

        *user_metadata* is accepted for the SDK's sake: there is no session list to show it in.

        Raises:
            ConfigError: Nothing is to be trained, or a number is out of its range.
        """
        del user_metadata
        if alpha is not None and not 0 < alpha < math.inf:
            raise ConfigError(f"alpha must be a finite number above 0, got {alpha!r}")
        if seed is not None and not 0 <= seed < 2**63:
            raise ConfigError(f"seed must be 0 or more, and below 2**63, got {seed}")
        if rank < 1 or not (train_mlp or train_attn or train_unembed):
            raise ConfigError(
                f"an adapter needs rank ≥ 1 and at least one of train_mlp, train_attn, train_unembed; got rank={rank}, "
                f"train_mlp={train_mlp}, train_attn={train_attn}, train_unembed={train_unembed}"
            )
        if rank > LARGEST_RANK:
            raise ConfigError(f"rank must be at most {LARGEST_RANK}, got {rank}")
        spec = AdapterSpec(
            rank=rank,
            alpha=DEFAULT_ALPHA if alpha is None else float(alpha),
            seed=secrets.randbits(62) if seed is None else seed,
            train_mlp=train_mlp,
            train_attn=train_attn,
            train_unembed=train_unembed,
        )

        def create() -> TrainingClient:
            model = self._base(base_model)
            return self._client(model, model.fresh_adapter(spec))

        return self._worker.submit(create)

    def create_training_client_from_state(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[TrainingClient]:
        """A new run from saved weights; the optimizer starts afresh."""
        del user_metadata
        return self._worker.submit(lambda: self._restored(path, base_model, optimizer=False))

    def create_training_client_from_state_with_optimizer(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[TrainingClient]:
        """A new run that goes on exactly where `save_state` stood."""
        del user_metadata
        return self._worker.submit(lambda: self._restored(path, base_model, optimizer=True))

    def create_training_client_from_adapter(
        self, directory: str, base_model: str, user_metadata: dict[str, str] | None = None
    ) -> EngineFuture[TrainingClient]:
        """A new run from an adapter in PEFT's format, or from a checkpoint of either kind; the optimizer starts afresh.

        Args:
            directory: A folder with `adapter_model.safetensors` and `adapter_config.json`.
            base_model: The model that the adapter belongs to.
            user_metadata: Accepted for the sake of the other methods.

        Raises:
            CheckpointError: There is no such adapter, or it is not one of *base_model* that can be trained here.
        """
        del user_metadata

        def create() -> TrainingClient:
            model = self._base(base_model)
            return self._client(model, trainable(checkpoint.adapter_of(checkpoint.read_adapter(directory), model)))

        return self._worker.submit(create)

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> EngineFuture[SamplingClient]:
        """A client for saved weights, or for the base model as it is.

        Raises:
            RequestRejectedError: Neither a checkpoint nor a base model is named.
        """
        if model_path is not None:
            return self._worker.submit(lambda: from_checkpoint(self._runtime, model_path, base_model))
        if base_model is None:
            raise RequestRejectedError(
                "create_sampling_client() needs model_path (what save_weights_for_sampler() returned) or base_model "
                "(such as 'smollm2-135m-instruct'), got neither"
            )
        return self._worker.submit(lambda: SamplingClient(self._runtime, self._base(base_model), None))

    def close(
        self, status: Literal["success", "errored", "interrupted"] = "success", detail: str | None = None
    ) -> EngineFuture[None]:
        """Finish what is queued and end the session; its clients are not used afterwards."""
        del status, detail
        return self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("success" if kind is None else "errored").result()

    @property
    def dtype(self) -> str:
        """The precision of the frozen weights, as torch names it: `float32` or `bfloat16`."""
        return str(self._runtime.dtype).removeprefix("torch.")

    @property
    def description(self) -> str:
        """Where and in which precision it computes, and why; by which code, and which layers twice, so far."""
        threads = f"{self._runtime.threads} thread{'s' if self._runtime.threads > 1 else ''}"
        where = threads if self.device == "cpu" else self.device
        precision = f"frozen weights in {self.dtype} ({self._precision.reason}), adapters and optimizer in float32"
        paths = [f"{name} computed {how}" for name, how in self._paths.items()]
        return ", ".join(filter(None, [where, precision, *paths, self._runtime.checkpointing.said]))

    def with_temporary_checkpoints(self) -> ServiceClient:
        """The same service with the same queue, whose checkpoints are removed when it is dropped.

        It is what a run without an `output_dir` trains on: its checkpoints are of use as long as its result is.
        A service that was given a *checkpoint_directory* keeps them there all the same.
        """
        if self._chose_directory:
            return self
        made = copy.copy(self)
        # The copy is of this class, and only here has another folder than the service that it was made from.
        vars(made).update(_checkpoints=temporary_folder(made), keeps_checkpoints=False)
        return made

    @property
    def checkpoint_directory(self) -> Path:
        """Where its clients save, each into a folder of its own."""
        return self._checkpoints

    @property
    def device(self) -> str:
        """The torch device in use."""
        return self._runtime.device

    def _base(self, name: str) -> BaseModel:
        model = load(name, self._runtime.device, self._runtime.dtype)
        because = model.slow_because
        self._paths[name] = "by its own code" if because is None else f"through transformers ({because})"
        return model

    def _client(self, model: BaseModel, adapter: Adapter) -> TrainingClient:
        model_id = f"{self._session}:train:{self._runs}"
        self._runs += 1
        folder = self._checkpoints / model_id.replace(":", "-")
        return TrainingClient(self._runtime, model, adapter, model_id=model_id, folder=folder)

    def _restored(self, path: str, base: str | None, *, optimizer: bool) -> TrainingClient:
        saved = checkpoint.read(path)
        if saved.optimizer is None:
            raise CheckpointError(
                f"{path!r} was written by save_weights_for_sampler(): it holds no optimizer state and is for sampling. "
                f"Train on from the path of a save_state()."
            )
        model = self._base(base or saved.base_model)
        client = self._client(model, trainable(checkpoint.adapter_of(saved, model)))
        if optimizer:
            client.restore_optimizer(saved)
        return client


def _device(name: str) -> str:
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.insert(0, "mps")
    if torch.cuda.is_available():
        found.insert(0, "cuda")
    if name == "auto":
        return found[0]
    if name.split(":", maxsplit=1)[0] not in found:
        raise ConfigError(f"device must be 'auto' or one that torch finds here ({', '.join(found)}), got {name!r}")
    return name
