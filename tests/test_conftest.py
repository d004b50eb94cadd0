"""The guards of the suite itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from coverage import CoverageData
from hypothesis import settings

from tests.conftest import NetworkInTestError, Watched, is_loopback

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


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_starts_in_an_empty_folder_of_its_own(turn, tmp_path):
    assert Path.cwd() == tmp_path
    assert list(Path.cwd().iterdir()) == []
    Path("runs").mkdir()
    Path("runs/here").write_text(str(turn))


def test_processes_find_the_package_and_the_tests_and_leave_their_temporary_files_in_the_session(tmp_path):
    code = "import os, tempfile, glowgenius, tests; print(os.getcwd()); print(tempfile.gettempdir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}\n{tempfile.gettempdir()}\n"
    assert Path(tempfile.gettempdir()).is_relative_to(Path.home())


def test_new_files_of_a_tree_are_named_once(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").touch()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    watched = Watched(tmp_path)
    assert watched.new_files() == []
    (tmp_path / "docs" / "new" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "new" / "deep" / "a.txt").touch()
    (tmp_path / "top.json").touch()
    (tmp_path / "runs" / "nyc").mkdir()
    (tmp_path / "runs" / "mine" / "metrics.jsonl").touch()  # somebody else's run goes on beside us
    for name in ("__pycache__", ".pytest_cache", "docs/__pycache__"):
        (tmp_path / name).mkdir()
    assert watched.new_files() == ["docs/new", "docs/new/deep", "docs/new/deep/a.txt", "runs/nyc", "top.json"]
    assert watched.new_files() == []
    (tmp_path / "top.json").unlink()
    assert watched.new_files() == []


UNTIDY = """
import pathlib, pytest
HERE = pathlib.Path(__file__).parent
def test_tidy(): pathlib.Path("mine").touch()
def test_untidy(): (HERE / "left.txt").touch()
def test_after(): assert not pathlib.Path("mine").exists()
@pytest.fixture(scope="module")
def prepared(): pathlib.Path("shared").touch()
def test_prepared(prepared): pass
def test_last(): pass
"""


def test_a_test_that_leaves_files_fails_and_the_next_one_does_not(tmp_path):
    """The guard itself, in a clone of its own, started from another folder beside somebody's runs."""
    tests = tmp_path / "clone" / "tests"
    tests.mkdir(parents=True)
    (tmp_path / "clone" / "runs").mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), tests)
    (tests / "test_untidy.py").write_text(UNTIDY)
    (tests.parent / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rE", "-p", "no:cacheprovider", str(tests.parent)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "5 passed, 2 errors" in said, said
    why = "tests write into tmp_path only; this one, or a fixture that it began, left:"
    found = [line.removeprefix("E   ").strip() for line in said.splitlines() if why in line and line.startswith("E ")]
    assert found == [f"Failed: {why} tests/left.txt", f"Failed: {why} shared"]


MEASURED = """
import os, pathlib, subprocess, sys
def test_starts_another_pytest():
    pathlib.Path("test_inner.py").write_text("def test_inner(): pass")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "coverage" not in done.stdout
    assert [name for name in os.environ if name.startswith(("COV", "PYTEST_ADDOPTS", "PYTEST_XDIST"))] == []
"""


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_pytest_that_a_test_starts_measures_no_coverage_into_the_file_of_the_suite(workers, tmp_path):
    """As the gates run it, in a clone of its own: branches, every option and the data file from the environment."""
    tests = tmp_path / "clone" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("conftest.py"), tests)
    (tests / "test_measured.py").write_text(MEASURED)
    (tests.parent / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (tests.parent / ".coveragerc").write_text("[run]\nbranch = true\nsource = tests\n")
    (tmp_path / "data").mkdir()
    environment = {
        "PYTEST_ADDOPTS": "--cov --cov-report=term -p no:cacheprovider",
        "COVERAGE_FILE": str(tmp_path / "data" / "coverage"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *workers], cwd=tests.parent, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["coverage"]
    data = CoverageData(str(tmp_path / "data" / "coverage"))
    data.read()
    assert data.has_arcs()
    assert str(tests / "test_measured.py") in data.measured_files()
