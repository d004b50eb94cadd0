"""`TrainingResult`: what `train` returns."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Self, final

from typing_extensions import override

from glowgenius._output import logger
from glowgenius.engines.errors import mapped
from glowgenius.errors import CheckpointError, ConfigError, NotPicklableError
from glowgenius.training.adapter_export import export_adapter
from glowgenius.training.run_folder import RunFolder
from glowgenius.training.sampler import Sampler

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from glowgenius.data.trained import Trained
    from glowgenius.engines.protocol import ServiceClient, TrainingClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.checkpoints import CheckpointRecord
    from glowgenius.training.cost import RunCost
    from glowgenius.training.events import Restart
    from glowgenius.training.history import History


@final
class TrainingResult:
    """A finished run: its metrics, its checkpoints, and the trained model to sample from.

    Made by `SupervisedTrainer.train`.
    """

    def __init__(
        self,
        *,
        client: TrainingClient,
        service: ServiceClient | None,
        renderer: Renderer,
        trained: Trained | None,
        history: History,
        checkpoints: tuple[CheckpointRecord, ...],
        best_step: int | None,
        stop_reason: str,
        use_step: int | None,
        restarts: tuple[Restart, ...],
        cost: RunCost,
        trained_tokens: int,
        seconds: float,
        output_dir: Path | None,
        context_length: int | None = None,
    ) -> None:
        self._client: TrainingClient | None = client
        self._service: ServiceClient | None = service
        self._renderer = renderer
        self._trained = trained
        self._context = context_length
        self._by_step = {record.step: record for record in checkpoints}
        self._use_step = use_step
        self._samplers: dict[int, Sampler] = {}
        self.history = history
        """One row per step."""
        self.checkpoints = checkpoints
        """Every checkpoint, in the order of the steps."""
        self.final_checkpoint = checkpoints[-1]
        """That of the last step, with a state to go on from and weights to sample from."""
        self.best_step = best_step
        """The evaluated step with the best `metric_for_best`; None without an eval set. Step 0 does not count."""
        self.stop_reason = stop_reason
        """`completed`, `max_steps`, or the reason that a callback gave."""
        self.restarts = restarts
        """How often, and why, this call of `train` had to go on from a checkpoint, as the service had failed."""
        self.cost = cost
        """What the run has cost, those parts before a resume included, beside the estimate; printed, one line."""
        self.trained_tokens = trained_tokens
        """Tokens that carried loss, over all steps, those before a resume included."""
        self.seconds = seconds
        """Wall time from the first request of this call of `train` to the end, in seconds."""
        self.output_dir = output_dir
        """The run folder, if there is one."""

    @override
    def __reduce__(self) -> Any:
        raise NotPicklableError(
            "a TrainingResult cannot be pickled, as its clients live in this process and may hold an API key; pickle "
            "its history, or open its run folder there"
        )

    def __copy__(self) -> TrainingResult:
        return self

    def __deepcopy__(self, _memo: object) -> TrainingResult:
        return self

    @override
    def __repr__(self) -> str:
        return (
            f"TrainingResult(steps={self.final_checkpoint.step}, stop_reason={self.stop_reason!r}, "
            f"best_step={self.best_step})"
        )

    def close(self) -> None:
        """Release the memory of the run: adapter, optimizer, and the samplers created here.

        Figures and checkpoints stay. To drop the result does the same. Closing again changes nothing.
        """
        self._client = self._service = None
        self._samplers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _open_client(self) -> TrainingClient:
        if self._client is None:
            raise ConfigError(
                "this TrainingResult was closed, so it has no model any more; use its samplers inside of the with "
                "block, or do not call close() before"
            )
        return self._client

    @property
    def best_checkpoint(self) -> CheckpointRecord | None:
        """The checkpoint of `best_step`; None if there is none."""
        return None if self.best_step is None else self._by_step[self.best_step]

    @property
    def sampler_step(self) -> int:
        """The step whose weights `sampler` uses: the last one, unless a callback that stopped the run chose another."""
        return self.final_checkpoint.step if self._use_step is None else self._use_step

    @property
    def sampler(self) -> Sampler:
        """Sampler of the trained model, with the weights of the last step; `best_sampler` has the best ones.

        `EarlyStopping(restore_best=True)` is the exception: where it ends the run, these are the best weights.

        Raises:
            EngineError: The engine refused or failed.
        """
        return self._sampler_of(self.sampler_step, "tuned")

    @property
    def best_sampler(self) -> Sampler:
        """Sampler of the model at `best_step`.

        Raises:
            ConfigError: There was no evaluation, or metric_for_best is None.
            EngineError: The engine refused or failed.
        """
        if self.best_step is None:
            raise ConfigError(
                "there is no best step: it takes an eval_dataset, metric_for_best, and one evaluation after an update"
            )
        return self._sampler_of(self.best_step, f"step {self.best_step}")

    def _sampler_of(self, step: int, name: str) -> Sampler:
        if step not in self._samplers:
            path, training = self._weights_path(step), self._open_client
            with mapped(f"create_sampling_client of step {step}"):
                client = training.create_sampling_client(path).result()
            self._samplers[step] = Sampler(
                client, self._renderer, name=name, trained=self._trained, context_length=self._context
            )
        return self._samplers[step]

    def _weights_path(self, step: int) -> str:
        path = self._by_step[step].sampler_path
        if path is None:
            raise CheckpointError(f"only the state of step {step} was kept, not weights to sample from")
        return path

    def save_adapter(self, directory: str | os.PathLike[str]) -> Path:
        """Copy the adapter of `sampler` in PEFT format, with a model card as README.md.

        From Tinker it is downloaded: the service exports it, which takes a training run that makes no step.

        Args:
            directory: A folder that does not exist yet, or is empty.

        Returns:
            The folder.

        Raises:
            ConfigError: The folder holds something already.
            CheckpointError: The weights are on a service that gives none out, or of a step whose state was not kept.
            EngineError: The service refused or failed.
        """
        step = self.sampler_step
        settings: dict[str, Any] = {}
        if self.output_dir is not None:
            settings = RunFolder(self.output_dir).settings()
        return export_adapter(
            directory,
            sampler_path=self._weights_path(step),
            state_path=self._by_step[step].state_path,
            step=step,
            base_model=self._open_client.get_info().model_data.model_name or "unknown",
            service=self._service,
            settings=settings,
            rows=self.history.rows,
        )


_LOG = logger("glowgenius.training")

_PAGES: Final = ("glowgenius.reporting.run_page", "write_report")
"""Module and function that write a page."""


def write_page(path: Path | None = None, **shown: Any) -> None:
    """Call `write_report`; a failure is only a warning, because other files hold the same data."""
    try:
        module, function = _PAGES
        getattr(importlib.import_module(module), function)(path, **shown)
    except Exception as error:  # noqa: BLE001 - a run is over and kept by now, whatever is wrong with its page
        _LOG.warning("the page of the run could not be written: %s: %s", type(error).__name__, error)
