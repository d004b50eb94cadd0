"""Every error of the SDK becomes one of ours, and says what to do."""

from __future__ import annotations

import pickle
from concurrent.futures import CancelledError

import httpx
import pytest
import tinker

from glowgenius import errors
from glowgenius.engines.errors import MODELS_SHOWN, mapped, redact, translate
from glowgenius.engines.tinker_types import SDK_VERSION, RequestErrorCategory

REQUEST = httpx.Request("POST", "http://127.0.0.1/api/v1/create_model")
KEY = "tml-Sup3rS3cret_Key.with+parts=="
SET_A_KEY = (
    "Set TINKER_API_KEY to a key from https://tinker.thinkingmachines.ai, or store one with `tinker auth login`; "
    "without a key, connect(engine='local') trains on this machine"
)
RESUME = "What was submitted but not confirmed is lost; go on from the last checkpoint"
LATER = (
    "Nothing is wrong with the request; try again later, "
    "and see https://tinker.thinkingmachines.ai for the state of the service"
)
VERSIONS = (
    "Server and SDK are out of step; a self-hosted server needs the SDK version that it was made for, "
    f"here it is {SDK_VERSION}"
)
UNREACHABLE = (
    "the service cannot be reached. "
    "Check the network, TINKER_BASE_URL, and that NO_PROXY covers a server on this machine"
)

GARBLED = (
    "the answer of the service cannot be read. It may have been cut off or replaced on the way, by a proxy perhaps. "
    "What was submitted but not confirmed is lost; go on from the last checkpoint. "
    f"If it happens again, server and SDK may be out of step: here the SDK is {tinker.__version__}"
)


def status(code, message="said the server", kind=None):
    response = httpx.Response(code, request=REQUEST)
    kinds = {
        400: tinker.BadRequestError,
        401: tinker.AuthenticationError,
        402: tinker.BillingError,
        403: tinker.PermissionDeniedError,
        404: tinker.NotFoundError,
        409: tinker.ConflictError,
        422: tinker.UnprocessableEntityError,
        429: tinker.RateLimitError,
        500: tinker.InternalServerError,
    }
    return (kind or kinds.get(code, tinker.APIStatusError))(message, response=response, body=None)


def request_failed(category, message="said the server"):
    return tinker.RequestFailedError(message, request_id="r1", category=category)


