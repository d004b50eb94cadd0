"""What faults cost: each is injected into a run over the wire, and the updates in the final weights are counted.

    python -m tests.wire.reliability            # prints the table of docs/reliability.md
    python -m tests.wire.reliability --json table.json

Our trainer and the cookbook's loop, both as shipped, train over the real SDK against the same kind of server.
A run that stops is started again, as its user would, until it finishes. The updates in its last checkpoint are then
compared with those of the same loop's undisturbed run: what is missing was lost, what is there once too often was
repeated, and what only a failure can make (an update with no gradient) is empty.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from glowgenius.errors import GlowGeniusError
from glowgenius.testing import ScriptedService
from tests.wire.faults import Fault
from tests.wire.server import WireServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.wire.runs import Update

STEPS, SAVE_EVERY, BATCH = 12, 4, 2
MOST_STARTS = 4
"""How often a run is started before it is given up."""


@frozen
class Scenario:
    """What goes wrong."""

    name: str
    faults: tuple[Fault, ...]


SCENARIOS = (
    Scenario(
        "two answers 503 to a gradient", (Fault(kind="forward_backward", nth=6, times=2, action="status", status=503),)
    ),
    Scenario("two answers 429 to an update", (Fault(kind="optim_step", nth=6, times=2, action="status", status=429),)),
    Scenario(
        "answers 408 and 409",
        (
            Fault(kind="forward_backward", nth=3, action="status", status=408),
            Fault(kind="optim_step", nth=7, action="status", status=409),
        ),
    ),
    Scenario("the connection drops before an update", (Fault(kind="optim_step", nth=6, action="drop"),)),
    Scenario("an update is made, its answer lost", (Fault(kind="optim_step", nth=6, action="lose_reply"),)),
    Scenario("a gradient is made, its answer lost", (Fault(kind="forward_backward", nth=6, action="lose_reply"),)),
    Scenario(
        "results cannot be fetched for a while",
        (Fault(kind="retrieve_future", nth=9, times=4, action="status", status=503),),
    ),
    Scenario("the service hangs, then drops", (Fault(kind="forward_backward", nth=6, action="hang", seconds=1.0),)),
    Scenario("a gradient fails, its update is made", (Fault(kind="forward_backward", nth=7, action="fail"),)),
    Scenario("an update fails", (Fault(kind="optim_step", nth=7, action="fail"),)),
    Scenario("a checkpoint fails", (Fault(kind="save_weights", nth=2, action="fail"),)),
    Scenario("the key is refused once", (Fault(kind="forward_backward", nth=7, action="status", status=401),)),
    Scenario(
        "the service restarts and forgets the run",
        (Fault(kind="retrieve_future:optim_step", nth=7, action="restart", seconds=0.2),),
    ),
)


@frozen(kw_only=True)
class Outcome:
    """What became of one run."""

    fired: int
    starts: int
    restarts: int
    lost: int
    repeated: int
    empty: int
    finished: bool
    said: str
    seconds: float
    raw: int = 0
    """Errors that are not of this library."""


class Loop:
    """One way to train: `start` begins or resumes a run, and returns the path of its last state."""

    name: str

    def start(self, server: WireServer, folder: Path) -> str:
        raise NotImplementedError

    def restarts(self, folder: Path) -> int:
        return 0


class Ours(Loop):
    name = "glowgenius"

    def start(self, server: WireServer, folder: Path) -> str:
        from glowgenius.data.dataset import Dataset
        from glowgenius.rendering import ChatTemplateRenderer
        from glowgenius.testing import ByteTokenizer
        from glowgenius.training import SupervisedTrainer, TrainingConfig, connect

        rows = [{"question": f"Q{row}?", "answer": f"A{row}"} for row in range(STEPS * BATCH)]
        service = connect(base_url=server.url, api_key=server.api_key, check=False).service
        config = TrainingConfig(
            num_epochs=1, batch_size=BATCH, learning_rate=0.02, save_every=SAVE_EVERY, output_dir=folder
        )
        trainer = SupervisedTrainer(
            "scripted", service=service, renderer=ChatTemplateRenderer(ByteTokenizer()), config=config
        )
        again = True if folder.exists() else None
        try:
            result = trainer.train(Dataset.from_records(rows), resume_from_checkpoint=again)
        finally:
            with contextlib.suppress(Exception):
                service.close("success").result(timeout=20)
        return str(result.final_checkpoint.state_path)


class Cookbook(Loop):
    name = "cookbook"

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = tokenizer

    def start(self, server: WireServer, folder: Path) -> str:
        from tests.wire import cookbook

        rows = cookbook.write_rows(folder.parent / "rows.jsonl", STEPS * BATCH)
        os.environ["TINKER_API_KEY"] = server.api_key
        settings = cookbook.config(
            folder, str(self._tokenizer), rows, batch_size=BATCH, base_url=server.url, save_every=SAVE_EVERY
        )
        cookbook.run(settings)
        lines = (folder / "checkpoints.jsonl").read_text(encoding="utf-8").splitlines()
        return str(json.loads(lines[-1])["state_path"])


@contextlib.contextmanager
def quiet() -> Any:
    """Without what the loops print and log."""
    root = logging.getLogger()
    before = list(root.handlers)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            for handler in [handler for handler in root.handlers if handler not in before]:
                root.removeHandler(handler)
                handler.close()


def play(loop: Loop, faults: Sequence[Fault], expected: Sequence[Update] | None) -> tuple[Outcome, tuple[Update, ...]]:
    """One run with *faults*, started as often as it takes; against *expected*, if that is known."""
    began = time.monotonic()
    said, path, starts, raw = "", None, 0, 0
    with tempfile.TemporaryDirectory() as scratch, WireServer(ScriptedService(), faults=faults) as server:
        folder = Path(scratch) / "run"
        while path is None and starts < MOST_STARTS:
            starts += 1
            try:
                with quiet():
                    path = loop.start(server, folder)
            except Exception as error:  # noqa: BLE001 - what it is, is the finding
                said = said or f"{type(error).__name__}: {error}".splitlines()[0]
                raw += not isinstance(error, GlowGeniusError)
        history = () if path is None else server.backend.saved[path].history
        fired = len(server.faults.fired)
        created = server.requests.count("create_model") + server.requests.count("load_weights")
    wanted, found = Counter(expected or history), Counter(history)
    empty = sum(count for update, count in found.items() if not update.batches)
    outcome = Outcome(
        fired=fired,
        starts=starts,
        restarts=created - starts,
        lost=sum((wanted - found).values()),
        repeated=sum(count for update, count in (found - wanted).items() if update in wanted),
        empty=empty,
        finished=path is not None,
        said=said,
        seconds=round(time.monotonic() - began, 1),
        raw=raw,
    )
    return outcome, history


def table(results: dict[str, dict[str, Outcome]]) -> str:
    """The table in Markdown."""
    lines = [
        "| fault | times | loop | updates lost | repeated | empty | own restarts | started again | it said |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for scenario, outcomes in results.items():
        for loop, one in outcomes.items():
            ended = one.said.split(":")[0] if one.said else ""
            ended = f"`{ended}`" if ended else "finished"
            if not one.finished:
                ended += ", never finished"
            lines.append(
                f"| {scenario} | {one.fired} | {loop} | {one.lost} | {one.repeated} | {one.empty} | "
                f"{max(one.restarts, 0)} | {one.starts - 1} | {ended} |"
            )
    return "\n".join(lines)


def loops(scratch: Path) -> list[Loop]:
    """Those that can run here."""
    from tests.support.tiny_models import write_byte_tokenizer

    found: list[Loop] = [Ours()]
    try:
        import tinker_cookbook.supervised.train  # noqa: F401
    except ImportError as error:
        sys.stderr.write(f"the cookbook is left out: {error}\n")
    else:
        found.append(Cookbook(write_byte_tokenizer(scratch / "tokenizer")))
    return found


def measure(scenarios: Sequence[Scenario], say: Callable[[str], object]) -> dict[str, dict[str, Outcome]]:
    """Every scenario with every loop that can run here."""
    results: dict[str, dict[str, Outcome]] = {scenario.name: {} for scenario in scenarios}
    with tempfile.TemporaryDirectory() as scratch:
        for loop in loops(Path(scratch)):
            _, expected = play(loop, (), None)
            for scenario in scenarios:
                outcome, _ = play(loop, scenario.faults, expected)
                results[scenario.name][loop.name] = outcome
                say(f"{loop.name}: {scenario.name}: {outcome}\n")
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    os.environ.setdefault("TINKER_TELEMETRY", "0")
    results = measure(SCENARIOS, sys.stderr.write)
    if options.json:
        from attrs import asdict

        figures = {name: {loop: asdict(one) for loop, one in each.items()} for name, each in results.items()}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
