"""A small part of every campaign: each disturbs a run or two, and nothing may be lost, repeated, different or raw."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from attrs import evolve

from tests.campaigns.kinds import CAMPAIGNS, HARMLESS, REFUSED, Stage
from tests.campaigns.process import STEPS, Report
from tests.support.source import ROOT

pytest.importorskip("torch")


def test_disturbed_runs_end_as_if_nothing_had_been():
    # In a process of its own, as the processes that it forks must begin before anything has been trained.
    command = [sys.executable, "-m", "tests.campaigns", "--minutes", "0", "--seed", "1"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^\| (.+?) \| (\d+) \|", done.stdout, re.MULTILINE))
    assert set(rows) == {*CAMPAIGNS, "**all**"}
    assert min(int(runs) for name, runs in rows.items() if "disk" not in name) >= 1


WHOLE = Report(
    state=("a", "b"), metrics="".join(f'{{"step": {step}, "train/loss": 1.0}}\n' for step in range(STEPS + 1))
)


def test_what_a_campaign_looks_for_is_counted(tmp_path):
    stage = Stage("model", tmp_path, WHOLE, 1.0)
    lines = WHOLE.metrics.splitlines(keepends=True)
    tally = stage.compared(evolve(WHOLE, metrics="".join([*lines[:4], lines[3], *lines[5:]])))
    assert (tally.lost, tally.repeated, tally.different, tally.clean) == (1, 1, 1, False)
    other = stage.compared(evolve(WHOLE, state=("a", "c")))
    assert (other.lost, other.repeated, other.different) == (0, 0, 1)
    assert stage.compared(WHOLE).clean
    assert stage.compared(evolve(WHOLE, error="OSError")).raw == 1


def test_two_dozen_changes_are_tried():
    assert len(REFUSED) + len(HARMLESS) >= 24
