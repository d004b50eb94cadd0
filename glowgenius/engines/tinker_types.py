"""Types of the package `tinker`; all other modules import them from here.

Importing this module imports the SDK (0.7 s, and torch with it where torch is installed), so modules that must stay
light import it inside functions, or for type checking only.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, final

from tinker import (
    AdamParams,
    APIConnectionError,
    APIError,
    APIFuture,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    Datum,
    EncodedTextChunk,
    ForwardBackwardOutput,
    InternalServerError,
    LoraConfig,
    ModelInput,
    NotFoundError,
    OptimStepResponse,
    ParsedCheckpointTinkerPath,
    PermissionDeniedError,
    RateLimitError,
    RequestFailedError,
    SampledSequence,
    SampleResponse,
    SamplingClient,
    SamplingParams,
    ServiceClient,
    StopReason,
    TensorData,
    TinkerError,
    TrainingClient,
    UnprocessableEntityError,
)
from tinker import __version__ as SDK_VERSION  # noqa: N812 - it is a constant here
from tinker.types import (
    GetInfoResponse,
    GetServerCapabilitiesResponse,
    LossFnOutput,
    LossFnType,
    ModelData,
    RequestErrorCategory,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
    SupportedModel,
)
from typing_extensions import override

from glowgenius.engines.process import HomeProcess

if TYPE_CHECKING:
    from tinker import RestClient
    from tinker.types.topk_logprobs import MASK_LOGPROB, TopkLogprobs
else:
    # The same classes, where versions before 0.36 and 0.28 keep them.
    try:
        from tinker import RestClient
    except ImportError:
        from tinker.lib.public_interfaces.rest_client import RestClient
    try:
        from tinker.types.topk_logprobs import MASK_LOGPROB, TopkLogprobs
    except ImportError:
        from tinker.types.sample_response import MASK_LOGPROB
        from tinker.types.topk_prompt_logprobs import TopkPromptLogprobs as TopkLogprobs

__all__ = [
    "MASK_LOGPROB",
    "SDK_VERSION",
    "APIConnectionError",
    "APIError",
    "APIFuture",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AdamParams",
    "AuthenticationError",
    "BadRequestError",
    "ConflictError",
    "Datum",
    "EncodedTextChunk",
    "ForwardBackwardOutput",
    "GetInfoResponse",
    "GetServerCapabilitiesResponse",
    "InternalServerError",
    "LoraConfig",
    "LossFnOutput",
    "LossFnType",
    "ModelData",
    "ModelInput",
    "NotFoundError",
    "OptimStepResponse",
    "ParsedCheckpointTinkerPath",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestErrorCategory",
    "RequestFailedError",
    "RestClient",
    "SampleResponse",
    "SampledSequence",
    "SamplingClient",
    "SamplingParams",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "ServiceClient",
    "StopReason",
    "SupportedModel",
    "TensorData",
    "TinkerError",
    "TopkLogprobs",
    "TrainingClient",
    "UnprocessableEntityError",
]

T = TypeVar("T")


@final
class EngineFuture(APIFuture[T]):
    """A `concurrent.futures.Future` that can also be awaited, from any event loop.

    Unlike the SDK's own wrapper, giving up on the wait (a timeout, a cancelled task) never cancels the operation:
    a cancelled operation that is still queued would lose its turn, and everything behind it would wait for ever.
    A failure that nobody awaits stays silent.
    """

    def __init__(self, future: Future[T]) -> None:
        self._future = future
        self._home = HomeProcess()

    @override
    def __repr__(self) -> str:
        if not self._future.done():
            state = "pending"
        elif self._future.cancelled():
            state = "cancelled"
        elif (error := self._future.exception()) is not None:
            state = f"failed: {error!r}"
        else:
            state = "done"
        return f"<EngineFuture: {state}>"

    @override
    def result(self, timeout: float | None = None) -> T:
        """Wait for the result and return it, or raise the operation's error.

        Raises:
            TimeoutError: Nothing came within *timeout* seconds; the operation goes on.
            EngineError: This is a fork of the process that asked, where nothing will come.
        """
        if not self._future.done():
            self._home.check("this future")
        return self._future.result(timeout)

    @override
    async def result_async(self, timeout: float | None = None) -> T:
        """As `result`, without blocking the running event loop.

        Raises:
            TimeoutError: Nothing came within *timeout* seconds; the operation goes on.
            EngineError: This is a fork of the process that asked, where nothing will come.
        """
        if not self._future.done():
            self._home.check("this future")
        # asyncio.wrap_future would carry a cancellation back to the operation, and shielding it makes asyncio log
        # errors that nobody retrieved. So the loop waits for a signal that holds no result, and the result is read
        # from the future itself.
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def signal(_future: Future[T]) -> None:
            # The loop may be gone by the time the operation ends; then nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        self._future.add_done_callback(signal)
        async with asyncio.timeout(timeout):
            await done.wait()
        return self._future.result()

    @override
    def future(self) -> Future[T]:
        """The underlying standard future."""
        return self._future


def completed(value: T) -> EngineFuture[T]:
    """A future that holds *value* already."""
    future: Future[T] = Future()
    future.set_result(value)
    return EngineFuture(future)


def failed(error: BaseException) -> EngineFuture[Any]:
    """A future that raises *error* when it is asked for its result."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return EngineFuture(future)
