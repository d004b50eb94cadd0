"""One call of `train`, from the header to the result or the error, with restarts."""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from attrs import asdict, evolve, frozen

from glowgenius._files import write_whole
from glowgenius._output import announce, logger
from glowgenius._secrets import redact
from glowgenius.engines.protocol import checkpoint_directory
from glowgenius.errors import EngineError, GlowGeniusError, RateLimitError, ServiceUnavailableError, TrainingError
from glowgenius.training.events import Restart, TrainBegin, TrainEnd, TrainFailed, TrainRestart
from glowgenius.training.loop import TrainingLoop
from glowgenius.training.recorder import Recorder
from glowgenius.training.replay_targets import taught
from glowgenius.training.requests import handled
from glowgenius.training.result import TrainingResult, write_page
from glowgenius.training.run_folder import HELD_OUT, TRAINED
from glowgenius.training.run_identity import preview_of, settings_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.data.dataset import Dataset
    from glowgenius.engines.protocol import FutureLike, TrainingClient
    from glowgenius.training.loop import Clock, RunContext
    from glowgenius.training.requests import StopTraining
    from glowgenius.training.resume import Start
    from glowgenius.training.run_folder import RunFolder
    from glowgenius.training.run_identity import AdaptedModel
    from glowgenius.typing import JSON

WORTH_A_RESTART: Final = (ServiceUnavailableError, RateLimitError)
"""Errors that may be gone the next time: the service's own, the network's, too many requests.

Not those that would only come again: a refused request, a key, a bill, a missing checkpoint, an answer in a form that
the SDK does not know; and not an error of this library or of a callback.
"""

FIRST_PAUSE: Final = 5.0
"""Seconds before the second restart; each further pause is 4 times as long.

There is none before the first, as the SDK itself has tried for minutes by then.
"""

LONGEST_PAUSE: Final = 300.0
"""Seconds before a restart, at most."""

_LOG = logger("glowgenius.training")

T = TypeVar("T")


def worth_a_restart(error: BaseException) -> bool:
    """Whether the same requests may succeed with a new client."""
    return isinstance(error, WORTH_A_RESTART)


def pause_before(restart: int) -> float:
    """Seconds to wait before restart number *restart*, from 1."""
    return 0.0 if restart == 1 else min(FIRST_PAUSE * 4.0 ** (restart - 2), LONGEST_PAUSE)


def with_retries(request: Callable[[], T], *, retries: int, clock: Clock) -> T:
    """The result of *request*, made again where the service fails; for what comes before the first update.

    Nothing has been trained by then, so there is nothing to set back.

    Raises:
        EngineError: Another try is not worth it, or there have been *retries* of them.
    """
    for number in itertools.count(1):
        try:
            return request()
        except EngineError as error:
            if not worth_a_restart(error) or number > retries:
                if number > 1:
                    error.add_note(f"it was tried {number} times (max_restarts={retries}); start again later")
                raise
            _LOG.warning("the run cannot begin yet; retry %d of %d: %s", number, retries, error)
        clock.sleep(pause_before(number))
    raise AssertionError


