"""Translation of engine errors into errors of this library."""

from __future__ import annotations

import importlib.metadata
import json
import re
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import httpx

from glowgenius._secrets import redact
from glowgenius.errors import (
    AuthenticationError,
    BillingError,
    CheckpointError,
    EngineError,
    GlowGeniusError,
    ModelNotFoundError,
    RateLimitError,
    RequestRejectedError,
    ServiceUnavailableError,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from glowgenius.engines import tinker_types as tinker

Mapped: TypeAlias = tuple[type[GlowGeniusError], str]
"""The class to raise, and what happened and what to do, as one or two sentences without a final stop."""

_SDK_VERSION = importlib.metadata.version("tinker")

CONSOLE = "https://tinker.thinkingmachines.ai"
"""Where keys, billing and runs of a Tinker account are managed."""

MODELS_SHOWN = 30
"""How many model names a message lists."""

_MODEL_IS_UNKNOWN = re.compile(
    r"\bmodel\b.*(not found|not supported|unsupported|unknown|does not exist|invalid)"
    r"|(unknown|unsupported|invalid|no such)\b.*\bmodel\b",
    re.IGNORECASE | re.DOTALL,
)

_SET_A_KEY = (
    f"Set TINKER_API_KEY to a key from {CONSOLE}, or store one with `tinker auth login`; "
    "without a key, connect(engine='local') trains on this machine"
)
_RESUME = "What was submitted but not confirmed is lost; go on from the last checkpoint"
_VERSIONS = (
    f"Server and SDK are out of step; a self-hosted server needs the SDK version that it was made for, here it is "
    f"{_SDK_VERSION}"
)
_LATER = f"Nothing is wrong with the request; try again later, and see {CONSOLE} for the state of the service"
_NO_ANSWER = f"the service did not answer in time. {_LATER}"
_FAILED = f"the service failed. {_LATER}"
_UNREACHABLE = (
    "the service cannot be reached. "
    "Check the network, TINKER_BASE_URL, and that NO_PROXY covers a server on this machine"
)
_ON_THE_WAY = (
    "something between here and the service answered in its place, a proxy or gateway, perhaps for a moment. "
    "If it happens again, check the network, proxies and TINKER_BASE_URL"
)
_GARBLED = (
    "the answer of the service cannot be read. It may have been cut off or replaced on the way, by a proxy perhaps. "
    f"{_RESUME}. If it happens again, server and SDK may be out of step: here the SDK is {_SDK_VERSION}"
)
_TOO_LARGE = (
    "the request is too large for the service, or for a proxy before it. Train fewer or shorter rows at once: a "
    "smaller batch_size or max_length"
)
_STRANGE_ANSWER = f"the service answered in a form that the SDK does not know. {_VERSIONS}"

_BY_STATUS: dict[int, Mapped] = {
    401: (AuthenticationError, f"the service refuses the API key. {_SET_A_KEY}"),
    402: (BillingError, f"the account cannot pay for this. Add a payment method or credit at {CONSOLE}"),
    403: (
        AuthenticationError,
        f"this API key may not do that. Use a key of the project that owns the run or checkpoint; see {CONSOLE}",
    ),
    408: (ServiceUnavailableError, _NO_ANSWER),
    409: (
        RequestRejectedError,
        "something of that name exists already. Choose another name, with the step in it, or save with overwrite=True",
    ),
    410: (ServiceUnavailableError, f"the service has ended this session. {_RESUME}"),
    413: (RequestRejectedError, _TOO_LARGE),
    429: (RateLimitError, "the service asks for fewer requests. Wait a while, or have fewer under way at once"),
}
# By number, not by class: a status that the SDK has no class for arrives as plain APIStatusError.

_OF_PROXIES = {407, 421, 425, 444, 460, 494, 495, 496, 497, 499}
"""Those that ask for proxies, and what nginx and load balancers have of their own."""


_SPEAKS = {401, 402, 407, 408, 410, 413, 429}
"""Statuses that mean the same, whoever answers."""

_REFUSALS = 400
_NOT_FOUND = 404
_SERVER_ERRORS = 500


@contextmanager
def mapped(operation: str, *, model: str | None = None, known_models: Iterable[str] = ()) -> Generator[None]:
    """Context manager that translates errors of engine calls into errors of this library.

    Args:
        operation: What was being done, as the message begins: `"forward_backward of step 3"`.
        model: The base model that was asked for, where that may be the problem.
        known_models: The names that the engine has, to be listed where *model* is not among them.
    """
    try:
        yield
    except Exception as error:
        cut_keys(error)
        ours = translate(error, operation, model=model, known_models=known_models)
        if ours is error:
            raise
        raise ours from error


def translate(
    error: Exception, operation: str = "the engine", *, model: str | None = None, known_models: Iterable[str] = ()
) -> Exception:
    """The error of this library for *error*, with *error* as its `__cause__`.

    An error of this library, and one that no engine raises on purpose (a TypeError, say), comes back as it is.
    The arguments are those of `mapped`.
    """
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    if isinstance(error, GlowGeniusError):
        return error
    cut_keys(error)
    # The SDK wraps what a retrieval was answered with.
    told = error.__cause__ if isinstance(error, ValueError) else error
    if isinstance(told, tinker.TinkerError):
        found: Mapped | None = _sdk_error(told, model, known_models)
    elif _is_garbled(error, str(error)):
        found = ServiceUnavailableError, _GARBLED
    else:
        found = _other_error(error)
    if found is None:
        return error
    kind, explanation = found
    said = redact(str(error)).strip()
    ours = kind(f"{operation}: {explanation} ({_name(error)}{f': {said}' if said else ''})")
    ours.__cause__ = error
    return ours


def cut_keys(error: BaseException) -> None:
    """Cut every key out of *error* and all that it is chained to, in place: a traceback prints them too."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        inner = cast("tuple[BaseException, ...]", getattr(one, "exceptions", ()))
        waiting += [each for each in (one.__cause__, one.__context__, *inner) if isinstance(each, BaseException)]
        if (args := _without_keys(one.args)) != one.args:
            one.args = args
        # What the classes of Python keep beside `args`, and what those of others keep in their attributes.
        for name in {"strerror", "filename", "filename2", "object", "msg", "name", "path", *vars(one)}:
            value = getattr(one, name, None)
            if (cut := _without_keys(value)) != value:
                with suppress(AttributeError, TypeError):
                    setattr(one, name, cut)
        for holder in (one, vars(one).get("response")):
            # As attributes they raise where there is no request.
            kept: dict[str, Any] = getattr(holder, "__dict__", {})
            for request in (kept.get("request"), kept.get("_request")):
                _empty_headers(request)


def _without_keys(value: Any) -> Any:
    """*value* with the keys in its texts cut down; what is no text, and no collection of texts, stays as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("latin-1")).encode("latin-1", "replace")
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value).items()
        return {_without_keys(name): _without_keys(item) for name, item in items}
    if type(value) is tuple:
        return tuple(map(_without_keys, cast("tuple[object, ...]", value)))
    if type(value) is list:
        return list(map(_without_keys, cast("list[object]", value)))
    return value


