"""`Sweep`: the grid of its cells, running them, and storing their results."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import attrs
from attrs import evolve, frozen

from glowgenius._files import make_folder
from glowgenius._validators import is_number
from glowgenius.data.files import write_lines
from glowgenius.engines.errors import mapped
from glowgenius.engines.offered import context_length
from glowgenius.errors import CheckpointError, ConfigError, GlowGeniusError, ResumeMismatchError, nearest
from glowgenius.evaluation.answers import EvaluationResult
from glowgenius.evaluation.evaluate import ask
from glowgenius.evaluation.metrics import METRICS, resolve_metrics
from glowgenius.experiments.cell import WHOLE, Cell, SweepCell, divergence, losses, shown
from glowgenius.experiments.sweep_result import FLAT_WITHIN, SweepResult
from glowgenius.lora.config import LoRAConfig
from glowgenius.training.callbacks.stopping import TerminateOnNaN
from glowgenius.training.config import TrainingConfig, changed
from glowgenius.training.connection import choose_engine
from glowgenius.training.folder_lock import sole_writer
from glowgenius.training.history import History
from glowgenius.training.result import write_page
from glowgenius.training.run_folder import REPORT, RunFolder
from glowgenius.training.run_identity import as_dataset
from glowgenius.training.sampler import Sampler
from glowgenius.training.trainer import SupervisedTrainer

if TYPE_CHECKING:
    from glowgenius.data.dataset import Dataset
    from glowgenius.data.message import Conversation

    Rows: TypeAlias = Dataset | Sequence[Conversation]
    """What the arguments for data take."""
    import os
    from collections.abc import Callable, Generator

    from glowgenius.engines.protocol import ServiceClient
    from glowgenius.evaluation.evaluate import AnswersQuestions
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callback
    from glowgenius.training.connection import Connection, Engine
    from glowgenius.typing import JSON


def cells_of(ranks: Iterable[int], learning_rates: Iterable[float], seeds: Iterable[int]) -> list[Cell]:
    """The cells, in the order in which they are run: a whole grid with the first seed, then with the next."""
    axes: dict[str, list[Any]] = {}
    for name, values in (("ranks", ranks), ("learning_rates", learning_rates), ("seeds", seeds)):
        if isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
            raise ConfigError(f"{name} of sweep() must be a list of numbers, got {values!r}")
        axes[name] = list(values)
        twice = [value for index, value in enumerate(axes[name]) if value in axes[name][:index]]
        if twice or not axes[name]:
            found = f"{twice[0]!r} twice" if twice else "none"
            raise ConfigError(f"{name} of sweep() must be at least one number, each once, got {found}")
    for rate in axes["learning_rates"]:
        if not is_number(rate):
            raise ConfigError(
                f"learning_rates of sweep() must be numbers, got {rate!r}; suggest_learning_rate(model).value is one"
            )
    return [
        Cell(rank=rank, learning_rate=float(rate), seed=seed)
        for seed in axes["seeds"]
        for rank in axes["ranks"]
        for rate in axes["learning_rates"]
    ]


def questions_of(given: Rows | Mapping[str, Rows] | None) -> dict[str, Dataset]:
    """What is asked, by slice."""
    if given is None or not given:
        return {}
    if isinstance(given, Mapping):
        return {part: as_dataset(rows, f"questions[{part!r}]") for part, rows in given.items()}
    return {WHOLE: as_dataset(given, "questions")}


def metric_of(metric: str | None, metrics: Sequence[str], asked: Mapping[str, object], *, has_eval: bool) -> str:
    """What decides, checked before anything is trained."""
    known = [name if part == WHOLE else f"{part}/{name}" for part in asked for name in ("nll", *dict.fromkeys(metrics))]
    known += ["eval_loss"] if has_eval else []
    known += ["train_loss"]
    if metric is None:
        return known[0]
    if metric not in known:
        hint = nearest(metric, known)
        more = f"; add it by metrics=(…, {metric!r})" if metric in METRICS else ""
        raise ConfigError(f"metric of sweep() must be one of {', '.join(map(repr, known))}, got {metric!r}{hint}{more}")
    return metric


@final
@frozen(kw_only=True, eq=False)
class Work:
    """Settings that all cells of a sweep share."""

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
        """Answers of a model, by slice."""
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
            limit = functools.partial(context_length, self.service, self.base_model)
            return History(kept.rows()), Sampler(client, self.renderer, name="tuned", context_length=limit)
        result = self.trainer(cell, folder).train(
            self.train, self.held, resume_from_checkpoint=True if kept.exists() else None
        )
        return result.history, result.sampler

    def _parameters(self, cell: Cell) -> int | None:
        try:
            return evolve(self.lora, rank=cell.rank).parameter_count(self.base_model)
        except GlowGeniusError:
            return None


SWEEP, CELL, ANSWERS, BASE = "sweep.json", "cell.json", "answers.json", "base.json"
"""The files beside those of the runs."""

_WORDS: Final = {
    "train": "the training data",
    "eval": "the evaluation data",
    "renderer": "the renderer (template, vocabulary or settings)",
}


@final
class SweepFolder:
    """Reads and writes the files of a sweep.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The folder."""

    def claim(self, identity: Mapping[str, JSON]) -> None:
        """Write the identity of the sweep, or check that it equals the stored one.

        Raises:
            ConfigError: The folder holds something else.
            ResumeMismatchError: The cells that are there were made with other settings or data.
        """
        found = self._read(self.path / SWEEP)
        if found is None:
            if (self.path / "metrics.jsonl").exists():
                raise ConfigError(f"output_dir={str(self.path)!r} holds a single run; give a sweep a folder of its own")
            _write(self.path / SWEEP, dict(identity))
            return
        told = [line for name, (was, now) in changed(found, identity).items() for line in _told(name, was, now)]
        if told:
            raise ResumeMismatchError(
                f"the cells in {str(self.path)!r} belong to another sweep: {'; '.join(told)}. Ranks, learning rates "
                "and seeds may be added; for anything else choose another output_dir"
            )

    def run_folder(self, cell: Cell) -> Path:
        """Where the run of *cell* is kept."""
        return self.path / cell.name

    def base(self) -> dict[str, EvaluationResult] | None:
        """Stored answers of the base model, if there are any."""
        return self._answers(self.path / BASE)

    def keep_base(self, answers: Mapping[str, EvaluationResult]) -> None:
        """Write the base model's answers."""
        _write(self.path / BASE, {part: result.to_dict() for part, result in answers.items()})

    def cell(self, cell: Cell) -> SweepCell | None:
        """A finished cell, or None."""
        values = self._read(self.run_folder(cell) / CELL)
        answers = self._answers(self.run_folder(cell) / ANSWERS)
        return None if values is None else SweepCell.from_dict(values, answers or {})

    def keep(self, found: SweepCell) -> None:
        """Write a cell; it counts as finished once `cell.json` is there."""
        folder = self.run_folder(found.cell)
        _write(folder / ANSWERS, {part: result.to_dict() for part, result in found.answers.items()})
        _write(folder / CELL, found.to_dict())

    def _answers(self, path: Path) -> dict[str, EvaluationResult] | None:
        values = self._read(path)
        return None if values is None else {part: EvaluationResult.from_dict(found) for part, found in values.items()}

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CheckpointError(f"{path}: not JSON: {error}; delete the file, and it is made again") from error


