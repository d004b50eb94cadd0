"""The versions of the Tinker SDK: what each lacks is found by looking for it, and made up for or said.

A self-hosted server works with the SDK that it was made for, so the SDK may be any from 0.25 on. Before 0.38 a service
returned clients where it now returns futures, and before 0.28 nothing was kept beside a checkpoint and no session was
ended. `adapted` gives the clients of such a version the interface of `engines.protocol`; those of 0.38 have it.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import threading
import warnings
from abc import ABC, abstractmethod
from concurrent.futures import Future
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, final

from typing_extensions import override

from glowgenius._output import logger
from glowgenius._secrets import redact
from glowgenius.engines.errors import mapped
from glowgenius.errors import EngineError, NotPicklableError, RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from glowgenius.engines import tinker_types
    from glowgenius.engines.protocol import FutureLike, SamplingClient
    from glowgenius.engines.tinker_types import (
        AdamParams,
        Datum,
        EngineFuture,
        ForwardBackwardOutput,
        GetInfoResponse,
        GetServerCapabilitiesResponse,
        LossFnType,
        ModelInput,
        OptimStepResponse,
        SampleResponse,
        SamplingParams,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
    )

T = TypeVar("T")

TRIED: Final = (0, 38)
"""The newest version of the SDK that the tests have run with; a newer one is used, and warned about."""

SINCE: Final = {
    "metadata of checkpoints": "0.28",
    "exports of adapters": "0.28",
    "handles of samplers": "0.32",
}
"""What older versions lack and nothing can stand for, and the first version that has it."""

_LOG = logger("glowgenius.engines")


def lacks(what: str) -> str:
    """That the SDK here does not have *what*, and which does, as a sentence without a final stop."""
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    return (
        f"the Tinker SDK {tinker.SDK_VERSION} here has no {what}; tinker {SINCE[what]} and later have them, if the "
        f"server speaks that version"
    )


def adapted(client: T) -> T:
    """*client* with the interface of `engines.protocol`, if it is a client of the SDK that does not have it itself.

    Whatever else is given, and a client of a version that has it, comes back as it is.
    """
    if not any(kind.__module__.partition(".")[0] == "tinker" for kind in type(client).__mro__):
        return client
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    if _gives_futures(tinker.ServiceClient):
        return client
    older: dict[type, Callable[[Any], _Older]] = {
        tinker.ServiceClient: OlderService,
        tinker.TrainingClient: OlderTraining,
        tinker.SamplingClient: OlderSampling,
    }
    return next((cast("T", wrap(client)) for kind, wrap in older.items() if isinstance(client, kind)), client)


def original(client: object) -> object:
    """The SDK's own client that `adapted` has taken, else *client*."""
    return client.sdk if isinstance(client, OlderService | OlderTraining | OlderSampling) else client


def warn_of_newer() -> None:
    """Warn, once for a version, where the SDK is newer than what was tried."""
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    _warn_of(tinker.SDK_VERSION)


@cache
def _warn_of(version: str) -> None:
    numbers = version.split(".")[:2]
    if all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) > TRIED:
        newest = ".".join(map(str, TRIED))
        warnings.warn(
            f"the Tinker SDK {version} is newer than {newest}, the newest that was tried with this version of "
            f"glowgenius; it is used all the same. If something fails that should not, install 'tinker<={newest}.*'",
            UserWarning,
            stacklevel=4,
        )


def _gives_futures(service: type[Any]) -> bool:
    """Whether creating a client returns at once: what is returned is then something else than the client."""
    told = inspect.signature(service.create_lora_training_client).return_annotation
    return str(getattr(told, "__name__", told)).rpartition(".")[2] != "TrainingClient"


def takes(method: Callable[..., object] | None, parameter: str) -> bool:
    """Whether *method* is there and has *parameter*."""
    return method is not None and parameter in inspect.signature(method).parameters


def sequence_name(name: str) -> dict[str, Any]:
    """*name* as an argument of `SampledSequence`, whose sequences have had names since 0.26."""
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    return {"sequence_id": name} if takes(tinker.SampledSequence, "sequence_id") else {}


