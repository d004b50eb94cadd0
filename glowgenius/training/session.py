"""One call of `train`: from the header to the result or the error, with its restarts."""

from __future__ import annotations

import asyncio
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
from glowgenius.training.cost import Meter
from glowgenius.training.events import Restart, TrainBegin, TrainEnd, TrainFailed, TrainRestart
from glowgenius.training.loop import TrainingLoop
from glowgenius.training.recorder import Recorder
from glowgenius.training.requests import handled
from glowgenius.training.result import RUN_PAGE, TrainingResult, write_page
from glowgenius.training.run_folder import HELD_OUT, TRAINED
from glowgenius.training.run_identity import settings_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.data.dataset import Dataset
    from glowgenius.engines.protocol import FutureLike, ServiceClient, TrainingClient
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.rendering.preview import Preview
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.cost import CostEstimate
    from glowgenius.training.initial_weights import InitialWeights
    from glowgenius.training.requests import Agenda, StopTraining
    from glowgenius.training.resume import Start
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.run_folder import RunFolder
    from glowgenius.training.submission import Clock
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


def worth_a_restart(error: BaseException) -> bool:
    """Whether the same requests, sent to a new client, may succeed."""
    return isinstance(error, WORTH_A_RESTART)


@final
class Attempts:
    """Runs the loop, and again from the last checkpoint where the service has failed.

    A failed gradient may have been followed by its update all the same, so nothing is sent again to the same client:
    the steps behind the checkpoint are made anew on a client that stands where the checkpoint does.

    Args:
        make_client: A client that goes on from a state, or a fresh one for None.
        make_loop: The loop around a client.
        callbacks: Who is told, and set back to the state that they had.
        recorder: What is kept, and set back as well.
        meter: Counts what was sent in vain.
        total_steps: The length of the run.
        max_restarts: How often it may be tried again.
        clock: Lets time pass before that.
    """

    def __init__(
        self,
        *,
        make_client: Callable[[str | None], TrainingClient],
        make_loop: Callable[[TrainingClient, Agenda], TrainingLoop],
        callbacks: Callbacks,
        recorder: Recorder,
        meter: Meter,
        total_steps: int,
        max_restarts: int,
        clock: Clock,
    ) -> None:
        self._make_client = make_client
        self._make_loop = make_loop
        self._callbacks = callbacks
        self._recorder = recorder
        self._meter = meter
        self._total_steps = total_steps
        self._max_restarts = max_restarts
        self._clock = clock
        self._initial = callbacks.state()
        self.restarts: tuple[Restart, ...] = ()
        """Every restart so far."""

    def run(self, client: TrainingClient, start: Start) -> tuple[TrainingClient, StopTraining | None]:
        """Train to the end.

        Returns:
            The client that got there, and the request that ended the run early, if one did.

        Raises:
            EngineError: It is not worth a restart, or there have been as many as there may be.
        """
        failed_step = start.step
        made: TrainingClient | None = client
        while True:
            agenda = start.agenda(self._total_steps)
            try:
                if made is None:
                    made = self._make_client(start.state_path)
                loop = self._make_loop(made, agenda)
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
        """Set everything back to the last checkpoint, say so, and wait a little.

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
        self._meter.count_lost(self._recorder.step, failed_step)
        start = self._recorder.rewind()
        self._callbacks.load_state(start.records[-1].callbacks if start.records else self._initial)
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
        self._callbacks.dispatch(event)
        if number > 1:
            self._clock.sleep(min(FIRST_PAUSE * 4.0 ** (number - 2), LONGEST_PAUSE))
        return start


T = TypeVar("T")

SLICE: Final = 0.2
"""Seconds after which a wait looks whether it has been interrupted."""


@final
class RunCancelled(KeyboardInterrupt):
    """The task that awaits the run was cancelled: what Ctrl-C is to a program."""


@final
class Interruption:
    """Interrupts a run from another thread, as a signal cannot: only the main thread is given those."""

    def __init__(self) -> None:
        # Unlike a semaphore, a queue of this kind may be used by the handler of a signal.
        self._presses: queue.SimpleQueue[KeyboardInterrupt] = queue.SimpleQueue()

    def press(self, interrupt: KeyboardInterrupt | None = None) -> None:
        """The first time the run saves and leaves, the second time it leaves at once; *interrupt* is what is raised."""
        self._presses.put(KeyboardInterrupt() if interrupt is None else interrupt)

    def clock(self, clock: Clock) -> Clock:
        """*clock*, whose waits raise what was pressed."""

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
    """What *work* returns, done in a thread, so that the event loop goes on.

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
                await asyncio.wait([thread])  # which leaves it alone when it is itself cancelled
            except asyncio.CancelledError as error:
                cancelled = error
                interruption.press(RunCancelled())
    value, failure = thread.result()
    if cancelled is not None:
        for note in getattr(failure, "__notes__", ()):
            cancelled.add_note(note)
        raise cancelled from failure
    if failure is not None:
        raise failure
    return cast("T", value)  # without a failure there is one


