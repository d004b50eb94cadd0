"""What every test stands on: no network, no keys, no user's caches, no luck.

Imports nothing heavy, so that a single small test starts at once.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts its background jobs so; Ctrl-C is tested all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TINKER_TELEMETRY": "0",
    # The SDK reaches even a loopback server through HTTP_PROXY, and hangs there, unless it is told not to.
    "NO_PROXY": "127.0.0.1,localhost,::1",
    "no_proxy": "127.0.0.1,localhost,::1",
    # Two torch threads on a busy machine spin at barriers; libraries read these once, when they are loaded.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "COLUMNS": "120",
}
"""The environment of every test, set before any test module can import what reads it."""

KEPT = "GLOWGENIUS_CACHE"
"""The one variable that comes in from outside: a folder of converted models that may be shared between sessions."""

SCRATCH = pytest.StashKey[Path]()
"""Where the session keeps its home, caches and converted models."""


def pytest_configure(config: pytest.Config) -> None:
    """Before collection: a clean environment and a closed network."""
    for name in list(os.environ):
        if name.startswith(("TINKER_", "HF_", "GLOWGENIUS_", "WANDB_", "MLFLOW_")) and name != KEPT:
            del os.environ[name]
    os.environ.update(SETTINGS)
    scratch = config.stash[SCRATCH] = Path(tempfile.mkdtemp(prefix="glowgenius-tests-"))
    os.environ.update(HOME=str(scratch), XDG_CACHE_HOME=str(scratch / "cache"))
    os.environ.setdefault(KEPT, str(scratch / "models"))
    settings.register_profile("glowgenius", derandomize=True, deadline=None, database=None)
    settings.load_profile("glowgenius")
    socket.socket.connect = guarded_connect
    socket.socket.connect_ex = guarded_connect_ex
    socket.getaddrinfo = guarded_getaddrinfo


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of a session is left behind."""
    socket.socket.connect = plain_connect
    socket.socket.connect_ex = plain_connect_ex
    socket.getaddrinfo = plain_getaddrinfo
    shutil.rmtree(config.stash[SCRATCH], ignore_errors=True)


plain_connect = socket.socket.connect
plain_connect_ex = socket.socket.connect_ex
plain_getaddrinfo = socket.getaddrinfo


class NetworkInTestError(AssertionError):
    """A test tried to leave the machine."""


def is_loopback(host: object) -> bool:
    """Whether *host* is this machine by name or number; the empty name means any local interface."""
    text = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if text == "localhost":
        return True
    try:
        return ipaddress.ip_address(text.split("%")[0]).is_loopback
    except ValueError:
        return False


def refuse_network(sock: socket.socket, address: Any) -> None:
    """Raise unless *address* stays on this machine."""
    if sock.family in {socket.AF_INET, socket.AF_INET6} and not is_loopback(address[0]):
        message = (
            f"tests are hermetic: refused a connection to {address[0]}:{address[1]}; serve it on 127.0.0.1 instead"
        )
        raise NetworkInTestError(message)


def guarded_connect(self: socket.socket, address: Any) -> None:
    """`socket.connect` for loopback and local sockets only."""
    refuse_network(self, address)
    plain_connect(self, address)


def guarded_connect_ex(self: socket.socket, address: Any) -> int:
    """`socket.connect_ex` for loopback and local sockets only."""
    refuse_network(self, address)
    return plain_connect_ex(self, address)


def guarded_getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
    """`socket.getaddrinfo` for loopback only: a name that is looked up has already left the machine."""
    if not is_loopback(host):
        raise NetworkInTestError(f"tests are hermetic: refused to look up {host!r}; serve it on 127.0.0.1 instead")
    return plain_getaddrinfo(host, *rest, **named)


@pytest.fixture(autouse=True)
def _environment_is_restored() -> Any:
    """A test that changes the environment does not change the next one."""
    before = dict(os.environ)
    yield
    changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
    missing = before.keys() - os.environ.keys()
    leaked = sorted((changed.keys() | missing) - {"PYTEST_CURRENT_TEST"})
    os.environ.update({name: before[name] for name in leaked if name in before})
    for name in changed.keys() - before.keys() - {"PYTEST_CURRENT_TEST"}:
        del os.environ[name]
