"""Temporary folders go with their owner, with their process, and with the next one where that was killed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glowgenius.engines.process import cached, clear_cache, temporary_folder, temporary_root


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path / "cache"))


class Owner:
    """Something that holds a folder."""


PROGRAM = """
import os, sys
from glowgenius.engines.process import temporary_folder

class Owner:
    pass

owner = Owner()
folder = temporary_folder(owner)
(folder / "state").write_text("x")
print(folder, flush=True)
{rest}
"""


def run(rest):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(rest=rest)], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_folder_goes_with_its_owner():
    one, other = Owner(), Owner()
    folder, stays = temporary_folder(one), temporary_folder(other)
    assert folder.is_dir()
    del one
    gc.collect()
    assert (folder.exists(), stays.is_dir()) == (False, True)


@pytest.mark.parametrize("rest", ["", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_a_process_that_ends_leaves_nothing(rest):
    done = run(rest)
    assert done.stdout.strip()
    assert list(temporary_root().iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one():
    done = run(f"os.kill(os.getpid(), {signal.SIGKILL:d})")
    left = done.stdout.strip()
    assert Path(left).exists()
    assert run("").returncode == 0
    assert list(temporary_root().iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_that_ends_takes_nothing_of_its_parent_away():
    done = run(
        "child = os.fork()\nif not child:\n    del owner\n    sys.exit(0)\n"
        "os.waitpid(child, 0)\nprint((folder / 'state').read_text())"
    )
    assert done.stdout.splitlines()[1:] == ["x"]


def test_clearing_leaves_what_others_keep_there_and_what_is_in_use(tmp_path):
    owner = Owner()
    used = temporary_folder(owner)
    (tmp_path / "cache" / "own").mkdir()
    for name in ("models", "checkpoints"):
        (tmp_path / "cache" / name / "deep").mkdir(parents=True)
    assert [part.name for part in cached()] == ["checkpoints", "models", "temporary"]
    assert [part.name for part in clear_cache()] == ["checkpoints", "models"]
    assert used.is_dir()
    assert sorted(part.name for part in (tmp_path / "cache").iterdir()) == ["own", "temporary"]
