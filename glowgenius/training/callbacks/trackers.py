"""Experiment trackers: MLflow, TensorBoard, Trackio and Weights & Biases, each imported only when used."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, final

from typing_extensions import override

from glowgenius._files import make_folder
from glowgenius._lazy import require
from glowgenius._output import logger
from glowgenius._secrets import redact
from glowgenius._validators import reject
from glowgenius.errors import ConfigError, nearest
from glowgenius.training.callbacks.base import Callback

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.training.events import EvaluateBegin, StepBegin, StepLogged, TrainBegin, TrainEnd, TrainFailed
    from glowgenius.typing import JSON

_LOG = logger("glowgenius.training")

Ending: TypeAlias = Literal["completed", "interrupted", "failed"]
"""How a run ended."""


class Tracker(Callback, ABC):
    """Base class: sends the settings of a run and every row of `metrics.jsonl` to an experiment tracker.

    A tracker that fails, whatever the reason, is said so once and left out from there on: it never ends the run.
    A resumed run goes on in the tracker's run of the checkpoint; steps that the tracker has already are not sent again,
    as they are made again exactly.

    Args:
        target: What the state is kept under, beside the class.

    Raises:
        MissingDependencyError: The tracker's library is not installed.
    """

    MODULE: ClassVar[str]
    """The tracker's library."""

    EXTRA: ClassVar[str]
    """The extra of glowgenius that brings it."""

    def __init__(self, target: str) -> None:
        self._library: Any = require(self.MODULE, extra=self.EXTRA, purpose=type(self).__name__)
        self._target = target
        self._begin: TrainBegin | None = None
        self._run_id: str | None = None
        self._last_step = -1
        self._open = self._broken = False

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r})"

    @property
    @override
    def state_key(self) -> str:
        return f"{type(self).__name__}[{self._target}]"

    @override
    def state_dict(self) -> Mapping[str, JSON]:
        return {"run": self._run_id}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run_id = state["run"]

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        # The run is opened later, after `load_state_dict` has restored its id.
        self._begin, self._run_id, self._last_step = event, None, -1
        self._open = self._broken = False

    @override
    def on_step_begin(self, event: StepBegin) -> None:
        self._start()

    @override
    def on_evaluate_begin(self, event: EvaluateBegin) -> None:
        self._start()

    @override
    def on_step_logged(self, event: StepLogged) -> None:
        if event.step > self._last_step:
            self._try(lambda: self._send(event.step, event.metrics))
            self._last_step = event.step

    @override
    def on_train_end(self, event: TrainEnd) -> None:
        self._stop("completed")

    @override
    def on_train_failed(self, event: TrainFailed) -> None:
        self._stop("interrupted" if isinstance(event.error, KeyboardInterrupt) else "failed")

    def _start(self) -> None:
        begin = self._begin
        if begin is not None and not self._open:
            self._open = True
            self._try(lambda: self._open_run(begin))

    def _stop(self, ending: Ending) -> None:
        if self._open:
            self._open = False
            self._try(lambda: self._close_run(ending))

    def _try(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker has, the run goes on
            self._broken = True
            _LOG.warning(
                "%r has failed and is left out from here on; the run goes on: %s: %s",
                self,
                type(error).__name__,
                redact(str(error)),
            )

    @abstractmethod
    def _open_run(self, event: TrainBegin) -> None:
        """Open the run `_run_id`, or create one, and set `_run_id` and `_last_step`."""

    @abstractmethod
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one row."""

    @abstractmethod
    def _close_run(self, ending: Ending) -> None:
        """Close the run."""


def flat(settings: Mapping[str, JSON], prefix: str = "") -> dict[str, str]:
    """Flatten nested settings into `training.batch_size` → `16`; lists become their text."""
    values: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = str(value)
    return values


_STATUS: Final[dict[Ending, str]] = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_PARAMS_AT_ONCE: Final = 100
"""What MLflow takes in one request."""

_LONGEST: Final = 6000
"""Characters of a parameter's value, as MLflow has it."""


@final
class MLflowLogger(Tracker):
    """Writes every row to MLflow, with the settings of the run as its parameters.

    Args:
        experiment: The experiment; it is made where there is none.
        name: The name of the run; None lets MLflow choose.
        tracking_uri: Where to, such as `sqlite:///mlflow.db` or `http://localhost:5000`; None is what `mlflow` is set
            to.

    Raises:
        MissingDependencyError: The library is not installed (extra `mlflow`).
    """

    MODULE: ClassVar[str] = "mlflow"
    EXTRA: ClassVar[str] = "mlflow"

    def __init__(
        self, experiment: str = "glowgenius", *, name: str | None = None, tracking_uri: str | None = None
    ) -> None:
        super().__init__(experiment)
        self._name = name
        self._uri = tracking_uri
        self._client: Any = None

    @override
    def _open_run(self, event: TrainBegin) -> None:
        client = self._client = self._library.MlflowClient(tracking_uri=self._uri)
        if self._run_id is not None:
            client.update_run(self._run_id, status="RUNNING")
            kept = client.get_run(self._run_id).data.metrics
            history = [point.step for name in kept for point in client.get_metric_history(self._run_id, name)]
            self._last_step = max(history, default=-1)
            return
        found = client.get_experiment_by_name(self._target)
        experiment = client.create_experiment(self._target) if found is None else found.experiment_id
        self._run_id = str(client.create_run(experiment, run_name=self._name).info.run_id)
        entities: Any = require("mlflow.entities", extra=self.EXTRA, purpose="MLflowLogger")
        # The header is text for people and the longest entry, so it is not a parameter.
        settings = flat({name: value for name, value in event.settings.items() if name != "header"})
        params = [entities.Param(name, value[:_LONGEST]) for name, value in settings.items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(self._run_id, params=params[start : start + _PARAMS_AT_ONCE])

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        entities: Any = require("mlflow.entities", extra=self.EXTRA, purpose="MLflowLogger")
        now = int(time.time() * 1000)
        points = [entities.Metric(name, value, now, step) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=points)

    @override
    def _close_run(self, ending: Ending) -> None:
        client, self._client = self._client, None
        client.set_terminated(self._run_id, status=_STATUS[ending])


@final
class TensorBoardLogger(Tracker):
    """Writes a scalar per metric and step, through TensorBoard's own writer; neither torch nor TensorFlow is needed.

    Args:
        directory: The folder for TensorBoard's files; None is `tensorboard` in the run folder.

    Raises:
        MissingDependencyError: TensorBoard is not installed (extra `tensorboard`).
    """

    MODULE: ClassVar[str] = "tensorboard.summary.writer.event_file_writer"
    EXTRA: ClassVar[str] = "tensorboard"

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        super().__init__("" if directory is None else str(directory))
        self._proto: Any = require("tensorboard.compat.proto.event_pb2", extra=self.EXTRA, purpose="TensorBoardLogger")
        self._given = None if directory is None else Path(directory)
        self._writer: Any = None

    @override
    def __repr__(self) -> str:
        return f"TensorBoardLogger({'' if self._given is None else repr(str(self._given))})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if self._given is None and event.config.output_dir is None:
            raise ConfigError(
                "TensorBoardLogger has nowhere to write: give it a directory, or set TrainingConfig.output_dir, where "
                "it writes tensorboard/"
            )
        super().on_train_begin(event)

    @override
    def _open_run(self, event: TrainBegin) -> None:
        folder = self._given or Path(event.config.output_dir or ".") / "tensorboard"
        self._writer = self._library.EventFileWriter(str(folder))
        self._run_id = str(folder)
        if event.resumed:
            # TensorBoard's restart marker: later steps in earlier files are not shown.
            self._last_step = event.start_step or -1
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._add(self._last_step + 1, session_log=start)

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        summary = require("tensorboard.compat.proto.summary_pb2", extra=self.EXTRA, purpose="TensorBoardLogger")
        values = [summary.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=summary.Summary(value=values))
        self._writer.flush()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(self._proto.Event(wall_time=time.time(), step=step, **content))

    @override
    def _close_run(self, ending: Ending) -> None:
        self._writer.close()
        self._writer = None


@final
class TrackioLogger(Tracker):
    """Writes every row to Trackio; `trackio show` opens its dashboard.

    Args:
        project: The project.
        name: The name of the run; None lets Trackio choose.
        space_id: A Space such as `someone/trackio` to send it to; None keeps it on this machine.

    Raises:
        MissingDependencyError: The library is not installed (extra `trackio`).
    """

    MODULE: ClassVar[str] = "trackio"
    EXTRA: ClassVar[str] = "trackio"

    def __init__(self, project: str = "glowgenius", *, name: str | None = None, space_id: str | None = None) -> None:
        super().__init__(project)
        self._name = name
        self._space_id = space_id
        self._run: Any = None

    @override
    def _open_run(self, event: TrainBegin) -> None:
        resumed = self._run_id is not None
        self._run = self._library.init(
            project=self._target,
            name=self._run_id if resumed else self._name,
            space_id=self._space_id,
            config=dict(event.settings),
            resume="allow" if resumed else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        # Trackio identifies runs by name.
        self._run_id = str(self._run.name)
        if resumed and self._space_id is None:
            storage: Any = require("trackio.sqlite_storage", extra=self.EXTRA, purpose="TrackioLogger")
            last = storage.SQLiteStorage.get_max_step_for_run(self._target, self._run_id)
            self._last_step = -1 if last is None else int(last)

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def _close_run(self, ending: Ending) -> None:
        run, self._run = self._run, None
        run.finish()


_MODES = ("online", "offline", "disabled")

Mode: TypeAlias = Literal["online", "offline", "disabled"]


@final
class WandbLogger(Tracker):
    """Sends every row to Weights & Biases, with the settings of the run as its config.

    The key is `wandb`'s own affair: `wandb login`, or its environment variables.

    Args:
        project: The project.
        name: The name of the run; None lets the service choose.
        mode: `offline` keeps everything on this machine, to be sent with `wandb sync`; None is what `wandb` is set to.
        group: What the run is shown together with, such as a sweep.
        tags: Words to find it by.

    Raises:
        ConfigError: An argument is not valid.
        MissingDependencyError: The library is not installed (extra `wandb`).
    """

    MODULE: ClassVar[str] = "wandb"
    EXTRA: ClassVar[str] = "wandb"

    def __init__(
        self,
        project: str = "glowgenius",
        *,
        name: str | None = None,
        mode: Mode | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        if mode is not None and mode not in _MODES:
            error = reject(WandbLogger, "mode", "None or one of 'online', 'offline', 'disabled'", mode)
            raise ConfigError(f"{error}{nearest(str(mode), _MODES)}")
        super().__init__(project)
        self._options: dict[str, Any] = {"name": name, "mode": mode, "group": group, "tags": list(tags)}
        self._run: Any = None

    @override
    def _open_run(self, event: TrainBegin) -> None:
        folder = event.config.output_dir
        if folder is not None:
            make_folder(folder)
        self._run = self._library.init(
            project=self._target,
            id=self._run_id,
            resume="allow",
            config=dict(event.settings),
            dir=None if folder is None else str(folder),
            reinit="create_new",
            **self._options,
        )
        self._run_id = str(self._run.id)
        # For a resumed run, the service reports its last step.
        self._last_step = int(self._run.step) - 1

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    @override
    def _close_run(self, ending: Ending) -> None:
        run, self._run = self._run, None
        run.finish(exit_code=0 if ending == "completed" else 1)