@final
class Attempts:
    """Runs the loop, and again from the last checkpoint after a service failure.

    A failed gradient may have been followed by its update all the same, so nothing is sent again to the same client:
    the steps behind the checkpoint are made anew on a client that stands where the checkpoint does.

    Args:
        run: What the run is made of.
        recorder: Its rows and checkpoints; a restart sets it back.
        make_client: A client that resumes from a state, or a fresh one for None.
        max_restarts: How often the run may be restarted.
    """

    def __init__(
        self,
        run: RunContext,
        recorder: Recorder,
        make_client: Callable[[str | None], TrainingClient],
        max_restarts: int,
    ) -> None:
        self._run = run
        self._recorder = recorder
        self._make_client = make_client
        self._max_restarts = max_restarts
        self._initial = run.callbacks.state()
        self.restarts: tuple[Restart, ...] = ()
        """Every restart so far."""

    def train(self, client: TrainingClient, start: Start) -> tuple[TrainingClient, StopTraining | None]:
        """Train to the end.

        Returns:
            The client that got there, and the request that ended the run early, if one did.

        Raises:
            EngineError: It is not worth a restart, or there have been as many as there may be.
        """
        failed_step = start.step
        made: TrainingClient | None = client
        while True:
            agenda = start.agenda(self._run.rows.plan.total_steps)
            try:
                if made is None:
                    made = self._make_client(start.state_path)
                loop = TrainingLoop(made, self._run, self._recorder, agenda)
                try:
                    loop.run(start.step)
                finally:
                    failed_step = max(start.step, loop.submitted)
            except EngineError as error:
                start = self._restart(error, failed_step)
                made = None
            else:
                return made, agenda.stop

    def _restart(self, error: EngineError, failed_step: int) -> Start:
        """Reset to the last checkpoint, report the restart, and wait briefly.

        Raises:
            EngineError: *error*, if this was the last time.
        """
        number = len(self.restarts) + 1
        if not worth_a_restart(error):
            raise error
        if number > self._max_restarts:
            if self.restarts:
                error.add_note(f"the run had been restarted {len(self.restarts)} times before (max_restarts)")
            raise error
        self._run.meter.count_lost(self._recorder.step, failed_step)
        start = self._recorder.rewind()
        self._run.callbacks.load_state(start.records[-1].callbacks if start.records else self._initial)
        self._recorder.restarts += 1
        self.restarts += (
            Restart(
                failed_step=failed_step,
                from_step=start.step,
                error=type(error).__name__,
                message=redact(str(error)),
            ),
        )
        event = TrainRestart(
            step=start.step,
            failed_step=failed_step,
            error=error,
            restart=number,
            max_restarts=self._max_restarts,
        )
        _LOG.warning("%s", event.message)
        self._run.callbacks.dispatch(event)
        if pause := pause_before(number):
            self._run.clock.sleep(pause)
        return start


SLICE: Final = 0.2
"""Seconds after which a wait looks whether it has been interrupted."""


@final
class RunCancelled(KeyboardInterrupt):
    """The awaiting task was cancelled; handled like Ctrl-C."""


@final
class Interruption:
    """Interrupts a run from another thread; Python delivers signals to the main thread only."""

    def __init__(self) -> None:
        # Unlike a semaphore, a SimpleQueue may be used in a signal handler.
        self._presses: queue.SimpleQueue[KeyboardInterrupt] = queue.SimpleQueue()

    def press(self, interrupt: KeyboardInterrupt | None = None) -> None:
        """The first call makes the run save and stop, the second stops it at once; *interrupt* is what is raised."""
        self._presses.put(KeyboardInterrupt() if interrupt is None else interrupt)

    def unheard(self) -> KeyboardInterrupt | None:
        """The first interruption that no wait has raised yet."""
        with suppress(queue.Empty):
            return self._presses.get_nowait()
        return None

    def clock(self, clock: Clock) -> Clock:
        """*clock* whose waits raise a pending interruption."""

        def done_within(future: FutureLike[Any], seconds: float) -> bool:
            while True:
                self._raise_pressed(0.0)
                if clock.done_within(future, min(SLICE, seconds)):
                    return True
                seconds -= SLICE
                if seconds <= 0:
                    return False

        def sleep(seconds: float) -> None:
            self._raise_pressed(seconds)

        return evolve(clock, done_within=done_within, sleep=sleep)

    def _raise_pressed(self, seconds: float) -> None:
        with suppress(queue.Empty):
            raise self._presses.get(timeout=seconds) if seconds > 0 else self._presses.get_nowait()


