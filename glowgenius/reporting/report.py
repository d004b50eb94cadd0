"""One page that tells a run: what was trained, how it went, what changed, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from glowgenius._files import write_whole
from glowgenius._validators import is_integer, is_number
from glowgenius.errors import ConfigError
from glowgenius.markup.html import Markup, join, page, tag
from glowgenius.rendering.preview import Preview
from glowgenius.reporting.comparison import comparison_sections
from glowgenius.reporting.diagnosis import TURNED, diagnose
from glowgenius.reporting.sweep import sweep_sections
from glowgenius.training.drawing import CURVES, RATE, history_figures, points_of

if TYPE_CHECKING:
    import os

    from glowgenius.evaluation.comparison import Comparison
    from glowgenius.experiments.result import SweepResult


def write_report(
    path: str | os.PathLike[str],
    *,
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

    The same arguments give the same bytes. The page appears whole or not at all; an older one is replaced.

    Args:
        path: The file to write; missing folders are made.
        comparison: Base against tuned.
        history: Rows as in `metrics.jsonl`: `step`, and what was measured of `train/loss`, `eval/loss` and
            `learning_rate`.
        header: Facts of the run, name and value, in the order to show.
        previews: Rendered rows, from `glowgenius.preview`.
        sweep: A grid of runs, from `glowgenius.sweep`; its header is shown with *header*.
        warnings: Sentences to show on top, beside those that the numbers themselves call for.
        suggested_learning_rate: What is suggested for the model, to judge a loss that does not move by.
        title: The headline; None says what the page is about.

    Returns:
        The path of the page.

    Raises:
        ConfigError: There is nothing to show, a row of the history is not one, or *path* is a folder.
        OSError: The file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise ConfigError(
            f"write_report() needs the name of a file, got the folder {str(target)!r}; try report.html in it"
        )
    shown = [previews] if isinstance(previews, Preview) else list(previews or ())
    if comparison is None and sweep is None and not history and not header and not shown:
        raise ConfigError("write_report() has nothing to show; give comparison, history, header, previews or sweep")
    _require_rows(history or ())
    headline = title or ("Training report" if sweep is None else "Sweep of rank and learning rate")
    alarms = [*warnings, *_history_warnings(history or ()), *_comparison_warnings(comparison)]
    facts = {**({} if sweep is None else sweep.header), **(header or {})}
    body = [tag("h1", headline)]
    if facts:
        body.append(tag("dl", *_facts(facts), class_="facts"))
    if alarms:
        body.append(tag("ul", *(tag("li", text) for text in alarms), class_="warnings"))
    body.extend(_said(diagnose(history or (), comparison, suggested=suggested_learning_rate), comparison))
    if sweep is not None:
        body.extend(sweep_sections(sweep))
    body.extend(_history_section(history or ()))
    if comparison is not None:
        body.extend(comparison_sections(comparison))
    if shown:
        body.append(tag("h2", "What was trained"))
        body.append(tag("p", "Marked tokens carry loss; the others are context.", class_="soft"))
        body.extend(piece for preview in shown for piece in _preview(preview))
    _write(target, page(headline, body))
    return target


def _said(diagnosis: Sequence[str], comparison: Comparison | None) -> list[Markup]:
    """What the run says, in sentences."""
    sentences = [*(() if comparison is None else comparison.sentences), *diagnosis]
    if not sentences:
        return []
    return [tag("h2", "What it says"), tag("ul", *(tag("li", text) for text in sentences), class_="verdicts")]


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def _require_rows(history: Sequence[Mapping[str, object]]) -> None:
    """Refuse a history that could not be drawn."""
    for index, row in enumerate(history):
        step = row.get("step")
        if not is_integer(step):
            raise ConfigError(
                f"history[{index}] needs the integer 'step', got {step!r}; it has {', '.join(row) or 'nothing'}"
            )
        for key in (*(key for key, _, _ in CURVES), RATE):
            value = row.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"history[{index}][{key!r}] must be a number or None, got {value!r}")


def _history_section(history: Sequence[Mapping[str, object]]) -> list[Markup]:
    """The curves of the run, as far as there are any."""
    figures = history_figures(history)
    return [tag("h2", "How it went"), *figures] if figures else []


def _history_warnings(history: Sequence[Mapping[str, object]]) -> list[str]:
    """Losses that are no numbers, and a held-out loss that turned."""
    found: list[str] = []
    for key, name, _ in CURVES:
        broken = [step for step, value in points_of(history, key) if not math.isfinite(value)]
        if broken:
            found.append(
                f"The {name} loss is not finite at {len(broken)} steps, first at step {broken[0]:g}: the run diverged."
            )
    held_out = [point for point in points_of(history, "eval/loss") if math.isfinite(point[1])]
    # With training losses beside it, the diagnosis says more of the same; a last digit is no turn.
    if held_out and not points_of(history, "train/loss"):
        best_step, best = min(held_out, key=lambda point: point[1])
        last_step, last = held_out[-1]
        if last > TURNED * best:
            found.append(
                f"The held-out loss was lowest at step {best_step:g} ({best:.4g}) "
                f"and ended higher at step {last_step:g} ({last:.4g})."
            )
    return found


def _comparison_warnings(comparison: Comparison | None) -> list[str]:
    """Likelihoods that are no numbers."""
    if comparison is None:
        return []
    found: list[str] = []
    for part in comparison.slices.values():
        for role, result in (("base", part.base), ("tuned", part.tuned)):
            if not math.isfinite(result.means.get("nll", 0.0)):
                found.append(f"{part.name}: the likelihood of the answers under the {role} model is not finite.")
    return found


def _facts(header: Mapping[str, object]) -> list[Markup]:
    """Names and values as pairs of a list."""
    return [piece for name, value in header.items() for piece in (tag("dt", str(name)), tag("dd", _value(value)))]


def _value(value: object) -> str:
    """A fact as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and is_number(value):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        named = cast("Mapping[object, object]", value)
        return ", ".join(f"{name} {_value(inner)}" for name, inner in named.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, cast("Sequence[object]", value)))
    return str(value)


def _preview(preview: Preview) -> list[Markup]:
    """Rendered rows, the trained tokens marked."""
    pieces = [tag("p", preview.header, class_="soft")]
    for row in preview.rows:
        pieces.append(tag("h3", f"{row.title}: {row.num_tokens} tokens, {row.num_trained} trained; {row.stop}"))
        runs: list[Markup] = []
        for run in row.runs:
            over = {"class_": "over"} if run.over else {}
            runs.append(
                tag("mark", run.text, title=f"weight {run.weight:g}", **over)
                if run.weight
                else tag("span", run.text, **over)
            )
        pieces.append(tag("pre", join(runs)))
    if preview.num_hidden:
        pieces.append(tag("p", f"… and {preview.num_hidden} more rows", class_="soft"))
    return pieces
