"""The counting behind docs/reliability.md: our loop loses and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.reliability import SCENARIOS, STEPS, Ours, Outcome, play, table

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
STOPS = ("a gradient fails, its update is made", "a checkpoint fails", "the service restarts and forgets the run")


@pytest.fixture(scope="module")
def expected():
    outcome, history = play(Ours(), (), None)
    assert (outcome.finished, outcome.starts, len(history), len(set(history))) == (True, 1, STEPS, STEPS)
    return history


@pytest.mark.parametrize("name", STOPS)
def test_no_update_is_lost_or_repeated(name, expected):
    [scenario] = (scenario for scenario in SCENARIOS if scenario.name == name)
    outcome, history = play(Ours(), scenario.faults, expected)
    assert outcome.fired == sum(fault.times for fault in scenario.faults)
    assert outcome.finished
    assert history == expected
    assert (outcome.lost, outcome.repeated, outcome.empty) == (0, 0, 0)


class Wrong(Ours):
    """Resumes from nothing and keeps what it has: a loop that has something to count."""

    def __init__(self, path_of):
        self._path_of = path_of

    def start(self, server, folder):
        path = super().start(server, folder)
        return self._path_of(server, path)


def test_what_is_missing_is_counted(expected):
    def first_checkpoint(server, _):
        return next(path for path, saved in server.backend.saved.items() if saved.resumable)

    outcome, history = play(Wrong(first_checkpoint), (), expected)
    assert (outcome.lost, outcome.repeated) == (STEPS - len(history), 0)
    assert 0 < len(history) < STEPS


def test_the_page_has_every_scenario():
    page = PAGE.read_text(encoding="utf-8")
    for scenario in SCENARIOS:
        assert page.count(f"| {scenario.name} | ") >= 2
    one = Outcome(
        fired=1, starts=2, restarts=0, lost=0, repeated=0, empty=0, finished=False, said="SomeError: x", seconds=1.0
    )
    assert (
        table({"s": {"l": one}}).splitlines()[-1] == "| s | 1 | l | 0 | 0 | 0 | 0 | 1 | `SomeError`, never finished |"
    )
