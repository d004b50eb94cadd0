"""No key is printed, raised, chained, pickled, copied or written, in any encoding of it."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import traceback
import urllib.parse

import httpx
import pytest
import tinker

import glowgenius as gg
from glowgenius import _secrets
from glowgenius._secrets import redact, remember
from glowgenius.engines.errors import mapped, translate
from glowgenius.errors import AuthenticationError, ConfigError, EngineError, GlowGeniusError, NotPicklableError
from glowgenius.testing import ScriptedService
from glowgenius.training.connection import connect
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, trainer
from tests.wire.server import WireServer

CORE = "S3ntinel-0f/the+key_Ünless".replace("Ü", "U")
KEY = f"tml-{CORE}=="
FOREIGN = "sentinel key\nof another kind é\x07"
"""What somebody has put there by mistake."""


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(_secrets, "_known", set())
    for name in _secrets.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def spellings(key):
    data = key.encode()
    yield from (key, key.strip(), json.dumps(key), json.dumps(key, ensure_ascii=False), repr(key), ascii(key))
    yield from (repr(data), str([key]), str({"x-api-key": key}), json.dumps(json.dumps({"key": key})))
    yield from (urllib.parse.quote(key), urllib.parse.quote(key, safe=""), urllib.parse.quote_plus(key))
    yield from (data.hex(), urllib.parse.urlencode({"key": key}))
    for before in ("", ":", "u:", "us:"):
        for after in ("", ";", ";x"):
            text = (before + key + after).encode()
            yield from (base64.b64encode(text).decode(), base64.urlsafe_b64encode(text).decode())


def leaks(text, key=KEY):
    """Whether a part of *key* that nobody would write by chance is in *text*, in any encoding."""
    middle = key.strip().removeprefix("tml-")[:14].encode()
    found = [middle.decode(), repr(middle)[2:-1], json.dumps(middle.decode())[1:-1], middle.hex()]
    found += [urllib.parse.quote(middle, safe=""), urllib.parse.quote_plus(middle)]
    for shift in range(3):
        inner = base64.b64encode(b"\0" * shift + middle).decode().rstrip("=")
        found.append(inner[4:-3])
    return [spelling for spelling in found if spelling in text or spelling in text.replace("-", "+")]


def test_the_check_of_these_tests_finds_every_encoding():
    for key in (KEY, f"{KEY}\n"):
        assert [text for text in spellings(key) if not leaks(text, key)] == []


@pytest.mark.parametrize("source", ["remembered", "environment"])
@pytest.mark.parametrize("key", [KEY, f"{KEY}\n", f" {KEY}\r\n", "no-prefix/S3ntinel+key==", FOREIGN])
def test_a_known_key_is_cut_out_in_any_encoding(key, source, monkeypatch):
    if source == "environment":
        monkeypatch.setenv("TINKER_API_KEY", key)
    else:
        remember(key)
    for text in spellings(key):
        assert leaks(redact(f"before {text} after"), key) == [], text
    assert redact("before [] after") == "before [] after"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass-word@host:1/path?a=1", "http://…@host:1/path?a=1"),
        ("https://host/?a=1&api_key=abc&b=2", "https://host/?a=1&api_key=…&b=2"),
        ("https://host/?Access-Token=abc#x", "https://host/?Access-Token=…#x"),
        ("mail me@host.org, 3@4 and 'a://b'", "mail me@host.org, 3@4 and 'a://b'"),
    ],
)
def test_an_address_loses_what_opens_it(text, shown):
    assert redact(text) == shown


def everything(error):
    """All that a program, a log or another process can be shown of *error*, and of what it is chained to."""
    parts = ["".join(traceback.format_exception(error)), repr(error), str(error)]
    seen, waiting = set(), [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        parts += [str(one), repr(one), repr(one.args), repr(vars(one))]
        parts += [str(dict(request.headers)) for request in [vars(one).get("request")] if request is not None]
        waiting += [one.__cause__, one.__context__]
    return "\n".join([*parts, pickle.dumps(error).decode("latin-1")])


def status_error(kind, code, message):
    request = httpx.Request("POST", "http://host/api", headers={"X-API-Key": KEY, "Authorization": f"Bearer {KEY}"})
    response = httpx.Response(code, request=request, json={"detail": message})
    return kind(message, response=response, body={"detail": message})


def protocol_error():
    try:
        try:
            httpx.Headers({"x-api-key": KEY})["y"]
        except KeyError as error:
            error.args = (f"Illegal header value b'{KEY}\\n'",)
            raise httpx.LocalProtocolError(str(error)) from error
    except httpx.LocalProtocolError as error:
        ours = tinker.APIConnectionError(request=httpx.Request("GET", "http://host", headers={"X-API-Key": KEY}))
        ours.__cause__ = error
        ours.add_note(f"with {KEY}")
        return ours


def decoding_error():
    try:
        KEY.encode().decode("utf-16-be") if len(KEY) % 2 else f"{KEY}x".encode().decode("utf-16-be")
        return json.JSONDecodeError("Expecting value", KEY, 0)
    except UnicodeDecodeError as error:
        return error


RAISED = {
    "401": lambda: status_error(tinker.AuthenticationError, 401, f"key {KEY} is unknown"),
    "500": lambda: status_error(
        tinker.InternalServerError, 500, f"Traceback: {base64.b64encode(KEY.encode()).decode()}"
    ),
    "400": lambda: status_error(tinker.BadRequestError, 400, urllib.parse.quote(KEY, safe="")),
    "illegal header": protocol_error,
    "ValueError": lambda: ValueError(f"Illegal header value {f'{KEY} '.encode()!r}"),
    "RuntimeError": lambda: RuntimeError({"key": KEY}),
    "OSError": lambda: ConnectionError(111, f"refused {KEY}", f"/{KEY}"),
    "defect": lambda: TypeError(f"got {KEY}"),
    "JSON": lambda: json.JSONDecodeError("Expecting value", f"<html>{KEY}", 0),
    "encoding": lambda: UnicodeEncodeError("ascii", f"é{KEY}", 0, 1, "ordinal not in range"),
    "group": lambda: ExceptionGroup("several", [ValueError(KEY), TypeError(KEY)]),
    "plain": lambda: tinker.TinkerError(f"The api_key {KEY} has expired"),
}


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
def test_an_error_of_the_sdk_and_its_whole_chain_lose_the_key(make):
    remember(KEY)
    with pytest.raises(Exception) as caught, mapped("forward_backward of step 3"):  # noqa: PT011 - any class
        raise make()
    assert leaks(everything(caught.value)) == []
    assert leaks(everything(translate(make()))) == []


def test_our_own_errors_and_logs_lose_it_too():
    remember(KEY)
    error = ConfigError(f"no {KEY}")
    error.add_note(f"and no {KEY}")
    assert leaks(everything(error)) == []
    assert str(error) == "no tml-…"


# --- keys that are none ---

DIRTY = [f"{KEY}\n", f" {KEY}", f"{KEY}\r\n", f"\t{KEY}\u00a0", f"\ufeff{KEY}"[1:] + "\x0b"]
BROKEN = [f"{KEY}\n{KEY}", f"tml-é{CORE}", f"tml-{CORE}\x00", f"tml-{CORE} x", f"tml-\u200b{CORE}", f"\ufeff{KEY}"]


@pytest.mark.parametrize("key", DIRTY)
@pytest.mark.parametrize("source", ["api_key", "TINKER_API_KEY"])
def test_white_space_around_a_key_is_left_out_and_said(key, source, tmp_path):
    options = {"api_key": key} if source == "api_key" else {}
    environment = {"HOME": str(tmp_path), **({} if options else {"TINKER_API_KEY": key})}
    with WireServer(ScriptedService(), api_key=KEY) as server:
        connection = connect(base_url=server.url, environment=environment, **options)
        assert connection.reason == f"base_url was given (the white space around {source} was left out)"
        connection.service.create_sampling_client(base_model="scripted").result(timeout=60)
        assert "create_session" in server.requests  # the SDK was let in with the clean one
        connection.service.close("success").result(timeout=60)
    assert leaks(f"{connection}{connection!r}") == []


@pytest.mark.parametrize("key", BROKEN)
@pytest.mark.parametrize("source", ["api_key", "TINKER_API_KEY", "stored"])
@pytest.mark.parametrize("check", [True, False])
def test_a_key_with_a_strange_character_is_refused_and_not_printed(key, source, check, tmp_path):
    options = {"api_key": key} if source == "api_key" else {}
    environment = {"HOME": str(tmp_path), **({"TINKER_API_KEY": key} if source == "TINKER_API_KEY" else {})}
    if source == "stored":
        (tmp_path / ".tinker").mkdir()
        stored = {"version": 1, "default": "a", "keys": {"a": {"type": "manual", "key": key, "name": "a"}}}
        (tmp_path / ".tinker" / "credentials.json").write_text(json.dumps(stored))
    with pytest.raises(
        AuthenticationError, match=r"connect: .* has .* at place \d+ of \d+, which no key has"
    ) as caught:
        connect("tinker", base_url="http://127.0.0.1:1", check=check, environment=environment, **options)
    assert leaks(everything(caught.value), key) == []
    assert CORE not in everything(caught.value)


@pytest.mark.parametrize("key", [b"tml-bytes", 5])
def test_a_key_that_is_no_text_is_refused(key):
    with pytest.raises(AuthenticationError, match="must be a string"):
        connect("tinker", api_key=key, environment={})


@pytest.mark.parametrize(
    "address", ["http://[::1", f"http://me:{KEY}@host:port", f"ftp://me:{KEY}@host", f"http://?key={KEY}", KEY]
)
@pytest.mark.parametrize("check", [True, False])
def test_an_address_that_is_none_is_refused_and_its_key_not_printed(address, check):
    with pytest.raises(GlowGeniusError) as caught:
        connect("tinker", api_key="tml-other", base_url=address, check=check, environment={})
    assert leaks(everything(caught.value)) == []


# --- what can be pickled, copied, printed and written ---


@pytest.fixture
def service():
    with WireServer(ScriptedService(tokenizer=TOKENIZER), api_key=KEY) as server:
        made = tinker.ServiceClient(base_url=server.url, api_key=KEY)
        yield made
        made.close("success").result(timeout=60)


def test_nothing_of_a_run_over_the_wire_holds_the_key(service, tmp_path, caplog, capsys, monkeypatch):
    remember(KEY)
    caplog.set_level(logging.DEBUG)
    events = []

    callbacks = [gg.ProgressBar(), gg.SampleLogger(["Q?"]), gg.on(gg.TrainBegin, events.append)]
    callbacks += [gg.on(kind, events.append) for kind in (gg.StepEnd, gg.EvaluateBegin, gg.EvaluateEnd, gg.TrainEnd)]
    made = trainer(service, callbacks=callbacks, max_steps=2, output_dir=tmp_path / "run")
    result = made.train(TRAIN, HELD_OUT)
    sampler = result.sampler
    assert events
    shown = capsys.readouterr()
    assert leaks(shown.out + shown.err + caplog.text) == []
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or leaks(path.read_bytes().decode("latin-1")) == [], path

    objects = [made, result, sampler, result.history, result.cost, *result.checkpoints, *events, made.base_sampler()]
    for one in objects:
        for twin in (one, copy.copy(one)):
            assert leaks(f"{twin!r}{twin}") == []
        if one in (made, result):
            with pytest.raises(NotPicklableError):
                pickle.dumps(one)
        else:
            assert leaks(pickle.dumps(one).decode("latin-1")) == []

    again = pickle.loads(pickle.dumps(sampler))  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps(again)).name == sampler.name  # noqa: S301 - before it has connected
    with pytest.raises(AuthenticationError, match="Sampler: there is no API key for Tinker"):
        again.generate("Q1?")
    monkeypatch.setenv("TINKER_API_KEY", f"{KEY}\n")
    assert again.generate("Q1?") == sampler.generate("Q1?")
    again.client.holder.close()  # nobody else knows of its session
    assert copy.deepcopy(sampler).client is sampler.client


def test_a_sampler_whose_address_holds_a_password_is_not_pickled():
    class Client:
        def get_sampler_handle(self):
            state = {"holder": {"base_url": f"http://me:{KEY}@host"}}
            return base64.urlsafe_b64encode(json.dumps(state).encode()).decode()

    with pytest.raises(NotPicklableError, match="the address of its server holds a password") as caught:
        pickle.dumps(gg.Sampler(Client(), RENDERER))
    assert leaks(everything(caught.value)) == []


def test_what_lives_in_this_process_says_so_instead_of_travelling():
    made = trainer(max_steps=1)
    result = made.train(TRAIN)
    for one, advice in [(result, "history"), (result.sampler, "run folder"), (made, "without service=")]:
        with pytest.raises(NotPicklableError, match=advice):
            pickle.dumps(one)
        assert type(copy.copy(one)) is type(one)
    free = pickle.loads(pickle.dumps(gg.SupervisedTrainer("scripted")))  # noqa: S301 - our own bytes
    assert free.base_model == "scripted"


def test_a_failed_run_writes_down_no_key(tmp_path):
    remember(KEY)
    echo = RuntimeError(f"the session of {KEY} is closed")
    failing = ScriptedService(tokenizer=TOKENIZER, fail_on={"optim_step": {2: echo}})
    with pytest.raises(EngineError) as caught:
        trainer(failing, max_steps=3, output_dir=tmp_path / "run").train(TRAIN)
    assert leaks(everything(caught.value)) == []
    for path in (tmp_path / "run").iterdir():
        assert leaks(path.read_bytes().decode("latin-1")) == [], path
