"""The protocols that every engine implements, their futures, and handles of sampling clients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from concurrent.futures import Future

    from glowgenius.engines.tinker_types import (
        AdamParams,
        Datum,
        ForwardBackwardOutput,
        GetInfoResponse,
        LossFnType,
        ModelInput,
        OptimStepResponse,
        SampleResponse,
        SamplingParams,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
    )

T_co = TypeVar("T_co", covariant=True)


class FutureLike(Protocol[T_co]):
    """A result that may not be there yet: what `tinker.APIFuture` offers.

    A protocol of our own because `APIFuture` is invariant: a future of the SDK's client would not be accepted where a
    future of a client with the same methods is asked for.
    """

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the result, at most *timeout* seconds, and return it or raise the operation's error."""
        ...

    async def result_async(self, timeout: float | None = None) -> T_co:  # noqa: ASYNC109 - the SDK's signature
        """As `result`, without blocking the running event loop."""
        ...

    def future(self) -> Future[Any]:
        """The underlying standard future, for `done`, callbacks and `concurrent.futures.wait`."""
        ...

    def __await__(self) -> Generator[Any, Any, T_co]: ...


class SamplingClient(Protocol):
    """Draws text from fixed weights. Requests are independent of each other and have no order."""

    def sample(
        self,
        prompt: ModelInput,
        num_samples: int,
        sampling_params: SamplingParams,
        *,
        topk_prompt_logprobs: int = 0,
    ) -> FutureLike[SampleResponse]:
        """Continue *prompt* *num_samples* times; a sequence ends with its stop token, or at `max_tokens`.

        With *topk_prompt_logprobs* the answer also has so many most probable tokens at each place of the prompt.
        """
        ...

    def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> FutureLike[list[float | None]]:
        """Natural-log probability of each token of *prompt* given those before it.

        The list is as long as the prompt. None stands at the first token, and, with *prompt_logprobs_last_n*, at every
        token before the last n.
        """
        ...

    def get_base_model(self) -> str:
        """The name of the base model, without a request."""
        ...


class TrainingClient(Protocol):
    """Trains one adapter; calls take effect in the order of submission."""

    @property
    def model_id(self) -> str:
        """The engine's name for this run, new for every client."""
        ...

    def get_info(self) -> GetInfoResponse:
        """Base model, rank and id of this run, without a request."""
        ...

    def forward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> FutureLike[ForwardBackwardOutput]:
        """Loss of *data* under the current weights, in submission order; changes nothing."""
        ...

    def forward_backward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> FutureLike[ForwardBackwardOutput]:
        """As `forward`, and the gradient is added to what has accumulated since the last `optim_step`.

        `metrics["loss:sum"]` is Σ −logprob · weight over all tokens: a plain sum, divided by nothing.
        `loss_fn_outputs[i]["logprobs"]` are the log-probabilities of the targets of datum i, `[T]`; where the weight is
        0 the value is unspecified.
        """
        ...

    def optim_step(self, optim_params: AdamParams) -> FutureLike[OptimStepResponse]:
        """One AdamW update with the accumulated gradient, which is then cleared."""
        ...

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> FutureLike[SaveWeightsResponse]:
        """Save weights and optimizer state under *name*, to resume from; the result has their `.path`."""
        ...

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[SaveWeightsForSamplerResponse]:
        """Save only the weights under *name*, for sampling; training cannot resume from them."""
        ...

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> FutureLike[SamplingClient]:
        """A client that samples from a snapshot of the weights as they are in this place of the order."""
        ...

    def create_sampling_client(self, model_path: str) -> FutureLike[SamplingClient]:
        """A client that samples from the saved weights at *model_path*."""
        ...


class ServiceClient(Protocol):
    """Creates clients for training and sampling."""

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
    ) -> FutureLike[TrainingClient]:
        """A fresh LoRA adapter on *base_model*; with one *seed*, the same adapter."""
        ...

    def create_training_client_from_state(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[TrainingClient]:
        """A new run from the weights of a `save_state`; the optimizer starts afresh."""
        ...

    def create_training_client_from_state_with_optimizer(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[TrainingClient]:
        """Resume a run exactly where `save_state` was called, optimizer state included."""
        ...

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> FutureLike[SamplingClient]:
        """A client for saved weights, or for the base model as it is."""
        ...

    def close(
        self, status: Literal["success", "errored", "interrupted"], detail: str | None = None
    ) -> FutureLike[None]:
        """End the session; the clients made by this service are not used afterwards."""
        ...


@runtime_checkable
class SupportsAlpha(Protocol):
    """A service with a configurable LoRA alpha, which Tinker does not offer.

    `isinstance(service, SupportsAlpha)` and `service.supports_alpha` together answer whether `alpha` may be passed.
    """

    @property
    def supports_alpha(self) -> bool:
        """Whether *alpha* of `create_lora_training_client` is heeded."""
        ...

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
    ) -> FutureLike[TrainingClient]:
        """As `ServiceClient.create_lora_training_client`; None means the engine's own alpha."""
        ...


@runtime_checkable
class SupportsDeletion(Protocol):
    """A training client that deletes what has been saved; the SDK's own does that elsewhere, in its `RestClient`."""

    def delete_checkpoint(self, path: str) -> FutureLike[None]:
        """Delete the state or the weights at *path*, whichever run has saved them."""
        ...


def checkpoint_directory(owner: object) -> Path | None:
    """The folder on this machine that a client alone, or a service with all of its clients, saves into.

    None where *owner* saves elsewhere, or does not say.
    """
    found: object = getattr(owner, "checkpoint_directory", None)
    return found if isinstance(found, Path) else None


@runtime_checkable
class SupportsAdapterFolders(Protocol):
    """A service that begins a run with an adapter that lies on this machine, which Tinker does not offer."""

    def create_training_client_from_adapter(
        self, directory: str, base_model: str, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[TrainingClient]:
        """A new run from a checkpoint of either kind, or an adapter in PEFT's format; the optimizer starts afresh."""
        ...


@runtime_checkable
class SupportsTemporary(Protocol):
    """A service that stores on this machine, and takes away again what a run without a folder of its own has stored."""

    def with_temporary_checkpoints(self) -> ServiceClient:
        """The same service, whose checkpoints are removed when it is dropped."""
        ...


@runtime_checkable
class SupportsContext(Protocol):
    """A service that knows how long a sequence of a base model may be; the SDK's tells it with its list of models."""

    def context_length(self, base_model: str) -> int | None:
        """The most tokens that a row or a prompt may have; None where *base_model* sets no limit."""
        ...