async def in_thread(work: Callable[[Interruption], T]) -> T:
    """The result of *work*, run in a thread so that the event loop is not blocked.

    Raises:
        CancelledError: The task was cancelled, each time of which was a press; *work* has come to its end by then, and
            what it said then is the cause.
        KeyboardInterrupt: SIGTERM or SIGHUP arrived, each of which was a press too.
        BaseException: What *work* raised.
    """
    interruption = Interruption()

    def guarded() -> tuple[T | None, BaseException | None]:
        try:
            return work(interruption), None
        except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt in a future would end the event loop
            return None, error

    thread = asyncio.ensure_future(asyncio.to_thread(guarded))
    cancelled: asyncio.CancelledError | None = None
    with handled(interruption.press):
        while not thread.done():
            try:
                await asyncio.wait([thread])  # a cancelled `wait` does not cancel the thread
            except asyncio.CancelledError as error:
                cancelled = error
                interruption.press(RunCancelled())
    value, failure = thread.result()
    if cancelled is not None:
        for note in getattr(failure, "__notes__", ()):
            cancelled.add_note(note)
        raise cancelled from failure
    if failure is None:
        failure = interruption.unheard()  # it arrived after the last wait of the run, and ends the program
    if failure is not None:
        raise failure
    return cast("T", value)  # set whenever there was no failure


