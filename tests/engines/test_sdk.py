"""Clients of every version of the SDK have one interface; what a version lacks is said, with the one that has it."""

from __future__ import annotations

import functools
import inspect
import warnings
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import tinker

from glowgenius.engines import protocol, sdk, tinker_types
from glowgenius.engines.tinker_types import ModelInput, completed
from glowgenius.errors import RequestRejectedError

PAIRS = [
    (protocol.ServiceClient, sdk.OlderService),
    (protocol.TrainingClient, sdk.OlderTraining),
    (protocol.SamplingClient, sdk.OlderSampling),
]
CASES = [
    (asked, offered, name)
    for asked, offered in PAIRS
    for name, value in vars(asked).items()
    if inspect.isfunction(value) and not name.startswith("_")
]


@pytest.mark.parametrize(("asked", "offered", "name"), CASES, ids=lambda case: getattr(case, "__qualname__", case))
def test_an_older_client_has_every_method_of_the_protocol(asked, offered, name):
    def shape(kind):
        found = inspect.signature(getattr(kind, name)).parameters.values()
        return [(one.name, one.kind, one.default) for one in found]

    assert shape(offered) == shape(asked)


def test_what_is_no_client_of_the_sdk_stays_as_it_is():
    for thing in (None, object(), "text", SimpleNamespace(holder=1)):
        assert sdk.adapted(thing) is thing
        assert sdk.original(thing) is thing


def test_a_service_that_returns_clients_gets_the_interface_of_one_that_returns_futures():
    service = tinker.ServiceClient(base_url="http://127.0.0.1:9", api_key="tml-none")
    told = inspect.signature(tinker.ServiceClient.create_lora_training_client).return_annotation
    assert isinstance(sdk.adapted(service), sdk.OlderService) == (told == "TrainingClient")
    assert sdk.original(sdk.adapted(service)) is service


class WithoutMetadata:
    """A training client as 0.25 has it."""

    def __init__(self):
        self.saved = []

    def save_state(self, name, ttl_seconds=None, overwrite=False):
        self.saved.append((name, ttl_seconds, overwrite))
        return completed(name)


def test_metadata_that_cannot_be_kept_is_said_once_and_the_save_is_made(caplog):
    sdk._say_once.cache_clear()
    inner = WithoutMetadata()
    client = sdk.OlderTraining(inner)
    for _ in range(2):
        client.save_state("a", ttl_seconds=60, overwrite=True, user_metadata={"step": "1"})
    assert inner.saved == [("a", 60, True)] * 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"the Tinker SDK {tinker.__version__} here has no metadata of checkpoints; tinker 0.28 and later have them, "
        "if the server speaks that version. The run folder says the step of each all the same"
    )


@pytest.mark.parametrize(("last_n", "given"), [(None, [None, -1.0, -2.0]), (1, [None, None, -2.0])])
def test_logprobs_of_the_last_tokens_are_cut_out_of_all_of_them(last_n, given):
    def compute_logprobs(prompt):
        future: Future[list[float | None]] = Future()
        future.set_result([None, -1.0, -2.0])
        return future

    client = sdk.OlderSampling(SimpleNamespace(compute_logprobs=compute_logprobs))
    assert client.compute_logprobs(ModelInput.from_ints([1, 2, 3]), last_n).result() == given
    for wrong in (0, 3):
        with pytest.raises(RequestRejectedError, match=f"between 1 and 2, .* got {wrong}"):
            client.compute_logprobs(ModelInput.from_ints([1, 2, 3]), wrong)


# The SDK's own insides: guarded, and noticed when they go.


def test_the_connection_of_a_client_can_be_had_in_this_version():
    assert isinstance(inspect.getattr_static(tinker.ServiceClient, "holder"), property)
    assert "holder" in inspect.signature(tinker.TrainingClient.__init__).parameters
    assert "holder" in inspect.getsource(tinker.TrainingClient.__init__)


def test_without_the_connection_the_save_itself_is_waited_for_and_nothing_is_deleted():
    future = tinker_types.EngineFuture(Future())
    asked = []
    waited = SimpleNamespace(future=lambda: SimpleNamespace(exception=lambda: asked.append(1)))
    sdk.wait_for_place(SimpleNamespace(), waited)
    assert asked == [1]
    assert sdk.rest_client(SimpleNamespace()) is None
    assert not future.future().done()


def test_a_method_is_unwrapped_only_where_what_is_in_it_can_be_called_alike():
    def plain(self):
        return "told"

    @functools.wraps(plain)
    def deprecated(self):
        raise AssertionError("it warns")

    def other(self, address):
        return address

    @functools.wraps(other)
    def changed(self):
        return "told"

    assert sdk.undeprecated(deprecated)(None) == "told"
    assert sdk.undeprecated(changed)(None) == "told"
    assert sdk.undeprecated(plain)(None) == "told"


@pytest.mark.parametrize(("version", "warned"), [("0.25.0", 0), ("0.38.0", 0), ("0.39.0", 1), ("1.2.3", 1), ("x", 0)])
def test_a_newer_sdk_is_used_and_warned_about(version, warned):
    sdk._warn_of.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sdk._warn_of(version)
        sdk._warn_of(version)
    assert [str(one.message).split(" is ")[0] for one in caught] == [f"the Tinker SDK {version}"] * warned