def _empty_headers(request: Any) -> None:
    """A failed request is not sent again; it still has the key."""
    headers: Any = getattr(request, "headers", ())
    for name in ("x-api-key", "authorization"):
        with suppress(Exception):
            if name in headers:
                headers[name] = "..."  # a header is ASCII


def _name(error: Exception) -> str:
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    status = f" {error.status_code}" if isinstance(error, tinker.APIStatusError) else ""
    return f"{type(error).__name__}{status}"


def _sdk_error(error: tinker.TinkerError, model: str | None, known_models: Iterable[str]) -> Mapped:
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    match error:
        case tinker.APIStatusError():
            return _status_error(error, model, known_models)
        case tinker.RequestFailedError():
            return _failed_request(error, model, known_models)
        case tinker.APIResponseValidationError():
            return ServiceUnavailableError, _GARBLED
        case tinker.APITimeoutError():
            return ServiceUnavailableError, _NO_ANSWER
        case tinker.APIConnectionError():
            return ServiceUnavailableError, _UNREACHABLE
        case _:
            return _plain_sdk_error(str(error))


def _plain_sdk_error(said: str) -> Mapped:
    # A missing, malformed or expired key has no class of its own in the SDK, only these words.
    if "api_key" in said or "credential" in said.lower():
        return AuthenticationError, f"there is no usable API key. {_SET_A_KEY}"
    return EngineError, f"the service failed. {_RESUME}"


def _status_error(error: tinker.APIStatusError, model: str | None, known_models: Iterable[str]) -> Mapped:
    status = error.status_code
    # The service speaks JSON. A page, or nothing at all, is of somebody else, whatever the status says.
    if (
        status < _REFUSALS
        or status in _OF_PROXIES
        or (status < _SERVER_ERRORS and status not in _SPEAKS and _is_page(error.body))
    ):
        return ServiceUnavailableError, _ON_THE_WAY
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == _NOT_FOUND:
        return _not_found(str(error), model, known_models)
    if status >= _SERVER_ERRORS:
        return ServiceUnavailableError, _FAILED
    return _rejected(str(error), model, known_models)