@final
@frozen(kw_only=True, eq=False)
class Session:
    """One checked call of `train`."""

    run: RunContext
    """What the run is made of."""

    model: AdaptedModel
    """The model, its adapter and its engine."""

    start: Start
    """Where the run begins."""

    folder: RunFolder | None
    """Where it is written."""

    train_rows: Dataset
    """The rows to learn, whose first are shown on the page of the run."""

    held_rows: Dataset | None
    """The evaluation rows, which the run folder keeps."""

    header: tuple[str, ...]
    """The run in a few lines."""

    def train(self, make_client: Callable[[str | None], TrainingClient]) -> TrainingResult:
        """Train the model; *make_client* is the first request, and receives the state to resume from.

        Raises:
            BaseException: Whatever ended the run, after every callback has received it.
        """
        callbacks, meter = self.run.callbacks, self.run.meter
        for line in self.header:
            announce(_LOG, line, shown=callbacks.show_header)
        recorder = Recorder(self.folder, self.start.rows, self.start.records)
        began = time.monotonic()
        writing = False
        try:
            callbacks.dispatch(self._train_begin())
            if self.start.records:
                callbacks.load_state(self.start.records[-1].callbacks)
            client = self._with_retries(lambda: make_client(self.start.state_path))
            if self.folder is not None:
                # Records the cost so far, or the next resume would not count it.
                spent = asdict(meter.usage)
                records = (*self.start.records[:-1], *(evolve(r, usage=spent) for r in self.start.records[-1:]))
                store = checkpoint_directory(client)
                self.folder.begin(self._settings(), self.start.rows, records, store=store, keep=self.start.behind)
                writing = True
                self._keep_preview(self.folder)
                self._keep_rows(self.folder)
            result = self._attempt(client, make_client, recorder, began)
            self._end(result)
        except BaseException as error:
            callbacks.dispatch_failure(TrainFailed(error=error, step=recorder.step))
            if self.folder is not None and writing:
                self._end_badly(self.folder, error, recorder.step)
            raise
        if self.folder is not None:
            write_page(run=self.folder.path)
        return result

    @property
    def _max_restarts(self) -> int:
        return self.run.config.max_restarts if self.model.can_restart else 0

    def _with_retries(self, request: Callable[[], T]) -> T:
        return with_retries(request, retries=self._max_restarts, clock=self.run.clock)

    def _end_badly(self, folder: RunFolder, error: BaseException, step: int) -> None:
        """Record how the run failed; if that fails too, *error* is still the one raised."""
        try:
            folder.end(_failure(error, step))
        except GlowGeniusError as failure:
            error.add_note(str(failure))
        else:
            write_page(run=folder.path)

    def _with_replay_targets(self) -> RunContext:
        """The run with soft targets for its replay rows; a complete run needs none."""
        if self.start.complete:
            return self.run
        self.run.meter.count_teacher()
        rows = self._with_retries(lambda: taught(self.run.rows, config=self.run.config, base=self.model.base_sampler))
        return evolve(self.run, rows=rows)

    def _keep_preview(self, folder: RunFolder) -> None:
        """Save the first rows with their masks for the HTML report."""
        try:
            folder.keep_preview(asdict(preview_of(self.train_rows, self.run.renderer, self.run.config)))
        except GlowGeniusError as error:
            _LOG.warning("the page of the run shows no masks: %s", error)

    def _keep_rows(self, folder: RunFolder) -> None:
        """Save the evaluation rows and the hashes of the training rows."""
        if self.run.rows.trained is not None:
            text = json.dumps(self.run.rows.trained.to_json(), allow_nan=False)
            write_whole(folder.path / TRAINED, f"{text}\n")
        if self.held_rows:
            self.held_rows.to_jsonl(folder.path / HELD_OUT)

    def _settings(self) -> dict[str, JSON]:
        rows = self.run.rows
        return settings_file(
            self.model,
            config=self.run.config,
            renderer=self.run.renderer,
            identity=self.run.identity,
            header=self.header,
            dropped={str(row): count for row, count in rows.train.left_out.items()},
            rows={
                "train": asdict(rows.train.counts),
                "eval": None if rows.evaluation is None else asdict(rows.evaluation.counts),
            },
        )

    def _train_begin(self) -> TrainBegin:
        plan = self.run.rows.plan
        return TrainBegin(
            header=self.header,
            config=self.run.config,
            base_model=self.model.base_model,
            engine=self.model.engine,
            start_step=self.start.step,
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            learning_rate=plan.learning_rate,
            has_evaluation=self.run.rows.evaluation is not None,
            resumed=bool(self.start.records) or self.start.anew,
            settings=self._settings(),
            rows=self.start.rows,
            cost=self.run.meter.estimate,
            least_usd=self.run.meter.least_usd(self.start.step),
        )

    def _attempt(
        self,
        client: TrainingClient,
        make_client: Callable[[str | None], TrainingClient],
        recorder: Recorder,
        began: float,
    ) -> TrainingResult:
        """Run the training loop to the end, with restarts where they can help."""

        def make_another(state: str | None) -> TrainingClient:
            another = make_client(state)
            if self.folder is not None:
                self.folder.add_store(checkpoint_directory(another))
            return another

        config, plan = self.run.config, self.run.rows.plan
        attempts = Attempts(self._with_replay_targets(), recorder, make_another, self._max_restarts)
        client, stop = attempts.train(client, self.start)
        if not recorder.records:
            reason = "no reason" if stop is None else stop.reason
            raise TrainingError(f"a callback stopped the run before its first update: {reason}")
        ended = "max_steps" if plan.cut_short else "completed"
        return TrainingResult(
            client=client,
            service=self.model.service,
            renderer=self.run.renderer,
            trained=self.run.rows.trained,
            context_length=self.run.rows.context,
            history=recorder.history,
            checkpoints=recorder.records,
            best_step=recorder.best_step(config.metric_for_best),
            stop_reason=ended if stop is None else stop.reason,
            use_step=None if stop is None else stop.use_step,
            restarts=attempts.restarts,
            cost=self.run.meter.cost,
            trained_tokens=recorder.trained_tokens,
            seconds=time.monotonic() - began,
            output_dir=config.output_dir,
        )

    def _end(self, result: TrainingResult) -> None:
        self.run.callbacks.dispatch(
            TrainEnd(
                step=result.final_checkpoint.step,
                stop_reason=result.stop_reason,
                best_step=result.best_step,
                trained_tokens=result.trained_tokens,
            )
        )
        if self.folder is not None:
            self.folder.end(
                {
                    "status": "completed",
                    "stop_reason": result.stop_reason,
                    "step": result.final_checkpoint.step,
                    "best_step": result.best_step,
                    "sampler_step": result.sampler_step,
                    "state_path": result.final_checkpoint.state_path,
                    "sampler_path": result.final_checkpoint.sampler_path,
                    "trained_tokens": result.trained_tokens,
                    "cost": result.cost.to_json(),
                    "restarts": [restart.to_json() for restart in result.restarts],
                    "seconds": round(result.seconds, 3),
                }
            )


def _failure(error: BaseException, step: int) -> dict[str, JSON]:
    """How the run ended, with API keys removed from the message."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    name = "CancelledError" if isinstance(error, RunCancelled) else type(error).__name__
    return {"status": status, "step": step, "error": name, "message": redact(str(error))}
