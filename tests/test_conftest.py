"""The guards of the suite itself."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.conftest import NetworkInTestError, is_loopback

OUTSIDE = "192.0.2.1"  # TEST-NET-1: reserved for documentation, routed nowhere


def test_a_connection_to_the_outside_is_refused_with_the_address():
    with socket.socket() as sock, pytest.raises(NetworkInTestError) as caught:
        sock.connect((OUTSIDE, 443))
    assert str(caught.value) == (
        "tests are hermetic: refused a connection to 192.0.2.1:443; serve it on 127.0.0.1 instead"
    )


def test_a_polling_connection_and_ipv6_are_refused_too():
    with socket.socket() as sock, pytest.raises(NetworkInTestError):
        sock.connect_ex((OUTSIDE, 443))
    with socket.socket(socket.AF_INET6) as sock, pytest.raises(NetworkInTestError):
        sock.connect(("2001:db8::1", 443, 0, 0))


def test_a_name_is_not_even_looked_up():
    with pytest.raises(NetworkInTestError) as caught:
        socket.create_connection(("example.org", 443))
    assert str(caught.value) == "tests are hermetic: refused to look up 'example.org'; serve it on 127.0.0.1 instead"


def test_asyncio_is_guarded():
    async def leave() -> None:
        await asyncio.open_connection(OUTSIDE, 443)

    with pytest.raises(NetworkInTestError):
        asyncio.run(leave())


def test_loopback_works():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        sock.sendall(b"here")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(4) == b"here"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        (b"localhost", True),
        (None, True),
        ("10.0.0.1", False),
        ("::2", False),
        ("localhost.example.org", False),
        (b"example.org", False),
    ],
)
def test_what_counts_as_this_machine(host, expected):
    assert is_loopback(host) is expected


def test_the_environment_is_clean():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["TINKER_TELEMETRY"] == "0"
    assert [name for name in os.environ if name.startswith("TINKER_")] == ["TINKER_TELEMETRY"]
    assert not (Path.home() / ".tinker").exists()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_changed_environment_does_not_reach_the_next_test(turn):
    assert "GLOWGENIUS_LEAK" not in os.environ
    os.environ["GLOWGENIUS_LEAK"] = str(turn)


def test_examples_are_the_same_on_every_machine():
    assert (settings().derandomize, settings().deadline, settings().database) == (True, None, None)


def test_conftest_loads_nothing_heavy():
    code = "import sys, tests.conftest; print(sorted({'torch', 'transformers', 'tinker', 'numpy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