SDK_ERRORS = [
    (
        status(400),
        errors.RequestRejectedError,
        (
            "the service refuses the request; it would be refused again, so change what it names "
            "(BadRequestError 400: said the server)"
        ),
    ),
    (
        status(401),
        errors.AuthenticationError,
        f"the service refuses the API key. {SET_A_KEY} (AuthenticationError 401: said the server)",
    ),
    (
        status(402),
        errors.BillingError,
        (
            "the account cannot pay for this. Add a payment method or credit at https://tinker.thinkingmachines.ai "
            "(BillingError 402: said the server)"
        ),
    ),
    (
        status(403),
        errors.AuthenticationError,
        (
            "this API key may not do that. Use a key of the project that owns the run or checkpoint; "
            "see https://tinker.thinkingmachines.ai (PermissionDeniedError 403: said the server)"
        ),
    ),
    (
        status(404),
        errors.RequestRejectedError,
        (
            "the service does not know what the request names. Check its names and paths "
            "(NotFoundError 404: said the server)"
        ),
    ),
    (
        status(404, "no checkpoint tinker://a:train:0/weights/b"),
        errors.CheckpointError,
        (
            "there is no such checkpoint: it may have expired or been deleted, or belong to another account. "
            "`tinker checkpoint list` shows those that exist "
            "(NotFoundError 404: no checkpoint tinker://a:train:0/weights/b)"
        ),
    ),
    (
        status(408),
        errors.ServiceUnavailableError,
        f"the service did not answer in time. {LATER} (APIStatusError 408: said the server)",
    ),
    (
        status(409),
        errors.RequestRejectedError,
        (
            "something of that name exists already. Choose another name, with the step in it, or save with "
            "overwrite=True (ConflictError 409: said the server)"
        ),
    ),
    (
        status(410),
        errors.ServiceUnavailableError,
        f"the service has ended this session. {RESUME} (APIStatusError 410: said the server)",
    ),
    (
        status(422),
        errors.RequestRejectedError,
        (
            "the service refuses the request; it would be refused again, so change what it names "
            "(UnprocessableEntityError 422: said the server)"
        ),
    ),
    (
        status(429),
        errors.RateLimitError,
        (
            "the service asks for fewer requests. Wait a while, or have fewer under way at once "
            "(RateLimitError 429: said the server)"
        ),
    ),
    (
        status(500),
        errors.ServiceUnavailableError,
        f"the service failed. {LATER} (InternalServerError 500: said the server)",
    ),
    (
        status(503),
        errors.ServiceUnavailableError,
        f"the service failed. {LATER} (APIStatusError 503: said the server)",
    ),
    (
        status(418),
        errors.RequestRejectedError,
        (
            "the service refuses the request; it would be refused again, so change what it names "
            "(APIStatusError 418: said the server)"
        ),
    ),
    (
        tinker.APIConnectionError(request=REQUEST),
        errors.ServiceUnavailableError,
        f"{UNREACHABLE} (APIConnectionError: Connection error.)",
    ),
    (
        tinker.APITimeoutError(request=REQUEST),
        errors.ServiceUnavailableError,
        f"the service did not answer in time. {LATER} (APITimeoutError: Request timed out.)",
    ),
    (
        tinker.APIResponseValidationError(httpx.Response(200, request=REQUEST), body=None),
        errors.ServiceUnavailableError,
        f"{GARBLED} (APIResponseValidationError: Data returned by API invalid for expected schema.)",
    ),
    (
        request_failed(RequestErrorCategory.User),
        errors.RequestRejectedError,
        (
            "the service refuses the request; it would be refused again, so change what it names "
            "(RequestFailedError: said the server)"
        ),
    ),
    (
        request_failed(RequestErrorCategory.Server),
        errors.ServiceUnavailableError,
        f"the service accepted the request and then failed. {RESUME} (RequestFailedError: said the server)",
    ),
    (
        request_failed(RequestErrorCategory.Unknown),
        errors.ServiceUnavailableError,
        (
            "the service accepted the request and then failed, it does not say why. "
            f"{RESUME} (RequestFailedError: said the server)"
        ),
    ),
    (
        tinker.APIError("odd", REQUEST, body=None),
        errors.EngineError,
        f"the service failed. {RESUME} (APIError: odd)",
    ),
    (
        tinker.TinkerError("The api_key must start with the 'tml-' prefix"),
        errors.AuthenticationError,
        f"there is no usable API key. {SET_A_KEY} (TinkerError: The api_key must start with the 'tml-' prefix)",
    ),
    (
        tinker.TinkerError("TINKER_CREDENTIAL_CMD returned an empty credential."),
        errors.AuthenticationError,
        f"there is no usable API key. {SET_A_KEY} (TinkerError: TINKER_CREDENTIAL_CMD returned an empty credential.)",
    ),
    (
        tinker.TinkerError(),
        errors.EngineError,
        f"the service failed. {RESUME} (TinkerError)",
    ),
]


class RetryableException(Exception):  # noqa: N818 - the name of the SDK's private class
    """Stands for the SDK's class of this name, which is private."""


OTHER_ERRORS = [
    (
        ValueError("Error retrieving result: bad with status 400"),
        errors.RequestRejectedError,
        (
            "the service refuses the request; it would be refused again, so change what it names "
            "(ValueError: Error retrieving result: bad with status 400)"
        ),
    ),
    (
        ValueError("The server predates proto response serialization for this type."),
        errors.EngineError,
        (
            f"the service answered in a form that the SDK does not know. {VERSIONS} "
            "(ValueError: The server predates proto response serialization for this type.)"
        ),
    ),
    (
        AssertionError(),
        errors.EngineError,
        f"a check inside the SDK failed. {VERSIONS} (AssertionError)",
    ),
    (
        RuntimeError("this TrainingClient is poisoned and cannot accept further requests."),
        errors.ServiceUnavailableError,
        (
            f"an earlier request failed, and this training client takes no more. {RESUME} "
            "(RuntimeError: this TrainingClient is poisoned and cannot accept further requests.)"
        ),
    ),
    (
        RuntimeError("ServiceClient is closed"),
        errors.EngineError,
        "this client is closed. Make a new one with connect() (RuntimeError: ServiceClient is closed)",
    ),
    (
        RuntimeError("prompt_logprobs_last_n=2 was requested but …; it may predate this feature"),
        errors.EngineError,
        (
            f"the service answered in a form that the SDK does not know. {VERSIONS} "
            "(RuntimeError: prompt_logprobs_last_n=2 was requested but …; it may predate this feature)"
        ),
    ),
    (
        TimeoutError(),
        errors.ServiceUnavailableError,
        "no answer in time. The operation itself goes on; wait longer for it (TimeoutError)",
    ),
    (
        CancelledError(),
        errors.ServiceUnavailableError,
        f"the operation was cancelled before it ran. {RESUME} (CancelledError)",
    ),
    (ConnectionRefusedError("no"), errors.ServiceUnavailableError, f"{UNREACHABLE} (ConnectionRefusedError: no)"),
    (
        RetryableException("Promise expired/broken for request 7"),
        errors.ServiceUnavailableError,
        (
            f"the service no longer has the result of this request. {RESUME} "
            "(RetryableException: Promise expired/broken for request 7)"
        ),
    ),
]


