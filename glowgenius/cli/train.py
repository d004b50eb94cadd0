"""`glowgenius train`: from a file of rows to a tuned model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from glowgenius._output import Output
from glowgenius.cli.common import DataFile, JSONOption, interrupted_code, print_json, say, say_error, typed, verb
from glowgenius.cli.settings import Header, Options, make_trainer, rows_of, takes, trackers

if TYPE_CHECKING:
    from glowgenius.training.connection import Connection
    from glowgenius.training.result import TrainingResult


@verb
@takes("run", "lora", "training", "data")
def train(data: DataFile, *, options: Options, as_json: JSONOption = False) -> int:
    """Train on DATA, and say everything that was chosen.

    Without options: a tenth of the rows is held out, the engine is Tinker where there is a key and else this machine,
    and the run goes into a new folder in runs/. Ctrl-C saves and leaves; --resume goes on.

    Example: `glowgenius train train.jsonl --rank 8 --num-epochs 5 -o runs/nyc`
    """
    from glowgenius.errors import ConfigError
    from glowgenius.training.callbacks.progress import ProgressBar

    if options["resume"] and options["output_dir"] is None:
        raise ConfigError("--resume goes on with the run in --output-dir; name that folder")
    options["output_dir"] = folder = (options["output_dir"] or _new_folder(data.name.split(".")[0])).expanduser()
    rows, held = rows_of(data, options, as_json=as_json)
    bar = ProgressBar(file=cast("TextIO", Output(sys.stderr)) if as_json else None, header=False)
    trainer = make_trainer(
        options,
        held,
        service=_connection(options["engine"], options["device"], folder),
        callbacks=[Header(as_json=as_json), bar, *trackers(options["report_to"], folder)],
    )
    try:
        result = trainer.train(
            rows,
            eval_dataset=held,
            resume_from_checkpoint=True if options["resume"] else None,
            initial_weights=options["initial_weights"],
            dropped_rows=options["drop_row"] or (),
        )
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, folder)
    _tell(result, folder, has_held=held is not None, as_json=as_json)
    return 0


def _interrupted(interrupt: KeyboardInterrupt, folder: Path) -> int:
    """Say what to do after Ctrl-C, and return the exit code."""
    from glowgenius.training.run_folder import RunFolder

    code = say_error(interrupt, interrupted_code(interrupt))
    if RunFolder(folder).exists():
        say(f"to go on, give the same command with this behind it: -o {typed(folder)} --resume", as_json=True)
    else:
        say("nothing had been trained yet: begin again with the same command", as_json=True)
    return code


def _new_folder(stem: str) -> Path:
    """`runs/<stem>`, or the first of `runs/<stem>-2`, … where no run is."""
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return folder


def _connection(engine: str, device: str | None, folder: Path) -> Connection | None:
    """None leaves the choice to the trainer, which says why."""
    from glowgenius.training.connection import connect, which_engine
    from glowgenius.training.run_folder import STORE

    if engine == "auto" and device is None:
        return None
    chosen, _ = which_engine(engine, os.environ)
    return connect(engine, checkpoint_directory=folder / STORE if chosen == "local" else None, device=device)


def _tell(result: TrainingResult, folder: Path, *, has_held: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": str(folder),
                "steps": result.final_checkpoint.step,
                "stop_reason": result.stop_reason,
                "best_step": result.best_step,
                "trained_tokens": result.trained_tokens,
                "seconds": result.seconds,
                "last": dict(result.history.last),
            }
        )
        return
    say(f"\nthe run is in {folder}. What next:", as_json=False)
    run = typed(folder)
    steps = {
        **({f"glowgenius compare {run}": "base against tuned on the held-out rows"} if has_held else {}),
        f"glowgenius chat {run}": "ask both",
        f"glowgenius report {run}": "the run on one page",
        f"glowgenius export {run} adapter": "the adapter for peft",
    }
    width = max(map(len, steps))
    for command, does in steps.items():
        say(f"  {command:{width}}  # {does}", as_json=False)
