"""What is asked of a server before the SDK is let at it, and what is said about each answer."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from glowgenius.engines.keys import check_server, shown
from glowgenius.errors import AuthenticationError, ConfigError, EngineError, ServiceUnavailableError
from glowgenius.training.connection import connect
from tests.wire.sdk import scripted_server

KEY = "tml-secret-of-the-probe"
SKIP = "connect(check=False) leaves out this question"


class Answers:
    """A server with one answer to everything."""

    def __init__(self, status, body, **headers):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                seen.append((self.path, self.headers.get("X-API-Key"), json.loads(content)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def refused(url, key=KEY, **options):
    with pytest.raises(Exception, match="connect: ") as info:
        check_server(url, key, sdk_version="0.38.0", **options)
    assert KEY not in str(info.value)
    return info.value


@pytest.mark.parametrize("body", [b"{}", b'{"unknown_setting": 1}'])
def test_a_server_that_knows_the_question_is_let_be(body):
    with Answers(200, body) as server:
        check_server(server.url, KEY, sdk_version="0.38.0")
        check_server(server.url + "/", None, sdk_version="0.38.0")
    path = "/api/v1/client/config"
    assert server.seen == [(path, KEY, {"sdk_version": "0.38.0"}), (path, None, {"sdk_version": "0.38.0"})]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_key_is_not_sent_on_to_another_address(status):
    with Answers(200, b"{}") as other, Answers(status, b"", Location=other.url) as server:
        error = refused(server.url)
    assert type(error) is EngineError
    assert f"sends on to another address (status {status})" in str(error)
    assert other.seen == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[]", b'{"half', b"\xff", b"[" * 100_000])
def test_what_is_no_answer_of_a_tinker_server_is_named(body):
    with Answers(200, body) as server:
        assert "does not answer in JSON" in str(refused(server.url))


@pytest.mark.parametrize("status", [404, 405])
def test_an_older_server_is_named(status):
    with Answers(status, b"{}") as server:
        error = refused(server.url)
    assert type(error) is EngineError
    assert str(error) == (
        f"connect: the server at {server.url} is older than the Tinker SDK 0.38.0 here, or is no Tinker server: it "
        "does not know /api/v1/client/config. The SDK would wait for it and not fail. Install a newer server, or in an "
        f"environment of its own the SDK that it was made for. {SKIP}"
    )


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b""])
def test_another_kind_of_server_is_named(body):
    with Answers(200, body) as server:
        error = refused(server.url)
    assert str(error) == (
        f"connect: the server at {server.url} is no Tinker server: it does not answer in JSON. Check the address. "
        f"{SKIP}"
    )


def test_a_server_that_fails_is_named():
    with Answers(503, b"busy") as server:
        error = refused(server.url)
    assert type(error) is ServiceUnavailableError
    assert str(error) == (
        f"connect: the server at {server.url} fails (status 503); the SDK would repeat its requests for minutes. Look "
        f"at its log. {SKIP}"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_said(status):
    with Answers(status, b"{}") as server:
        error = refused(server.url)
        # Without a fixed key, the SDK has one that is not known here.
        check_server(server.url, None, sdk_version="0.38.0")
    assert type(error) is AuthenticationError
    assert str(error) == (
        f"connect: the server at {server.url} refuses the API key (status {status}). Give the key of this server"
    )


@pytest.mark.parametrize("status", [400, 422, 429])
def test_other_answers_are_left_to_the_sdk(status):
    with Answers(status, b"{}") as server:
        check_server(server.url, KEY, sdk_version="0.38.0")


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = refused(f"http://somebody:secret@127.0.0.1:{port}")
    assert type(error) is ServiceUnavailableError
    assert str(error).startswith(f"connect: the server at http://127.0.0.1:{port} does not answer ([Errno ")
    assert str(error).endswith(
        "Connection refused). Check that it runs and that the address is right; with a proxy set, NO_PROXY must cover "
        f"a server on this machine. {SKIP}"
    )


def test_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.2)
    assert "does not answer (nothing within 0.2 s)." in str(error)


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://host", "http://", "localhost"])
def test_an_address_needs_a_scheme_and_a_host(address):
    error = refused(address)
    assert type(error) is ConfigError
    assert str(error) == f"connect: base_url must be an address such as 'http://127.0.0.1:8000', got {address!r}"


def test_no_password_of_an_address_is_shown():
    assert shown("https://me:secret@host:1/path?x=1") == "https://host:1/path?x=1"


def test_connect_asks_a_server_of_your_own():
    with Answers(404, b"{}") as old, pytest.raises(EngineError, match="is older than the Tinker SDK"):
        connect(base_url=old.url, api_key=KEY)
    with scripted_server(api_key=KEY) as server:
        connection = connect(base_url=server.url, api_key=KEY)
        assert str(connection) == f"engine: tinker (the server at {server.url}), because base_url was given"
        assert server.requests == ["client/config"]
        with pytest.raises(AuthenticationError, match="refuses the API key"):
            connect(base_url=server.url, api_key="tml-another")
        connect(base_url=server.url, api_key=KEY, check=False)
        assert server.requests == ["client/config"]