@pytest.mark.parametrize(("error", "kind", "message"), SDK_ERRORS + OTHER_ERRORS, ids=lambda case: type(case).__name__)
def test_an_error_is_mapped_to_the_most_specific_class_with_what_to_do(error, kind, message):
    ours = translate(error, "save_state of step 3")
    assert type(ours) is kind
    assert str(ours) == f"save_state of step 3: {message}"
    assert ours.__cause__ is error
    assert str(pickle.loads(pickle.dumps(ours))) == str(ours)  # noqa: S301 - our own bytes


def test_no_error_of_the_sdk_is_forgotten():
    def below(kind):
        return {kind} | {each for sub in kind.__subclasses__() for each in below(sub)}

    known = below(tinker.TinkerError)
    # The SDK says "tinker" of what it exports, and the true module of what it keeps to itself.
    public = {kind for kind in known if kind.__module__ == "tinker"}
    assert public == {type(error) for error, _, _ in SDK_ERRORS}
    exported = {
        kind
        for kind in (getattr(tinker, name) for name in tinker.__all__)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    }
    assert exported == public
    for kind in known - public:
        assert issubclass(type(translate(kind.__new__(kind, "inside"))), errors.EngineError)


def test_the_private_error_of_the_sdk_is_still_called_that():
    from tinker.lib import retryable_exception

    assert retryable_exception.RetryableException.__name__ == RetryableException.__name__


@pytest.mark.parametrize("error", [TypeError("a defect"), KeyError("weights"), RuntimeError("CUDA out of memory")])
def test_a_defect_keeps_its_type(error):
    assert translate(error) is error
    with pytest.raises(type(error)) as info, mapped("sample"):
        raise error
    assert info.value is error


def test_our_own_errors_pass_unchanged():
    error = errors.CheckpointError("gone")
    assert translate(error) is error


def test_mapped_lets_results_pass_and_chains_errors():
    with mapped("sample"):
        result = 1
    assert result == 1
    original = status(429)
    with pytest.raises(errors.RateLimitError) as info, mapped("sample"):
        raise original
    assert info.value.__cause__ is original


def test_interrupts_are_not_touched():
    with pytest.raises(KeyboardInterrupt), mapped("sample"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "error",
    [
        status(404),
        status(400, "Model Qwen/Qwen9 is not supported"),
        status(422, "unknown base model"),
        request_failed(RequestErrorCategory.User, "invalid model name"),
    ],
    ids=["404", "400", "422", "failed request"],
)
def test_an_unknown_model_is_named_with_those_that_exist(error):
    ours = translate(error, "create", model="Qwen/Qwen3-8b", known_models=["Qwen/Qwen3-8B", "meta-llama/Llama-3.2-1B"])
    assert type(ours) is errors.ModelNotFoundError
    assert str(ours).split(" (", 1)[0] == "create: the service does not have the model 'Qwen/Qwen3-8b'"
    assert "(did you mean 'Qwen/Qwen3-8B'?). It has: Qwen/Qwen3-8B, meta-llama/Llama-3.2-1B" in str(ours)


def test_without_a_list_the_way_to_the_models_is_named():
    ours = translate(status(404), "create", model="nobody/nothing")
    assert str(ours) == (
        "create: the service does not have the model 'nobody/nothing'. `tinker model list` shows its models "
        "(NotFoundError 404: said the server)"
    )


def test_a_long_list_of_models_is_counted():
    ours = translate(status(404), "create", model="x", known_models=[f"model-{i:03}" for i in range(MODELS_SHOWN + 2)])
    assert "model-029 and 2 more" in str(ours)
    assert "model-030" not in str(ours)


def test_a_refusal_that_is_not_about_the_model_is_not_blamed_on_it():
    ours = translate(status(400, "rank must be a power of two"), "create", model="Qwen/Qwen3-8B")
    assert type(ours) is errors.RequestRejectedError


def test_keys_never_appear_in_a_message():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_def"  # noqa: S105 - a made-up token
    ours = translate(status(401, f"key {KEY} and {token} are unknown"), "create")
    assert KEY not in str(ours)
    assert token not in str(ours)
    assert str(ours).endswith("(AuthenticationError 401: key tml-… and eyJ… are unknown)")
    assert redact("nothing to hide, tml- alone") == "nothing to hide, tml- alone"
