"""`ProgressBar`: the progress of a run in a terminal or a log."""

from __future__ import annotations

import math
import os
import textwrap
from typing import TYPE_CHECKING, TextIO, cast, final

from typing_extensions import override

from glowgenius._output import Output, showable
from glowgenius.training.callbacks.base import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from glowgenius.training.events import (
        EvaluateEnd,
        ServiceWait,
        StepEnd,
        TrainBegin,
        TrainEnd,
        TrainFailed,
        TrainRestart,
    )

_LINES = 10
"""Into how many lines a run is divided where there is no terminal."""


@final
class ProgressBar(Callback):
    """Prints the header of the run, then its progress.

    In a terminal, a bar with the losses beside it. Elsewhere (a notebook, a file, a pipe, a CI log, which is where `CI`
    is set) a line after every tenth of the run, and one for every evaluation with what it measured: nothing is drawn
    over, and no control characters are written. A wait for the service and a restart are a line in both.
    A stream that fails or is closed ends the output and not the run.

    Args:
        file: Where to; None is standard output as it is when the run begins.
        width: Columns of the bar's line; None asks the terminal.
        header: Whether to print the header of the run.
    """

    shows_header = True

    def __init__(self, *, file: TextIO | None = None, width: int | None = None, header: bool = True) -> None:
        self._header = header
        self._file = file
        self._width = width
        self._console: Console | None = None
        self._bar: tuple[Progress, TaskID] | None = None
        self._total = 0
        self._trained: dict[str, float] = {}
        self._evaluated: dict[str, float] = {}

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._total = event.total_steps
        self._trained, self._evaluated = {}, {}
        self._console = self._new_console()
        for line in event.header if self._header else ():
            self._print(line)
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = self._new_bar(self._console, event.start_step, event.total_steps)
            self._bar[0].start()

    @override
    def on_step_end(self, event: StepEnd) -> None:
        self._trained = {"train loss": event.loss, "rate": event.learning_rate}
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=event.step, epoch=f"epoch {event.epoch}", figures=showable(self._shown()))
        elif event.step == self._total or _tenth(event.step, self._total) > _tenth(event.step - 1, self._total):
            self._print(f"step {event.step}/{self._total}, epoch {event.epoch}: {_figures(self._trained)}")

    @override
    def on_evaluate_end(self, event: EvaluateEnd) -> None:
        measured = {name.replace("eval/", "eval "): value for name, value in event.metrics.items()}
        self._evaluated = measured
        if self._bar is not None and self._trained:
            bar, task = self._bar
            bar.update(task, figures=showable(self._shown()))
        best = ", best so far" if event.is_best else ""
        self._print(f"step {event.step}/{self._total}: {_figures(measured)}{best}")

    @override
    def on_service_wait(self, event: ServiceWait) -> None:
        self._print(event.message)

    @override
    def on_train_restart(self, event: TrainRestart) -> None:
        self._trained, self._evaluated = {}, {}
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=event.step, figures="", refresh=True)
        self._print(event.message)

    @override
    def on_train_end(self, event: TrainEnd) -> None:
        self._close()
        best = "" if event.best_step in (None, event.step) else f"; best at step {event.best_step}"
        self._print(f"done: {event.step} steps, {event.trained_tokens:,} tokens trained ({event.stop_reason}){best}")
        self._console = None

    @override
    def on_train_failed(self, event: TrainFailed) -> None:
        self._close()
        if self._console is not None:
            # Ctrl-C has no message.
            why = ": ".join(filter(None, [type(event.error).__name__, str(event.error)]))
            self._print(f"ended after step {event.step} of {self._total}: {why}")
        self._console = None

    def _new_console(self) -> Console:
        from rich.console import Console  # imported here because a run without a bar does not need it

        file = Output.standard(self._file)
        # Decided here: rich would take FORCE_COLOR, which CI logs like, for a terminal to draw over, and would show
        # each line of a notebook as a display of its own.
        draws = file.isatty() and not is_ci(os.environ)
        stream = cast("TextIO", file)
        return Console(file=stream, width=self._width, highlight=False, force_terminal=draws, force_jupyter=False)

    def _new_bar(self, console: Console, start: int, total: int) -> tuple[Progress, TaskID]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.fields[epoch]}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            # What other callbacks print goes above the bar, not through it.
            redirect_stdout=self._file is None,
            redirect_stderr=self._file is None,
        )
        task = bar.add_task("", total=total, completed=start, epoch="", figures="")
        return bar, task

    def _shown(self) -> str:
        return _figures({**self._trained, **self._evaluated})

    def _print(self, line: str) -> None:
        if self._console is None:
            return
        line = showable(line)
        if self._console.is_terminal:
            line = wrapped(line, self._console.width)
        # No rich markup: a path or a question may contain square brackets. No rich wrapping: it breaks long paths.
        self._console.print(line, markup=False, soft_wrap=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


def is_ci(environment: Mapping[str, str]) -> bool:
    """Whether this runs in a CI system, by the variable `CI`; some of them offer a pseudo-terminal."""
    return environment.get("CI", "").lower() not in {"", "0", "false"}


def wrapped(text: str, width: int) -> str:
    """The lines of *text* wrapped at words for a terminal of *width* columns; long words are not broken."""
    lines = (
        textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.splitlines()
    )
    return "\n".join(piece for pieces in lines for piece in pieces)


def _tenth(step: int, total: int) -> int:
    return math.floor(step * _LINES / total)


def _figures(values: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if name == "rate" else f"{name} {value:.4f}" for name, value in values.items()
    )