def rest_client(client: object) -> tinker_types.RestClient | None:
    """What manages checkpoints, over the connection of *client*: one of its own would look for a key elsewhere.

    None where this version of the SDK lets nobody at the connection.
    """
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    holder: Any = getattr(original(client), "holder", None)
    return None if holder is None else tinker.RestClient(holder)


def undeprecated(method: Callable[..., Any]) -> Callable[..., Any]:
    """*method* of the SDK without the wrapper that warns, where what is in it can be called with a client alone."""
    inner = inspect.unwrap(method)
    needed = [one for one in inspect.signature(inner).parameters.values() if one.default is inspect.Parameter.empty]
    return inner if len(needed) == 1 else method


def wait_for_place(client: object, saved: FutureLike[object]) -> None:
    """Return when the save *saved*, made on the SDK's *client*, has its place in the order.

    Coroutines handed to the SDK's thread start in the order in which they were handed over, and the number is taken
    before the first pause: when one of ours has run, so has that part of all before it. Where a version lets nobody at
    its thread, the save itself is waited for.
    """
    run: Any = getattr(getattr(original(client), "holder", None), "run_coroutine_threadsafe", None)
    if run is not None:
        run(_nothing()).result()
        return
    # Its error belongs to whoever asks for the result.
    saved.future().exception()


async def _nothing() -> None:
    """Only its turn matters."""


def _in_background(make: Callable[[], T]) -> EngineFuture[T]:
    """The result of *make*, which blocks, as a future."""
    from glowgenius.engines.tinker_types import EngineFuture

    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            future.set_exception(error)

    threading.Thread(target=work, name="glowgenius-create", daemon=True).start()
    return EngineFuture(future)


@cache
def _say_once(message: str) -> None:
    _LOG.warning("%s", message)


def _metadata(method: Callable[..., object], given: dict[str, str] | None) -> dict[str, Any]:
    """*given* as an argument of *method*, if it takes any; what is lost is said once."""
    if takes(method, "user_metadata"):
        return {"user_metadata": given}
    if given:
        _say_once(f"{lacks('metadata of checkpoints')}. The run folder says the step of each all the same")
    return {}


class _Older(ABC):
    """What is not here is the SDK's own."""

    def __init__(self, sdk: Any) -> None:
        self.sdk: Any = sdk

    def __getattr__(self, name: str) -> Any:
        if name == "sdk":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.sdk, name)

    @override
    @abstractmethod
    def __repr__(self) -> str: ...


