"""`sweep`: every rank with every learning rate and seed, each a run of its own, and what can be told from them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs

from glowgenius._validators import is_number
from glowgenius.errors import ConfigError
from glowgenius.evaluation.metrics import resolve_metrics
from glowgenius.experiments.grid import cells_of, metric_of, questions_of
from glowgenius.experiments.result import FLAT_WITHIN, SweepResult
from glowgenius.experiments.run import Work
from glowgenius.experiments.store import SweepFolder
from glowgenius.experiments.units import shown
from glowgenius.lora.config import LoRAConfig
from glowgenius.training.config import TrainingConfig
from glowgenius.training.pages import SWEEP, write_page
from glowgenius.training.run_folder import REPORT
from glowgenius.training.setup import as_dataset, choose_engine
from glowgenius.training.trainer import SupervisedTrainer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from glowgenius.data.dataset import Dataset
    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.evaluation.result import EvaluationResult
    from glowgenius.experiments.cell import Cell, SweepCell
    from glowgenius.experiments.grid import Rows
    from glowgenius.training.callbacks.base import Callback
    from glowgenius.training.connection import Connection
    from glowgenius.typing import JSON

_LORA: Final = LoRAConfig()
_CONFIG: Final = TrainingConfig()

_NO_BEARING: Final = frozenset(
    {"learning_rate", "seed", "output_dir", "lookahead", "save_every", "eval_every", "metric_for_best", "stop_on_nan"}
)
"""Settings that belong to a cell, or that change nothing that a sweep compares."""


def sweep(
    base_model: str,
    train: Rows,
    eval_dataset: Rows | None = None,
    *,
    ranks: Iterable[int],
    learning_rates: Iterable[float],
    seeds: Iterable[int] = (0,),
    lora: LoRAConfig = _LORA,
    config: TrainingConfig = _CONFIG,
    renderer: object | None = None,
    service: ServiceClient | Connection | None = None,
    questions: Rows | Mapping[str, Rows] | None = None,
    metric: str | None = None,
    metrics: Sequence[str] = ("exact_match", "contains"),
    max_tokens: int = 32,
    flat_within: float = FLAT_WITHIN,
    output_dir: str | os.PathLike[str] | None = None,
    callbacks: Callable[[Cell], Iterable[Callback]] | None = None,
    say: Callable[[str], object] | None = print,
) -> SweepResult:
    """Train every rank with every learning rate and seed, one after another, and compare them on the same questions.

    Each cell is a run with a folder of its own in *output_dir*. A second call goes on where the first one ended: cells
    that are finished are not trained again, one that was interrupted is resumed, and a grid may grow. Cells that were
    made from other data or settings are refused.

    Args:
        base_model: As for `SupervisedTrainer`.
        train: The rows to learn.
        eval_dataset: Rows whose loss is measured before and after each run.
        ranks: The ranks of the grid.
        learning_rates: The peak rates of the grid.
        seeds: Each seed decides the order of rows and the adapter's start; three tell luck from effect.
        lora: The adapter, but for its rank and seed.
        config: The settings, but for rate, seed and folder.
        renderer: As for `SupervisedTrainer`.
        service: As for `SupervisedTrainer`; all cells run on it.
        questions: What each trained model is asked, as one data set or by slice; the evaluation set if None, and
            nothing if empty.
        metric: What decides on the best point: a metric of the questions, `nll`, `eval_loss` or `train_loss`; for
            slices `slice/metric`. None: the `nll` of the (first) questions, else `eval_loss`, else `train_loss`.
        metrics: By what answers are judged, as in `evaluate`; `nll` is always measured.
        max_tokens: The longest answer, in tokens.
        flat_within: The margin of the word "flat", in the unit of the metric: 0.05 is 5 points, or 0.05 nats.
        output_dir: The folder of the sweep. None takes that of *config*; where there is none either, the runs are kept
            in a temporary folder until the sweep is done.
        callbacks: Called with each cell, to make the callbacks of its run.
        say: Told in one line what happens, cell by cell; None for silence.

    Returns:
        Every cell with its answers; `print` it, or `write_report(path, sweep=…)`.

    Raises:
        ConfigError: The grid or another argument is not valid.
        PreflightError: A run could not begin; nothing has been sent.
        ResumeMismatchError: *output_dir* holds cells that were made from other data or settings.
        EngineError: The engine refused or failed; the cells that were finished are kept.
    """
    grid = cells_of(ranks, learning_rates, seeds)
    if not is_number(flat_within) or flat_within < 0:
        raise ConfigError(f"flat_within of sweep() must be a number ≥ 0, got {flat_within!r}")
    rows, held = as_dataset(train, "train"), None if eval_dataset is None else as_dataset(eval_dataset, "eval_dataset")
    asked = questions_of(held if questions is None else questions)
    chosen = metric_of(metric, metrics, asked, has_eval=held is not None)
    resolve_metrics(metrics)
    with _folder(output_dir or config.output_dir) as (folder, kept):
        engine = choose_engine(service, folder.path)
        probe = SupervisedTrainer(base_model, lora=lora, renderer=renderer, service=engine)
        work = Work(
            base_model=base_model,
            engine=engine,
            renderer=probe.renderer,
            lora=lora,
            config=config,
            train=rows,
            held=held,
            questions=asked,
            metrics=tuple(metrics),
            max_tokens=max_tokens,
            callbacks=callbacks,
        )
        _check(work, grid)
        folder.claim(_identity(work))
        tell = say or _say_nothing
        tell(f"{engine.line}; {_size(grid)}" + (f", kept in {folder.path}" if kept else ""))
        base = _base(work, folder, probe, tell)
        cells = _run_all(work, grid, folder, chosen, tell)
    found = SweepResult(
        cells=tuple(sorted(cells, key=lambda cell: cell.cell)),
        base=base,
        metric=chosen,
        flat_within=float(flat_within),
        output_dir=folder.path if kept else None,
        header=_header(work, engine.name),
    )
    if kept:
        write_page(SWEEP, folder.path / REPORT, sweep=found)
    return found


def _say_nothing(_: str) -> None:
    """What is said to nobody."""


@contextlib.contextmanager
def _folder(path: str | os.PathLike[str] | None) -> Generator[tuple[SweepFolder, bool]]:
    """The folder of the sweep, and whether it stays."""
    if path is not None:
        yield SweepFolder(Path(path)), True
        return
    with tempfile.TemporaryDirectory(prefix="glowgenius-sweep-", ignore_cleanup_errors=True) as temporary:
        yield SweepFolder(Path(temporary)), False


def _check(work: Work, grid: Sequence[Cell]) -> None:
    """Everything that a run would refuse, before the first request."""
    for rank in dict.fromkeys(cell.rank for cell in grid):
        cell = next(cell for cell in grid if cell.rank == rank)
        work.trainer(cell, None).preflight(work.train, work.held)


def _identity(work: Work) -> dict[str, JSON]:
    """What all cells of a sweep must have in common."""
    settings = {name: value for name, value in work.config.to_json().items() if name not in _NO_BEARING}
    adapter = {name: value for name, value in attrs.asdict(work.lora).items() if name not in ("rank", "seed")}
    return {
        "base_model": work.base_model,
        "lora": adapter,
        "config": settings,
        "renderer": work.renderer.fingerprint,
        "train": work.train.fingerprint,
        "eval": None if work.held is None else work.held.fingerprint,
        "questions": {part: cast("Dataset", rows).fingerprint for part, rows in work.questions.items()},
        "metrics": list(work.metrics),
        "max_tokens": work.max_tokens,
    }


def _size(grid: Sequence[Cell]) -> str:
    counts = [len({getattr(cell, name) for cell in grid}) for name in ("rank", "learning_rate", "seed")]
    names = ("rank", "learning rate", "seed")
    factors = " × ".join(f"{n} {name}{'s' * (n != 1)}" for n, name in zip(counts, names, strict=True))
    return f"{len(grid)} runs: {factors}"


def _base(
    work: Work, folder: SweepFolder, probe: SupervisedTrainer, tell: Callable[[str], object]
) -> dict[str, EvaluationResult]:
    """What the base model answers, asked once."""
    found = folder.base()
    if found is None:
        if work.questions:
            tell("asking the base model")
        found = work.ask(probe.base_sampler()) if work.questions else {}
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.keep_base(found)
    return found


def _run_all(
    work: Work, grid: Sequence[Cell], folder: SweepFolder, metric: str, tell: Callable[[str], object]
) -> list[SweepCell]:
    """Every cell, from the folder where it is finished."""
    cells: list[SweepCell] = []
    began, trained = time.monotonic(), 0
    for number, cell in enumerate(grid, 1):
        found = folder.cell(cell)
        place = f"{number} of {len(grid)}: {cell}"
        if found is None:
            found = work.run(cell, folder.run_folder(cell))
            folder.keep(found)
            trained += 1
            missing = sum(folder.cell(other) is None for other in grid[number:])
            left = (time.monotonic() - began) / trained * missing
            tell(f"{place}: {_told(found, metric)}, {found.seconds:.0f} s" + (f"; {_rest(left)}" if missing else ""))
        else:
            tell(f"{place}: {_told(found, metric)}, finished before")
        cells.append(found)
    return cells


def _told(cell: SweepCell, metric: str) -> str:
    if cell.diverged is not None:
        return f"diverged, {cell.diverged}"
    values = cell.values(metric) or ()
    return f"{metric} {shown(metric, sum(values) / len(values) if values else None)}"


def _rest(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"  # noqa: PLR2004


def _header(work: Work, engine: str) -> dict[str, object]:
    """The facts of the sweep, for its report."""
    adapted = [name for name in ("attn", "mlp", "unembed") if getattr(work.lora, f"train_{name}")]
    return {
        "base model": work.base_model,
        "engine": engine,
        "training rows": len(work.train),
        "data": work.train.fingerprint[:12],
        "adapted layers": ", ".join(adapted),
        "epochs": work.config.num_epochs,
        "steps at most": work.config.max_steps,
        "batch size": work.config.batch_size,
        "schedule": work.config.lr_schedule,
        "questions": {part: len(rows) for part, rows in work.questions.items()},
    }
