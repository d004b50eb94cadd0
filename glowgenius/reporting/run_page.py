"""The HTML report of a run, from the files in its folder."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import warn

from glowgenius._files import read_object, write_whole
from glowgenius.data.splits import REPLAY
from glowgenius.errors import CheckpointError, ConfigError, EvaluationError, GlowGeniusError
from glowgenius.evaluation.callback import ANSWERS, WHOLE, answer_files, read_answers
from glowgenius.evaluation.compare import Comparison
from glowgenius.evaluation.evaluate import baseline_of
from glowgenius.evaluation.metrics import METRICS
from glowgenius.evaluation.slices import SliceComparison
from glowgenius.lora.learning_rate import suggest_learning_rate
from glowgenius.rendering.preview import Preview, PreviewRow, PreviewRun
from glowgenius.reporting.report import write_html
from glowgenius.training.run_folder import COMPARISON, CONFIG, MADE_AGAIN, PREVIEW, REPORT, RESULT, RunFolder

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping, Sequence

    from glowgenius.evaluation.answers import EvaluationResult
    from glowgenius.experiments.sweep_result import SweepResult


def write_report(
    path: str | os.PathLike[str] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    comparison: Comparison | None = None,
    history: Sequence[Mapping[str, object]] | None = None,
    header: Mapping[str, object] | None = None,
    previews: Preview | Sequence[Preview] | None = None,
    sweep: SweepResult | None = None,
    warnings: Sequence[str] = (),
    suggested_learning_rate: float | None = None,
    title: str | None = None,
) -> Path:
    """Write one self-contained HTML page: no script, nothing to load, light and dark, readable on a phone.

    The same arguments give the same bytes. The page appears whole or not at all. An older page is replaced, unless it
    shows a comparison, a history, previews or a sweep that this one would not: then it is kept beside it, under a name
    such as `report-1.html`, and a warning says so.

    Args:
        path: The file to write; missing folders are made. None is `report.html` in the folder of *run*.
        run: The folder of a run, or what `open_run` returns: its settings, curves, masks and answers are shown. A
            *comparison* becomes part of the folder; without one, the run's own `AnswerEvaluation` is shown, the last
            against the first.
        comparison: Base against tuned.
        history: Rows as in `metrics.jsonl`: `step`, and what was measured of `train/loss`, `eval/loss` and
            `learning_rate`.
        header: Facts of the run, name and value, in the order to show; those of *run* come first.
        previews: Rendered rows, from `glowgenius.preview`.
        sweep: A grid of runs, from `glowgenius.sweep`; its header is shown with *header*.
        warnings: Sentences to show on top, beside those that the numbers themselves call for.
        suggested_learning_rate: What is suggested for the model, to judge a loss that does not move by.
        title: The headline; None says what the page is about.

    Returns:
        The path of the page.

    Raises:
        ConfigError: There is nothing to show, a row of the history is not one, *path* is a folder, there is no run in
            *run*, or *run* is given together with what is read from it.
        CheckpointError: A file of the run is broken.
        StorageError: The file cannot be written.
    """
    if run is not None:
        read: dict[str, object] = {"history": history, "previews": previews, "sweep": sweep}
        read["suggested_learning_rate"] = suggested_learning_rate
        if given := [name for name, value in read.items() if value is not None]:
            raise ConfigError(f"write_report(run=...) takes no {', '.join(given)}: it shows those of the run")
        return _write_run(run, path, comparison=comparison, header=header, warnings=warnings, title=title)
    if path is None:
        raise ConfigError("write_report() needs the name of a file, or run= with the folder of a run")
    return write_html(
        path,
        comparison=comparison,
        history=history,
        header=header,
        previews=previews,
        sweep=sweep,
        warnings=warnings,
        suggested_learning_rate=suggested_learning_rate,
        title=title,
    )


def write_run_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    comparison: Comparison | None = None,
    header: Mapping[str, object] | None = None,
) -> Path:
    """The earlier name of `write_report(path, run=folder)`; it works in this version, with a warning."""
    message = "write_run_report(folder, path) is write_report(path, run=folder) now; the old name works in this version"
    warn(message, DeprecationWarning, stacklevel=2)
    return write_report(path, run=folder, comparison=comparison, header=header)


def _write_run(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None,
    *,
    comparison: Comparison | None,
    header: Mapping[str, object] | None,
    warnings: Sequence[str],
    title: str | None,
) -> Path:
    """Write the HTML report of a run from the files in its folder."""
    kept = RunFolder(Path(folder))
    try:
        settings = kept.settings()
    except FileNotFoundError:
        raise ConfigError(f"there is no run in {str(folder)!r}: it has no {CONFIG}") from None
    if comparison is not None:
        keep_comparison(kept.path, comparison)
    result, history = kept.result(), kept.rows()
    with _naming(kept.path / CONFIG, kept.path / RESULT):
        facts, alarms = {**_header(settings, result), **(header or {})}, _warnings(settings, result)
    with _naming(kept.path / PREVIEW):
        previews = _preview(kept.preview())
    return write_html(
        kept.path / REPORT if path is None else path,
        comparison=comparison_of(kept.path),
        history=history,
        header=facts,
        previews=previews,
        warnings=[*alarms, *warnings],
        suggested_learning_rate=_suggested(settings),
        title=title or f"Training run {kept.path.resolve().name}",
    )


def keep_comparison(folder: Path, comparison: Comparison, label: str = "") -> None:
    """Write *comparison* into `comparison.json` of a run folder, beside those of other labels.

    Args:
        folder: The run folder.
        comparison: What was asked and answered.
        label: What was asked, such as the name of a file; one of the same label is replaced.
    """
    kept = _read(folder / COMPARISON) or {"comparisons": []}
    others = [one for one in kept["comparisons"] if one.get("label") != label]
    record = {"label": label, **comparison.to_record()}
    text = json.dumps({"comparisons": [*others, record]}, ensure_ascii=False, allow_nan=False)
    write_whole(folder / COMPARISON, f"{text}\n")


def kept_comparison(folder: Path) -> Comparison | None:
    """What `keep_comparison` has kept in a run folder; with several labels, each slice is named after its label too.

    Raises:
        CheckpointError: The file is broken.
    """
    path = folder / COMPARISON
    kept = _read(path)
    if kept is None:
        return None
    try:
        found = [(str(one["label"]), Comparison.from_record(one)) for one in kept["comparisons"]]
    except (EvaluationError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not what a run folder keeps of comparisons: {error}") from error
    if len(found) == 1:
        return found[0][1]
    slices = [
        part if not label else part.renamed(label if name == WHOLE else f"{label}: {name}")
        for label, comparison in found
        for name, part in comparison.slices.items()
    ]
    return Comparison(slices={part.name: part for part in slices}) if slices else None


def comparison_of(folder: Path) -> Comparison | None:
    """Base against tuned as a run folder knows it: what was kept, else what the run's `AnswerEvaluation` was answered.

    Raises:
        CheckpointError: A file of it is broken.
    """
    return kept_comparison(folder) or _comparison(folder)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_object(path, within=path.parent, remedy="remove it, and compare again")
    except FileNotFoundError:
        return None


@contextmanager
def _naming(*files: Path) -> Generator[None]:
    """An error about values that no run of this version has written names the files that they are from."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        named = " or ".join(map(str, files))
        raise CheckpointError(
            f"{named} holds what no run writes ({type(error).__name__}: {error}); {MADE_AGAIN}"
        ) from error