@final
class OlderService(_Older):
    """A `tinker.ServiceClient` from before 0.38."""

    @override
    def __repr__(self) -> str:
        return f"OlderService({self.sdk!r})"

    def create_lora_training_client(
        self,
        base_model: str,
        rank: int = 32,
        seed: int | None = None,
        train_mlp: bool = True,
        train_attn: bool = True,
        train_unembed: bool = True,
        user_metadata: dict[str, str] | None = None,
    ) -> FutureLike[OlderTraining]:
        """As `ServiceClient` of the protocol says."""
        return _in_background(
            lambda: OlderTraining(
                self.sdk.create_lora_training_client(
                    base_model,
                    rank=rank,
                    seed=seed,
                    train_mlp=train_mlp,
                    train_attn=train_attn,
                    train_unembed=train_unembed,
                    user_metadata=user_metadata,
                )
            )
        )

    def create_training_client_from_state(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[OlderTraining]:
        """As `ServiceClient` of the protocol says."""
        make = self.sdk.create_training_client_from_state
        return _in_background(lambda: OlderTraining(make(path, base_model=base_model, user_metadata=user_metadata)))

    def create_training_client_from_state_with_optimizer(
        self, path: str, base_model: str | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[OlderTraining]:
        """As `ServiceClient` of the protocol says."""
        make = self.sdk.create_training_client_from_state_with_optimizer
        return _in_background(lambda: OlderTraining(make(path, base_model=base_model, user_metadata=user_metadata)))

    def create_sampling_client(
        self, model_path: str | None = None, base_model: str | None = None
    ) -> FutureLike[OlderSampling]:
        """As `ServiceClient` of the protocol says."""
        make = self.sdk.create_sampling_client
        return _in_background(lambda: OlderSampling(make(model_path=model_path, base_model=base_model)))

    def get_server_capabilities(self) -> GetServerCapabilitiesResponse:
        """What the server offers."""
        return cast("GetServerCapabilitiesResponse", self.sdk.get_server_capabilities())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("success" if kind is None else "errored").result()

    def close(
        self, status: Literal["success", "errored", "interrupted"], detail: str | None = None
    ) -> FutureLike[None]:
        """End the session; a version that cannot leaves it to the server, which misses its heartbeats."""
        from glowgenius.engines.tinker_types import completed

        close: Any = getattr(self.sdk, "close", None)
        return completed(None) if close is None else close(status, detail)


@final
class OlderTraining(_Older):
    """A `tinker.TrainingClient` from before 0.38."""

    @override
    def __repr__(self) -> str:
        return f"OlderTraining({self.sdk!r})"

    @property
    def model_id(self) -> str:
        """As `TrainingClient` of the protocol says."""
        return cast("str", self.sdk.model_id)

    def get_info(self) -> GetInfoResponse:
        """As `TrainingClient` of the protocol says, but for one request."""
        return cast("GetInfoResponse", self.sdk.get_info())

    def forward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> FutureLike[ForwardBackwardOutput]:
        """As `TrainingClient` of the protocol says."""
        return cast("FutureLike[ForwardBackwardOutput]", self.sdk.forward(data, loss_fn, loss_fn_config))

    def forward_backward(
        self, data: list[Datum], loss_fn: LossFnType, loss_fn_config: Mapping[str, float | str] | None = None
    ) -> FutureLike[ForwardBackwardOutput]:
        """As `TrainingClient` of the protocol says."""
        return cast("FutureLike[ForwardBackwardOutput]", self.sdk.forward_backward(data, loss_fn, loss_fn_config))

    def optim_step(self, optim_params: AdamParams) -> FutureLike[OptimStepResponse]:
        """As `TrainingClient` of the protocol says."""
        return cast("FutureLike[OptimStepResponse]", self.sdk.optim_step(optim_params))

    def save_state(
        self,
        name: str,
        ttl_seconds: int | None = None,
        overwrite: bool = False,
        user_metadata: dict[str, str] | None = None,
    ) -> FutureLike[SaveWeightsResponse]:
        """As `TrainingClient` of the protocol says; a version without metadata keeps none, and it is said."""
        save = self.sdk.save_state
        return cast(
            "FutureLike[SaveWeightsResponse]",
            save(name, ttl_seconds=ttl_seconds, overwrite=overwrite, **_metadata(save, user_metadata)),
        )

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None, user_metadata: dict[str, str] | None = None
    ) -> FutureLike[SaveWeightsForSamplerResponse]:
        """As `TrainingClient` of the protocol says; a version without metadata keeps none, and it is said."""
        save = self.sdk.save_weights_for_sampler
        return cast(
            "FutureLike[SaveWeightsForSamplerResponse]",
            save(name, ttl_seconds=ttl_seconds, **_metadata(save, user_metadata)),
        )

    def save_weights_and_get_sampling_client(self, name: str | None = None) -> FutureLike[OlderSampling]:
        """As `TrainingClient` of the protocol says, but that it waits: only then is its place in the order sure."""
        from glowgenius.engines.tinker_types import completed

        return completed(OlderSampling(self.sdk.save_weights_and_get_sampling_client(name)))

    def create_sampling_client(self, model_path: str) -> FutureLike[OlderSampling]:
        """As `TrainingClient` of the protocol says."""
        return _in_background(lambda: OlderSampling(self.sdk.create_sampling_client(model_path)))

    def save_weights_external(self, name: str, ttl_seconds: int | None = None) -> FutureLike[Any]:
        """Export the adapter.

        Raises:
            EngineError: This version of the SDK cannot.
        """
        export: Any = getattr(self.sdk, "save_weights_external", None)
        if export is None:
            raise EngineError(lacks("exports of adapters"))
        return cast("FutureLike[Any]", export(name, ttl_seconds=ttl_seconds))


@final
class OlderSampling(_Older):
    """A `tinker.SamplingClient` from before 0.38."""

    @override
    def __repr__(self) -> str:
        return f"OlderSampling({self.sdk!r})"

    def sample(
        self, prompt: ModelInput, num_samples: int, sampling_params: SamplingParams, *, topk_prompt_logprobs: int = 0
    ) -> FutureLike[SampleResponse]:
        """As `SamplingClient` of the protocol says."""
        answer = self.sdk.sample(prompt, num_samples, sampling_params, topk_prompt_logprobs=topk_prompt_logprobs)
        return _awaitable(answer)

    def compute_logprobs(
        self, prompt: ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> FutureLike[list[float | None]]:
        """As `SamplingClient` of the protocol says; a version that gives all of them gives too many, which are cut."""
        compute = self.sdk.compute_logprobs
        if prompt_logprobs_last_n is None:
            return _awaitable(compute(prompt))
        if takes(compute, "prompt_logprobs_last_n"):
            return _awaitable(compute(prompt, prompt_logprobs_last_n=prompt_logprobs_last_n))
        if not 0 < prompt_logprobs_last_n < prompt.length:
            raise RequestRejectedError(
                f"prompt_logprobs_last_n must be between 1 and {prompt.length - 1}, all tokens of the prompt but its "
                f"first, got {prompt_logprobs_last_n}"
            )
        return _mapped(compute(prompt), lambda values: _last(values, prompt_logprobs_last_n))

    def get_base_model(self) -> str:
        """As `SamplingClient` of the protocol says."""
        return cast("str", self.sdk.get_base_model())


def _last(values: list[float | None], n: int) -> list[float | None]:
    before = max(len(values) - n, 0)
    return [None] * before + values[before:]


def _awaitable(answer: Any) -> FutureLike[Any]:
    from glowgenius.engines.tinker_types import EngineFuture

    if isinstance(answer, Future):
        return EngineFuture(answer)  # pyright: ignore[reportUnknownArgumentType]
    return cast("FutureLike[Any]", answer)


def _mapped(answer: Future[T], change: Callable[[T], T]) -> EngineFuture[T]:
    from glowgenius.engines.tinker_types import EngineFuture

    changed: Future[T] = Future()

    def done(future: Future[T]) -> None:
        try:
            changed.set_result(change(future.result()))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            changed.set_exception(error)

    answer.add_done_callback(done)
    return EngineFuture(changed)


def sampler_handle(client: SamplingClient) -> str:
    """The handle of a sampler on Tinker.

    Raises:
        NotPicklableError: The client belongs to an engine of this process, or its address holds a password.
    """
    from glowgenius.engines import tinker_types as tinker

    make: Any = getattr(client, "get_sampler_handle", None)
    if make is None and isinstance(original(client), tinker.SamplingClient):
        raise NotPicklableError(
            f"this Sampler cannot be pickled: {lacks('handles of samplers')}. Make one in the other process, from the "
            "run folder or the checkpoint"
        )
    if make is None:
        raise NotPicklableError(
            "a Sampler of an engine in this process cannot be pickled, as its weights live here; in the other process, "
            "make one from the run folder or the checkpoint"
        )
    with mapped("get_sampler_handle"):
        handle: str = make()
    try:
        held = base64.urlsafe_b64decode(handle).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        held = handle
    if redact(held) != held:
        raise NotPicklableError(
            "this Sampler cannot be pickled, as the address of its server holds a password or key, and a pickle "
            "travels; connect in the other process"
        )
    return handle


def sampler_from_handle(handle: str, api_key: str | None) -> SamplingClient:
    """The sampling client behind *handle*.

    Args:
        handle: From `sampler_handle`.
        api_key: The key; None is what the SDK finds.

    Raises:
        EngineError: The service refused or failed.
    """
    from glowgenius.engines import tinker_types as tinker

    with mapped("from_sampler_handle"):
        if not hasattr(tinker.SamplingClient, "from_sampler_handle"):
            raise EngineError(lacks("handles of samplers"))
        return adapted(tinker.SamplingClient.from_sampler_handle(handle, api_key=api_key))
