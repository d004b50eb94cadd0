"""The command line in a real terminal: chat, Ctrl-C, and what is missing without its library."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.source import ROOT
from tests.support.tiny_models import write_tiny_model

pexpect = pytest.importorskip("pexpect", reason="not installed: pexpect; pip install '.[test]'")
pytest.importorskip("typer", reason="not installed: typer; pip install '.[cli]'")
pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"Q{row}?", "answer": f"A{row}"} for row in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def spawn(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONWARNINGS": "ignore"}
    words = ["-m", "glowgenius", *[str(argument) for argument in arguments]]
    return pexpect.spawn(
        sys.executable, words, cwd=folder, env=environment, encoding="utf-8", timeout=120, dimensions=(40, 160)
    )


def test_a_run_interrupted_resumed_and_talked_to(tmp_path, model, data):
    options = ("--model", model, "--rank", 2, "--batch-size", 2, "--learning-rate", "0.01", "-o", "run")
    options += ("--num-epochs", 400, "--save-every", 5)
    child = spawn(tmp_path, "train", data, *options)
    child.expect("train loss")
    child.sendintr()
    child.expect("interrupted")
    child.expect("give the same command with this behind it: -o run --resume")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in child.before

    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    child = spawn(tmp_path, "train", data, *options, "--max-steps", steps[-1] + 2, "--resume")
    child.expect(f"resume: from step {steps[-1]}")
    child.expect("What next")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0

    child = spawn(tmp_path, "chat", "run", "--max-tokens", 5)
    child.expect("you> ")
    child.sendline("Q1?")
    child.expect("base> ")
    child.expect("tuned> ")
    child.expect("you> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_whoever_interrupts_does_not_wait_for_the_thread_of_an_engine():
    code = """
import threading, time
from glowgenius.cli import app as application, main
def interrupted(**_):
    threading.Thread(target=time.sleep, args=(60,), name="glowgenius-local").start()
    print("interrupted")
    raise SystemExit(130)
application.app = interrupted
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted\n", "")


def test_without_its_library_it_says_how_to_get_it():
    code = "import sys; sys.modules['typer'] = None; from glowgenius.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the command line needs the package 'typer', which is not installed. "
        "Install it with: pip install 'glowgenius[cli]'\n"
    )