def _is_page(body: object) -> bool:
    return isinstance(body, str) and (not body.strip() or body.lstrip().startswith("<"))


def _failed_request(error: tinker.RequestFailedError, model: str | None, known_models: Iterable[str]) -> Mapped:
    from glowgenius.engines import tinker_types as tinker  # it loads torch, where that is installed

    match error.category:
        case tinker.RequestErrorCategory.User:
            return _rejected(str(error), model, known_models)
        case tinker.RequestErrorCategory.Server:
            return ServiceUnavailableError, f"the service accepted the request and then failed. {_RESUME}"
        case _:
            # Not the user's fault by its own account, so it may be gone the next time.
            why = "the service accepted the request and then failed, it does not say why"
            return ServiceUnavailableError, f"{why}. {_RESUME}"


def _other_error(error: Exception) -> Mapped | None:
    said = str(error)
    # The SDK's RetryableException is private: it cannot be imported, only recognised.
    if type(error).__name__ == "RetryableException":
        return ServiceUnavailableError, f"the service no longer has the result of this request. {_RESUME}"
    match error:
        case TimeoutError():
            return ServiceUnavailableError, "no answer in time. The operation itself goes on; wait longer for it"
        case CancelledError():
            return ServiceUnavailableError, f"the operation was cancelled before it ran. {_RESUME}"
        case ConnectionError() | httpx.HTTPError():
            return ServiceUnavailableError, _UNREACHABLE
        case ValueError() | AssertionError() | RuntimeError():
            return _builtin_error(error, said)
        case _:
            return None


def _is_garbled(error: Exception, said: str) -> bool:
    """Whether the SDK could not make sense of what came back; it says so by whatever error came of it."""
    match error:
        case json.JSONDecodeError() | UnicodeDecodeError():
            return True
        case ValueError() if "predate" not in said:
            read = isinstance(error.__cause__, ValueError | LookupError | TypeError | AttributeError)
            wrapped = "deserialization" in said or ("Error retrieving result" in said and read)
            return wrapped or _is_raised_by_sdk(error, while_in="json")
        case AttributeError() | LookupError() | TypeError() | OSError() | RecursionError():
            return _is_raised_by_sdk(error)
        case _:
            return False


def _is_raised_by_sdk(error: Exception, while_in: str = "") -> bool:
    """Whether *error* comes from inside the SDK, or a package *while_in* that it calls, and not from a wrong call."""
    step, found, name = error.__traceback__, False, ""
    while step is not None:
        name = str(step.tb_frame.f_globals.get("__name__"))
        found = name.startswith("tinker.") or (found and not name.startswith("glowgenius."))
        step = step.tb_next
    return found and name.startswith(while_in)


def _builtin_error(error: ValueError | AssertionError | RuntimeError, said: str) -> Mapped | None:
    if isinstance(error, AssertionError):
        return EngineError, f"a check inside the SDK failed. {_VERSIONS}"
    if isinstance(error, ValueError):
        return (EngineError, _STRANGE_ANSWER) if "predate" in said else _rejected(said, None, ())
    if "poisoned" in said:
        return ServiceUnavailableError, f"an earlier request failed, and this training client takes no more. {_RESUME}"
    if "closed" in said:
        return EngineError, "this client is closed. Make a new one with connect()"
    return (EngineError, _STRANGE_ANSWER) if "predate" in said else None


def _rejected(said: str, model: str | None, known_models: Iterable[str]) -> Mapped:
    if model is not None and _MODEL_IS_UNKNOWN.search(said):
        return _unknown_model(model, known_models)
    return RequestRejectedError, "the service refuses the request; it would be refused again, so change what it names"


def _not_found(said: str, model: str | None, known_models: Iterable[str]) -> Mapped:
    if model is not None:
        return _unknown_model(model, known_models)
    if "tinker://" in said or "checkpoint" in said.lower() or "weights" in said.lower():
        return CheckpointError, (
            "there is no such checkpoint: it may have expired or been deleted, or belong to another account. "
            "`tinker checkpoint list` shows those that exist"
        )
    return RequestRejectedError, "the service does not know what the request names. Check its names and paths"


def _unknown_model(model: str, known_models: Iterable[str]) -> Mapped:
    names = sorted(known_models)
    if not names:
        return (
            ModelNotFoundError,
            f"the service does not have the model {model!r}. `tinker model list` shows its models",
        )
    shown = ", ".join(names[:MODELS_SHOWN])
    rest = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
    return (
        ModelNotFoundError,
        f"the service does not have the model {model!r}{nearest(model, names)}. It has: {shown}{rest}",
    )
