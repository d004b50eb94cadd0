"""What every test stands on: no network, no keys, no user's caches, no files but its own, no luck.

Imports nothing heavy, so that a single small test starts at once.
"""

from __future__ import annotations

import gc
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

ROOT = Path(__file__).resolve().parents[1]
"""The repository. A test that reads its files names them by this path, as its working directory is its own."""

NOT_WATCHED = {".git", "__pycache__", "build", "dist", "htmlcov", "venv", "node_modules"}
"""Folders of the repository that tools fill while tests run, besides hidden ones and virtual environments."""

KEPT = "GLOWGENIUS_CACHE"
"""The one variable that comes in from outside: a folder of converted models that may be shared between sessions."""

OF_THIS_RUN = ("PYTEST_ADDOPTS", "PYTEST_XDIST_", "COV_", "COVERAGE_")
"""How the variables begin that say how this run of the suite goes. They are not for the processes that tests start: a
pytest that inherited them would measure its own coverage into the file of this one."""

SCRATCH = pytest.StashKey[Path]()
"""Where the session keeps its home, caches and converted models."""

REPOSITORY = pytest.StashKey["Watched"]()
"""What lay in the repository when the last test ended."""


def pytest_configure(config: pytest.Config) -> None:
    """Before collection: a clean environment and a closed network."""
    for name in list(os.environ):
        if name.startswith(("TINKER_", "HF_", "GLOWGENIUS_", "WANDB_", "MLFLOW_")) and name != KEPT:
            del os.environ[name]
    os.environ.update(SETTINGS)
    scratch = config.stash[SCRATCH] = Path(tempfile.mkdtemp(prefix="glowgenius-tests-"))
    for name in ("work", "temporary"):
        (scratch / name).mkdir()
    caches = {f"XDG_{kind}_HOME": str(scratch / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA", "STATE")}
    os.environ.update(HOME=str(scratch), HYPOTHESIS_STORAGE_DIRECTORY=str(scratch / "hypothesis"), **caches)
    os.environ.setdefault(KEPT, str(scratch / "models"))
    # Processes that tests start find the package and the tests from any folder.
    paths = [str(ROOT), *map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    config.stash[REPOSITORY] = Watched(ROOT)
    settings.register_profile("glowgenius", derandomize=True, deadline=None, database=None)
    settings.load_profile("glowgenius")
    socket.socket.connect = guarded_connect
    socket.socket.connect_ex = guarded_connect_ex
    socket.getaddrinfo = guarded_getaddrinfo


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Any:
    """Collecting makes millions of objects that stay as long as the session: the collector leaves them alone."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Before the first test, when coverage has started: the processes that tests start know nothing of this run."""
    if session.config.pluginmanager.hasplugin("dsession"):
        return  # runs no test itself, and a worker that it starts again needs them
    for name in list(os.environ):
        if name.startswith(OF_THIS_RUN):
            del os.environ[name]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of a session is left behind."""
    os.chdir(config.invocation_params.dir)
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


class Watched:
    """The names in every folder of a tree; asked again, it looks only into folders that have changed since.

    Args:
        root: The tree.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[str, tuple[int, frozenset[str]]] = {}
        self.new_files()

    def new_files(self) -> list[str]:
        """What has appeared since it was last asked, as paths below the root."""
        first, found = not self._seen, list[str]()
        # Folders that appear are appended while the list is walked.
        folders = [str(self._root), *(name for name in self._seen if name != str(self._root))]
        for folder in folders:
            try:
                changed = Path(folder).stat().st_mtime_ns
                if folder in self._seen and self._seen[folder][0] == changed:
                    continue
                entries = [entry for entry in os.scandir(folder) if self._counts(entry)]
            except FileNotFoundError:
                self._seen.pop(folder, None)
                continue
            before = self._seen.get(folder, (0, frozenset[str]()))[1]
            found += [entry.path for entry in entries if entry.name not in before]
            self._seen[folder] = (changed, frozenset(entry.name for entry in entries))
            # What is inside a run of somebody else is of no concern; that no run is added to them is.
            inside = Path(folder).name != "runs"
            folders += [
                e.path for e in entries if inside and e.is_dir(follow_symlinks=False) and e.path not in self._seen
            ]
        return [] if first else sorted(os.path.relpath(path, self._root) for path in found)

    @staticmethod
    def _counts(entry: os.DirEntry[str]) -> bool:
        if entry.name.startswith(".coverage") or entry.name.endswith((".egg-info", ".pyc")):
            return False
        if not entry.is_dir(follow_symlinks=False):
            return True
        hidden = entry.name.startswith(".") and entry.name != ".ci"
        return not hidden and entry.name not in NOT_WATCHED and not (Path(entry.path) / "pyvenv.cfg").exists()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """What a module or the whole session prepares is prepared in an empty folder, wherever pytest was started."""
    os.chdir(item.config.stash[SCRATCH] / "work")
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_go(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Any:
    """What is made by `tempfile`, here or in a process that a test starts, goes when the session ends."""
    tmp_path_factory.getbasetemp()  # the folders of tests are kept where they fail, so they stay outside
    before, tempfile.tempdir = tempfile.tempdir, str(pytestconfig.stash[SCRATCH] / "temporary")
    os.environ["TMPDIR"] = tempfile.tempdir
    yield
    tempfile.tempdir = before
    del os.environ["TMPDIR"]


@pytest.fixture(autouse=True)
def _works_in_a_folder_of_its_own(tmp_path: Path, pytestconfig: pytest.Config) -> Any:
    """Every test starts in its own empty folder, and leaves nothing in the repository."""
    os.chdir(tmp_path)
    yield
    between = pytestconfig.stash[SCRATCH] / "work"
    os.chdir(between)
    if left := [*pytestconfig.stash[REPOSITORY].new_files(), *(path.name for path in between.iterdir())]:
        shutil.rmtree(between)
        between.mkdir()  # the next test starts clean
        os.chdir(between)
        pytest.fail(f"tests write into tmp_path only; this one, or a fixture that it began, left: {', '.join(left)}")


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