def _told(name: str, was: JSON, now: JSON) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        return [line for key, (old, new) in changed(was, now).items() for line in _told(f"{name}.{key}", old, new)]
    if name in _WORDS:
        return [f"{_WORDS[name]} is another"]
    if name.startswith("questions."):
        return [f"the questions {name.partition('.')[2]!r} are others"]
    return [f"{name} was {was!r} and is {now!r}"]


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    make_folder(path.parent)
    write_lines(path, [json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)])


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
        ConfigError: The grid or another argument is not valid, or another sweep or run writes into *output_dir*.
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
        write_page(folder.path / REPORT, sweep=found)
    return found


def _say_nothing(_: str) -> None:
    """A progress callback that does nothing."""


@contextlib.contextmanager
def _folder(path: str | os.PathLike[str] | None) -> Generator[tuple[SweepFolder, bool]]:
    """The folder of the sweep, and whether it stays."""
    if path is not None:
        with sole_writer(Path(path), what="sweep"):
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
    """Settings that all cells of a sweep must share."""
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
    """Answers of the base model, generated once."""
    found = folder.base()
    if found is None:
        if work.questions:
            tell("asking the base model")
        found = work.ask(probe.base_sampler()) if work.questions else {}
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
            tell(
                f"{place}: {_cell_line(found, metric)}, {found.seconds:.0f} s" + (f"; {_rest(left)}" if missing else "")
            )
        else:
            tell(f"{place}: {_cell_line(found, metric)}, finished before")
        cells.append(found)
    return cells


def _cell_line(cell: SweepCell, metric: str) -> str:
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