@final
@frozen(kw_only=True, eq=False)
class Session:
    """Everything that one run needs, checked."""

    base_model: str
    """The model that is adapted."""

    config: TrainingConfig
    """The settings."""

    engine: str
    """Where it runs."""

    service: ServiceClient | None
    """What made the client; None where only that was given."""

    renderer: Renderer
    """Between messages and tokens."""

    callbacks: Callbacks
    """Who is told."""

    run: PreparedRun
    """The rendered rows and the plan."""

    held: Dataset | None
    """The evaluation rows, which the run folder keeps."""

    identity: Mapping[str, JSON]
    """What decides the updates."""

    start: Start
    """Where it begins."""

    header: tuple[str, ...]
    """The run in a few lines."""

    initial: InitialWeights | None
    """The weights of an earlier training that it begins with; None where the adapter is fresh."""

    lora: LoRAConfig | None
    """The adapter; None where it came with a client."""

    rank: int | None
    """Its rank, where it is known."""

    folder: RunFolder | None
    """Where it is written."""

    clock: Clock
    """What time it is."""

    estimate: CostEstimate
    """What it is going to cost."""

    can_restart: bool
    """Whether the client can be made anew; one that was given cannot."""

    preview: Callable[[], Preview]
    """The first rows with their masks, for the page of the run."""

    teach: Callable[[PreparedRun], PreparedRun]
    """Puts what the base model finds likely into the rows that are to be trained on it."""

    def train(self, make_client: Callable[[str | None], TrainingClient]) -> TrainingResult:
        """Do it; *make_client* is the first request, and is given the state to go on from.

        Raises:
            BaseException: Whatever ended the run, after every callback has been told.
        """
        for line in self.header:
            announce(_LOG, line, shown=self.callbacks.show_header)
        recorder = Recorder(self.folder, self.start.rows, self.start.records)
        spent = self.start.spent(self.run)
        meter = Meter(run=self.run, config=self.config, estimate=self.estimate, spent=spent)
        began = time.monotonic()
        writing = False
        try:
            self.callbacks.dispatch(self._train_begin(meter))
            if self.start.records:
                self.callbacks.load_state(self.start.records[-1].callbacks)
            client = make_client(self.start.state_path)
            if self.folder is not None:
                # With what is known to be spent by now, or the next resume would not know of it.
                records = (*self.start.records[:-1], *(evolve(r, usage=asdict(spent)) for r in self.start.records[-1:]))
                store = checkpoint_directory(client)
                self.folder.begin(self._settings(), self.start.rows, records, store=store, keep=self.start.behind)
                writing = True
                self._keep_preview(self.folder)
                self._keep_rows(self.folder)
            result = self._loop(self._taught(meter), client, make_client, recorder, meter, began)
            self._end(result)
        except BaseException as error:
            self.callbacks.dispatch_failure(TrainFailed(error=error, step=recorder.step))
            if self.folder is not None and writing:
                self._end_badly(self.folder, error, recorder.step)
            raise
        if self.folder is not None:
            write_page(RUN_PAGE, self.folder.path)
        return result

    def _end_badly(self, folder: RunFolder, error: BaseException, step: int) -> None:
        """Write how the run ended; where that fails as well, *error* is still what is raised."""
        try:
            folder.end(_failure(error, step))
        except GlowGeniusError as failure:
            error.add_note(str(failure))
        else:
            write_page(RUN_PAGE, folder.path)

    def _taught(self, meter: Meter) -> PreparedRun:
        """The run with the targets of its replay rows; one that is complete asks for none."""
        if self.start.complete:
            return self.run
        meter.count_teacher()
        return self.teach(self.run)

    def _keep_preview(self, folder: RunFolder) -> None:
        try:
            folder.keep_preview(asdict(self.preview()))
        except GlowGeniusError as error:
            _LOG.warning("the page of the run shows no masks: %s", error)

    def _keep_rows(self, folder: RunFolder) -> None:
        """What is asked afterwards, and what tells which of it was trained."""
        if self.run.trained is not None:
            text = json.dumps(self.run.trained.to_json(), allow_nan=False)
            write_whole(folder.path / TRAINED, f"{text}\n")
        if self.held:
            self.held.to_jsonl(folder.path / HELD_OUT)

    def _settings(self) -> dict[str, JSON]:
        dropped = self.run.train.left_out
        return settings_file(
            base_model=self.base_model,
            lora=self.lora,
            rank=self.rank,
            config=self.config,
            renderer=self.renderer,
            engine=self.engine,
            identity=self.identity,
            header=self.header,
            dropped={str(row): count for row, count in dropped.items()},
            initial=self.initial,
            rows={
                "train": asdict(self.run.train.counts),
                "eval": None if self.run.evaluation is None else asdict(self.run.evaluation.counts),
            },
        )

    def _train_begin(self, meter: Meter) -> TrainBegin:
        plan = self.run.plan
        return TrainBegin(
            header=self.header,
            config=self.config,
            base_model=self.base_model,
            engine=self.engine,
            start_step=self.start.step,
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            learning_rate=plan.learning_rate,
            has_evaluation=self.run.evaluation is not None,
            resumed=bool(self.start.records) or self.start.anew,
            settings=self._settings(),
            rows=self.start.rows,
            cost=self.estimate,
            least_usd=meter.least_usd(self.start.step),
        )

    def _loop(
        self,
        run: PreparedRun,
        client: TrainingClient,
        make_client: Callable[[str | None], TrainingClient],
        recorder: Recorder,
        meter: Meter,
        began: float,
    ) -> TrainingResult:
        def make_another(state: str | None) -> TrainingClient:
            another = make_client(state)
            if self.folder is not None:
                self.folder.add_store(checkpoint_directory(another))
            return another

        attempts = Attempts(
            make_client=make_another,
            make_loop=lambda client, agenda: self._new_loop(run, client, agenda, recorder, meter),
            callbacks=self.callbacks,
            recorder=recorder,
            meter=meter,
            total_steps=self.run.plan.total_steps,
            max_restarts=self.config.max_restarts if self.can_restart else 0,
            clock=self.clock,
        )
        client, stop = attempts.run(client, self.start)
        if not recorder.records:
            reason = "no reason" if stop is None else stop.reason
            raise TrainingError(f"a callback stopped the run before its first update: {reason}")
        ended = "max_steps" if self.run.plan.cut_short else "completed"
        return TrainingResult(
            client=client,
            service=self.service,
            renderer=self.renderer,
            trained=self.run.trained,
            history=recorder.history,
            checkpoints=recorder.records,
            best_step=recorder.best_step(self.config.metric_for_best),
            stop_reason=ended if stop is None else stop.reason,
            use_step=None if stop is None else stop.use_step,
            restarts=attempts.restarts,
            cost=meter.cost,
            trained_tokens=recorder.trained_tokens,
            seconds=time.monotonic() - began,
            output_dir=self.config.output_dir,
        )

    def _new_loop(
        self, run: PreparedRun, client: TrainingClient, agenda: Agenda, recorder: Recorder, meter: Meter
    ) -> TrainingLoop:
        return TrainingLoop(
            client,
            run=run,
            config=self.config,
            renderer=self.renderer,
            callbacks=self.callbacks,
            recorder=recorder,
            identity=self.identity,
            agenda=agenda,
            clock=self.clock,
            meter=meter,
        )

    def _end(self, result: TrainingResult) -> None:
        self.callbacks.dispatch(
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
    """How the run ended, without keys that a message may contain."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    name = "CancelledError" if isinstance(error, RunCancelled) else type(error).__name__
    return {"status": status, "step": step, "error": name, "message": redact(str(error))}
