"""One cell after another: train, ask, keep; what is there already is not done again."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, cast, final

from attrs import evolve, frozen

from glowgenius.engines.errors import mapped
from glowgenius.errors import GlowGeniusError
from glowgenius.evaluation.evaluate import ask
from glowgenius.evaluation.metrics import resolve_metrics
from glowgenius.experiments.cell import Cell, SweepCell, divergence, losses
from glowgenius.training.callbacks.terminate_on_nan import TerminateOnNaN
from glowgenius.training.history import History
from glowgenius.training.run_folder import RunFolder
from glowgenius.training.sampler import Sampler
from glowgenius.training.trainer import SupervisedTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from glowgenius.data.dataset import Dataset
    from glowgenius.data.message import Conversation
    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.evaluation.evaluate import AnswersQuestions
    from glowgenius.evaluation.result import EvaluationResult
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callback
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.setup import Engine


@final
@frozen(kw_only=True, eq=False)
class Work:
    """What every cell of a sweep has in common."""

    base_model: str
    """The model that is adapted."""

    engine: Engine
    """Where it runs, and why."""

    renderer: Renderer
    """Between messages and tokens."""

    lora: LoRAConfig
    """The adapter but for its rank and seed."""

    config: TrainingConfig
    """The settings but for rate, seed and folder."""

    train: Dataset
    """The rows to learn."""

    held: Dataset | None
    """The rows whose loss is measured."""

    questions: Mapping[str, Sequence[Conversation]]
    """What the trained model is asked, by slice."""

    metrics: tuple[str, ...]
    """By what the answers are judged."""

    max_tokens: int
    """The longest answer."""

    callbacks: Callable[[Cell], Iterable[Callback]] | None
    """Makes the callbacks of a run."""

    @property
    def service(self) -> ServiceClient:
        """Makes the clients of all cells."""
        return cast("ServiceClient", self.engine.service)

    def trainer(self, cell: Cell, folder: Path | None) -> SupervisedTrainer:
        """The trainer of one cell."""
        own = [] if self.callbacks is None else list(self.callbacks(cell))
        return SupervisedTrainer(
            self.base_model,
            lora=evolve(self.lora, rank=cell.rank, seed=cell.seed),
            renderer=self.renderer,
            service=self.engine,
            # A cell that diverges is a finding, and no reason to end the sweep.
            config=evolve(
                self.config, learning_rate=cell.learning_rate, seed=cell.seed, output_dir=folder, stop_on_nan=False
            ),
            callbacks=[TerminateOnNaN(), *own],
        )

    def ask(self, sampler: AnswersQuestions) -> dict[str, EvaluationResult]:
        """What a model answers, by slice."""
        return {
            part: ask(sampler, rows, resolve_metrics(self.metrics), max_tokens=self.max_tokens, seed=0, nll=True)
            for part, rows in self.questions.items()
        }

    def run(self, cell: Cell, folder: Path) -> SweepCell:
        """Train one cell, from its last checkpoint if it was interrupted, and ask what it has learned."""
        started = time.monotonic()
        history, sampler = self._train(cell, folder)
        seconds = time.monotonic() - started
        train, base, held = losses(history)
        diverged = divergence(history)
        finite = all(map(math.isfinite, [train, 0.0 if held is None else held]))
        return SweepCell(
            cell=cell,
            steps=int(history.last.get("step", 0)),
            train_loss=train,
            base_loss=base,
            eval_loss=held,
            diverged=diverged,
            seconds=round(seconds, 3),
            trained_tokens=int(sum(row.get("tokens/trained", 0) for row in history)),
            trained_parameters=self._parameters(cell),
            cost_usd=history.last.get("cost/cumulative_usd"),
            answers=self.ask(sampler) if finite else {},
        )

    def _train(self, cell: Cell, folder: Path) -> tuple[History, Sampler]:
        kept = RunFolder(folder)
        last = next((record for record in reversed(kept.checkpoints()) if record.final), None)
        if last is not None and last.sampler_path is not None:
            # It was trained to its end, and ended while it was being asked.
            with mapped(f"create_sampling_client of step {last.step}"):
                client = self.service.create_sampling_client(model_path=last.sampler_path).result()
            return History(kept.rows()), Sampler(client, self.renderer, name="tuned")
        result = self.trainer(cell, folder).train(
            self.train, self.held, resume_from_checkpoint=True if kept.exists() else None
        )
        return result.history, result.sampler

    def _parameters(self, cell: Cell) -> int | None:
        try:
            return evolve(self.lora, rank=cell.rank).parameter_count(self.base_model)
        except GlowGeniusError:
            return None
