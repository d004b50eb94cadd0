"""Which engine is chosen, and what is said about it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

from glowgenius.engines import tinker_types
from glowgenius.engines.keys import KEY_SOURCES
from glowgenius.errors import AuthenticationError, ConfigError, MissingDependencyError
from glowgenius.training.connection import Connection, connect

KEY = "tml-secret-of-the-test"
SERVER = "http://127.0.0.1:1"
"""Where nobody listens."""

NO_KEY = (
    "connect: there is no API key for Tinker. Give one by TINKER_API_KEY, TINKER_CREDENTIAL_CMD or `tinker auth login` "
    "(a self-hosted server takes any that begins with 'tml-'), or train on this machine with engine='local'"
)


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def choose(home):
    def choose(engine="auto", *, environment=None, **options):
        return connect(engine, environment={"HOME": str(home), **(environment or {})}, **options)

    return choose


def store(home, content):
    path = home / ".tinker" / "credentials.json"
    path.parent.mkdir()
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("environment", "options", "reason"),
    [
        ({"TINKER_API_KEY": KEY}, {}, "TINKER_API_KEY is set"),
        ({"TINKER_CREDENTIAL_CMD": "print-key"}, {}, "TINKER_CREDENTIAL_CMD is set"),
        ({}, {"api_key": KEY}, "api_key was given"),
    ],
)
def test_a_key_chooses_tinker(choose, environment, options, reason):
    connection = choose(environment=environment, **options)
    assert (connection.engine, connection.reason, connection.address) == ("tinker", reason, None)
    assert isinstance(connection.service, tinker_types.ServiceClient)
    assert str(connection) == f"engine: tinker (over the network), because {reason}"


@pytest.mark.parametrize(
    ("environment", "options", "reason"),
    [
        ({"TINKER_BASE_URL": SERVER, "TINKER_CREDENTIAL_CMD": "x"}, {}, "TINKER_BASE_URL is set"),
        ({"TINKER_API_KEY": KEY, "TINKER_BASE_URL": SERVER}, {}, "TINKER_API_KEY is set"),
        ({"TINKER_API_KEY": KEY}, {"base_url": SERVER}, "base_url was given"),
        ({"TINKER_API_KEY": KEY, "TINKER_BASE_URL": "http://127.0.0.1:2"}, {"base_url": SERVER}, "base_url was given"),
    ],
)
def test_an_address_is_said_and_chooses_tinker(choose, environment, options, reason):
    connection = choose(environment=environment, check=False, **options)
    assert isinstance(connection.service, tinker_types.ServiceClient)
    assert str(connection) == f"engine: tinker (the server at {SERVER}), because {reason}"


def test_a_stored_key_chooses_tinker(choose, home):
    store(home, {"version": 1, "default": "a", "keys": {"a": {"type": "manual", "key": KEY, "name": "a"}}})
    assert str(choose()) == "engine: tinker (over the network), because `tinker auth login` has stored a key"


@pytest.mark.parametrize("content", ["{broken", "[]", '{"default": ["a"], "keys": {}}'])
def test_credentials_that_cannot_be_read_are_left_to_the_sdk(choose, home, content):
    store(home, content)
    assert choose().engine == "tinker"


@pytest.mark.parametrize(
    "content",
    [{"version": 1, "default": None, "keys": {}}, {"version": 1, "default": "gone", "keys": {}}, {}],
    ids=["logged out", "key gone", "empty"],
)
def test_credentials_without_a_default_key_are_none(choose, home, content):
    store(home, content)
    assert choose().engine == "local"


@pytest.mark.parametrize(
    "environment", [{}, {"TINKER_API_KEY": "", "TINKER_BASE_URL": "", "TINKER_CREDENTIAL_CMD": ""}]
)
def test_without_a_key_this_machine_trains(choose, environment):
    from glowgenius.local.service import ServiceClient

    connection = choose(environment=environment)
    assert isinstance(connection.service, ServiceClient)
    assert str(connection) == (
        f"engine: local (on this machine: {connection.service.description}), "
        f"because no key for Tinker was found ({KEY_SOURCES})"
    )
    connection.service.close("success").result()


def test_the_home_directory_is_the_users_without_a_variable(monkeypatch, home):
    monkeypatch.setenv("HOME", str(home))
    store(home, {"default": "a", "keys": {"a": {}}})
    assert connect(environment={}).reason == "`tinker auth login` has stored a key"


def test_a_choice_of_the_user_goes_before_what_is_found(choose, tmp_path):
    folder = tmp_path / "checkpoints"
    connection = choose("local", environment={"TINKER_API_KEY": KEY}, checkpoint_directory=folder)
    described = connection.service.description
    assert str(connection) == f"engine: local (on this machine: {described}), because engine='local' was asked for"
    connection.service.close("success").result()
    connection = choose("tinker", environment={"TINKER_API_KEY": KEY})
    assert str(connection) == "engine: tinker (over the network), because engine='tinker' was asked for"


@pytest.mark.parametrize(
    ("engine", "found"),
    [("tinkr", "'tinkr' (did you mean 'tinker'?)"), ("LOCAL", "'LOCAL' (did you mean 'local'?)"), ("gpu", "'gpu'")],
)
def test_an_unknown_engine_is_refused(choose, engine, found):
    with pytest.raises(ConfigError) as info:
        choose(engine)
    assert str(info.value) == f"connect: engine must be one of 'auto', 'local', 'tinker', got {found}"


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        (
            "local",
            {"base_url": "http://127.0.0.1:1"},
            (
                "connect: base_url belongs to engine='tinker', but the other engine was chosen because "
                "engine='local' was asked for; pass engine='tinker', or leave base_url out"
            ),
        ),
        (
            "local",
            {"api_key": KEY},
            (
                "connect: api_key belongs to engine='tinker', but the other engine was chosen because "
                "engine='local' was asked for; pass engine='tinker', or leave api_key out"
            ),
        ),
        (
            "auto",
            {"api_key": KEY, "checkpoint_directory": "runs"},
            (
                "connect: checkpoint_directory belongs to engine='local', but the other engine was chosen because "
                "api_key was given; pass engine='local', or leave checkpoint_directory out"
            ),
        ),
    ],
)
def test_an_argument_of_the_other_engine_is_refused(choose, engine, options, message):
    with pytest.raises(ConfigError) as info:
        choose(engine, **options)
    assert str(info.value) == message
    assert KEY not in str(info.value)


@pytest.mark.parametrize(
    ("engine", "options"),
    [("tinker", {}), ("auto", {"base_url": "http://127.0.0.1:1"})],
)
def test_tinker_without_a_key_is_refused_at_once(choose, engine, options):
    with pytest.raises(AuthenticationError) as info:
        choose(engine, **options)
    assert str(info.value) == NO_KEY


@pytest.mark.parametrize(
    ("environment", "options", "source"),
    [({"TINKER_API_KEY": "sk-wrong"}, {}, "TINKER_API_KEY"), ({}, {"api_key": "sk-wrong"}, "api_key")],
)
def test_what_is_no_key_is_refused_at_once_and_not_shown(choose, environment, options, source):
    with pytest.raises(AuthenticationError) as info:
        choose(environment=environment, **options)
    assert str(info.value) == (
        f"connect: {source} is not a Tinker key, as it does not begin with 'tml-'; copy it whole from the console, "
        "or train on this machine with engine='local'"
    )


def test_a_command_for_keys_stands_in_for_a_wrong_one(choose):
    environment = {"TINKER_API_KEY": "sk-wrong", "TINKER_CREDENTIAL_CMD": "print-key"}
    assert choose(environment=environment).engine == "tinker"


def test_a_key_is_neither_shown_nor_pickled(choose):
    connection = choose(api_key=KEY)
    assert repr(connection) == "Connection(engine='tinker', reason='api_key was given', address=None)"
    assert KEY not in f"{connection} {connection!r}"
    with pytest.raises(TypeError) as info:
        pickle.dumps(connection)
    assert str(info.value) == (
        "a Connection cannot be pickled, as its service may hold an API key; call connect() there"
    )


def test_a_connection_cannot_be_changed():
    connection = Connection(service=None, engine="local", reason="why not")
    with pytest.raises(AttributeError):
        connection.engine = "tinker"


def test_without_torch_the_reason_for_the_local_engine_is_said(choose, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("glowgenius.local")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("glowgenius.local", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError) as info:
        choose()
    assert str(info.value) == (
        "the local engine needs the package 'torch', which is not installed. "
        "Install it with: pip install 'glowgenius[local]'. "
        f"The local engine was chosen because no key for Tinker was found ({KEY_SOURCES})"
    )
    assert info.value.name == "torch"


def test_choosing_loads_neither_the_sdk_nor_torch():
    code = (
        "import sys; from glowgenius.training.connection import connect\n"
        "try: connect('tinker', environment={'HOME': '/nonexistent'})\n"
        "except PermissionError: print(sorted({'tinker', 'torch', 'transformers', 'numpy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