def _header(settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, object]:
    """The facts of the run; what is not known is left out."""
    training: dict[str, Any] = settings.get("training", {})
    lora: dict[str, Any] = settings.get("lora") or {}
    counts, prints = settings.get("rows", {}), settings.get("fingerprints", {})
    layers = [name for name in ("attn", "mlp", "unembed") if lora.get(f"train_{name}")]
    facts: dict[str, object] = {
        "status": _status(result),
        "model": settings.get("model_name"),
        "engine": settings.get("engine"),
        "rank": settings.get("lora_rank"),
        "adapted layers": ", ".join(layers) or None,
        "learning rate": f"{settings.get('learning_rate', 0):.3g}, {settings.get('lr_schedule')}",
        "training rows": _rows(counts.get("train")),
        "evaluation rows": _rows(counts.get("eval")),
        "data": _short(prints.get("train")),
        "epochs": settings.get("num_epochs"),
        "batch size": training.get("batch_size"),
        "seed": _seeds(training.get("seed"), lora.get("seed")),
        "renderer": settings.get("renderer"),
        "steps": result.get("step"),
        "best step": result.get("best_step"),
        "trained tokens": _number(result.get("trained_tokens")),
        "time": None if result.get("seconds") is None else f"{result['seconds']:.0f} s",
        "cost": _cost(result),
        "versions": settings.get("versions"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _status(result: Mapping[str, Any]) -> str:
    if not result:
        return "not finished"
    if result.get("status") != "completed":
        return f"{result.get('status')}: {result.get('error')}: {result.get('message')}"
    reason = result.get("stop_reason")
    return "completed" if reason == "completed" else f"completed, ended by: {reason}"


def _rows(counts: Mapping[str, Any] | None) -> str | None:
    """Rows in, used and dropped, and how many are replay."""
    if counts is None:
        return None
    text = f"{counts['rows']:,} in, {counts['used']:,} used"
    for name in ("dropped", "truncated"):
        if counts.get(name):
            text += f", {counts[name]:,} {name}"
    if counts.get("replay_rows"):
        text += f"; {counts['replay_rows']:,} of them {REPLAY}"
    return text


def _seeds(order: object, adapter: object) -> str | None:
    if order is None:
        return None
    return f"{order}" if adapter in (None, order) else f"{order} (rows), {adapter} (adapter)"


def _short(fingerprint: str | None) -> str | None:
    return None if fingerprint is None else f"fingerprint {fingerprint[:12]}…"


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _cost(result: Mapping[str, Any]) -> str | None:
    """What the run has cost and by which prices, or why that is not known."""
    cost: dict[str, Any] = result.get("cost") or {}
    estimate: dict[str, Any] = cost.get("estimate") or {}
    if estimate.get("reason"):
        return str(estimate["reason"])
    if cost.get("usd") is None:
        return None
    priced = f", at prices of {estimate['priced_at']}" if estimate.get("priced_at") else ""
    return f"${cost['usd']:.2f}{priced}"


def _warnings(settings: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """What the header of the run warned of, and how it ended if it did not end well."""
    said = [line.removeprefix("warning: ") for line in settings.get("header", []) if line.startswith("warning: ")]
    if result.get("status") in ("failed", "interrupted"):
        said.insert(0, f"The run {result['status']} at step {result.get('step')}: {result.get('message')}")
    return [str(line) for line in said]


def _suggested(settings: Mapping[str, Any]) -> float | None:
    try:
        return suggest_learning_rate(str(settings.get("model_name"))).value if settings.get("lora") else None
    except GlowGeniusError:
        return None


def _preview(values: Mapping[str, Any] | None) -> Preview | None:
    """The first rows with their masks, as the run wrote them down."""
    if values is None:
        return None
    rows = [
        PreviewRow(
            title=row["title"],
            runs=tuple(PreviewRun(**run) for run in row["runs"]),
            num_tokens=row["num_tokens"],
            num_trained=row["num_trained"],
            stop=row["stop"],
        )
        for row in values["rows"]
    ]
    return Preview(
        header=values["header"],
        rows=tuple(rows),
        num_hidden=values["num_hidden"],
        max_length=values["max_length"],
        color=None,
    )


def _comparison(folder: Path) -> Comparison | None:
    """The answers of the first evaluation against those of the last, slice by slice."""
    files = answer_files(folder / ANSWERS)
    if len(files) < 2:  # noqa: PLR2004 - one evaluation has nothing to be compared with
        return None
    base, tuned = read_answers(files[0][1]), read_answers(files[-1][1])
    parts = {name: _slice(name, base[name], tuned[name]) for name in base if name in tuned}
    return Comparison(slices=parts) if parts else None


def _slice(name: str, base: EvaluationResult, tuned: EvaluationResult) -> SliceComparison:
    metric = next((metric for metric in base.metrics if metric in METRICS), base.metrics[0])
    accepted = [row.accepted for row in base.rows]
    # Of a metric of the user's own only the name is in the file.
    baseline = baseline_of(accepted, METRICS.get(metric, METRICS["exact_match"]), counted=accepted)
    return SliceComparison.of(name, base, tuned, metric=metric, baseline=baseline)
