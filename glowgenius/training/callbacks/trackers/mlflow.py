"""`MLflowLogger`: a run in MLflow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from typing_extensions import override

from glowgenius._lazy import require
from glowgenius.training.callbacks.trackers.base import Ending, Tracker, flat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.training.events import TrainBegin

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
        # The header is for people, and the longest of it.
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
