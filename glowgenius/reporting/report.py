"""The HTML report: a run, a comparison or a sweep on one page."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius._files import make_folder, write_whole, writing
from glowgenius._validators import is_integer, is_number
from glowgenius.errors import ConfigError
from glowgenius.evaluation.intervals import mcnemar_exact
from glowgenius.evaluation.tables import comparison_figures
from glowgenius.experiments.cell import shown, shown_difference, span, span_of_difference
from glowgenius.experiments.findings import sweep_figures
from glowgenius.markup.html import join, page, tag
from glowgenius.rendering.preview import Preview
from glowgenius.training.history import CURVES, RATE, history_figures, points_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from markupsafe import Markup

    from glowgenius.evaluation.answers import EvaluationResult, EvaluationRow
    from glowgenius.evaluation.compare import Comparison
    from glowgenius.evaluation.evaluate import AnswerLosses, TokenLoss
    from glowgenius.evaluation.slices import Pair, SliceComparison
    from glowgenius.experiments.cell import SweepPoint
    from glowgenius.experiments.sweep_result import SweepResult

_LOG: Final = logging.getLogger("glowgenius.reporting")

TURNED: Final = 1.05
"""A held-out loss that ends this many times its lowest value has turned; less is noise."""

MOVED: Final = 0.95
"""A training loss that stays above this share of its first value has barely moved."""

FEW_STEPS: Final = 20
"""Below so many updates neither warm-up nor decay means much."""

CUT: Final = 0.1
"""A share of answers at `max_tokens` from which something is wrong."""

UNLIKELY: Final = 0.05
"""A p-value from which on chance alone explains a change."""

MEMORISED: Final = 0.02
"""A training loss in nats per token below which hardly anything is left to learn."""


def diagnose(
    history: Sequence[Mapping[str, object]], comparison: Comparison | None = None, *, suggested: float | None = None
) -> list[str]:
    """The sentences for a run.

    Args:
        history: Rows as in `metrics.jsonl`.
        comparison: The answers before and after, if there are any.
        suggested: The learning rate that is suggested for the model, if there is one.
    """
    train, held = series(history, "train/loss"), series(history, "eval/loss")
    found = [*_turned(train, held), *_barely_moved(train, history, suggested), *_memorised(train, held)]
    if 0 < len(train) < FEW_STEPS:
        found.append(
            f"The run made {len(train)} update{'s' * (len(train) != 1)}; below {FEW_STEPS} the warm-up and the "
            f"decay of "
            "the learning rate decide more than its peak."
        )
    return [*found, *_cut_off(comparison)]


def series(history: Sequence[Mapping[str, object]], key: str) -> list[tuple[int, float]]:
    """Step and finite value of *key*, where it was measured."""
    pairs: list[tuple[Any, Any]] = [(row.get("step"), row.get(key)) for row in history]
    return [(int(step), float(value)) for step, value in pairs if value is not None and math.isfinite(value)]


def _mean(values: Sequence[tuple[int, float]]) -> float:
    return math.fsum(value for _, value in values) / len(values)


def _turned(train: Sequence[tuple[int, float]], held: Sequence[tuple[int, float]]) -> list[str]:
    """Sentences for a held-out loss that rose while the training loss fell; empty otherwise."""
    if len(held) < 2:  # noqa: PLR2004 - one value cannot rise
        return []
    best_step, best = min(held, key=lambda point: (point[1], point[0]))
    last_step, last = held[-1]
    before = [point for point in train if point[0] <= best_step][-10:]
    after = [point for point in train if point[0] > best_step][-10:]
    if last <= TURNED * best or not after:
        return []
    if best_step == 0 or not before:
        return [
            (
                f"The held-out loss was never below the {best:.3g} of step 0 and ended at {last:.3g}: what was "
                f"trained does "
                "not help on these rows, or the learning rate is too high."
            )
        ]
    if _mean(after) >= _mean(before):
        return [
            (
                f"The held-out loss rose from {best:.3g} at step {best_step} to {last:.3g} at step {last_step}, "
                f"and the "
                f"training loss with it ({_mean(before):.3g} → {_mean(after):.3g}): the run is unstable, a "
                f"lower learning "
                "rate may help."
            )
        ]
    return [
        (
            f"The held-out loss rose from {best:.3g} at step {best_step} to {last:.3g} at step {last_step} while the "
            f"training loss fell from {_mean(before):.3g} to {_mean(after):.3g}: overfitting from step {best_step} on. "
            f"result.best_sampler has the weights of step {best_step}."
        )
    ]


def _barely_moved(
    train: Sequence[tuple[int, float]], history: Sequence[Mapping[str, object]], suggested: float | None
) -> list[str]:
    if len(train) < FEW_STEPS:
        return []
    tenth = max(1, len(train) // 10)
    first, last = _mean(train[:tenth]), _mean(train[-tenth:])
    if last <= MOVED * first:
        return []
    rate = max((value for _, value in series(history, "learning_rate")), default=0.0)
    far = ""
    if suggested is not None and rate > 0 and not 1 / 3 <= suggested / rate <= 3:  # noqa: PLR2004 - half a decade
        times = suggested / rate
        ratio = f"{times:.3g} times lower than" if times > 1 else f"{1 / times:.3g} times higher than"
        far = f", which is {ratio} the {suggested:.3g} that is suggested for this model"
    return [
        (
            f"The training loss barely moved: {first:.3g} in the first steps and {last:.3g} in the last of "
            f"{len(train)}. "
            f"The peak learning rate was {rate:.3g}{far}."
        )
    ]


def _memorised(train: Sequence[tuple[int, float]], held: Sequence[tuple[int, float]]) -> list[str]:
    """Sentences for a training loss near zero with a higher held-out loss; empty otherwise."""
    if len(train) < FEW_STEPS or not held:
        return []
    last = _mean(train[-max(1, len(train) // 10) :])
    if last >= MEMORISED or held[-1][1] < 10 * MEMORISED:
        return []
    step = next(step for step, value in train if value < MEMORISED)
    return [
        (
            f"The training rows are known by heart: their loss is {last:.2g}, first below {MEMORISED:g} at step "
            f"{step}, while "
            f"that of the held-out rows is {held[-1][1]:.3g}. More passes over these rows have nothing left to teach."
        )
    ]


def _cut_off(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    return [_truncated(part) for part in comparison.slices.values() if part.tuned.truncated_share >= CUT]


def _truncated(part: SliceComparison) -> str:
    """How many answers of both models were cut off, and whether that is training's doing."""
    cut = [
        (before.stop_reason == "length", after.stop_reason == "length")
        for before, after in zip(part.base.rows, part.tuned.rows, strict=True)
    ]
    p = mcnemar_exact(cut.count((False, True)), cut.count((True, False)))
    base, tuned = part.base.truncated_share, part.tuned.truncated_share
    if p >= UNLIKELY:
        reason = "training has not clearly changed that, so raise max_tokens before you judge the answers"
    elif tuned > base:
        reason = "training made more of them run on: it has not learned to stop, or its answers need more room"
    else:
        reason = "fewer run on than before training; raise max_tokens to see the rest"
    return (
        f"{part.name}: {100 * tuned:.0f} % of the tuned model's answers hit max_tokens={part.tuned.max_tokens}, and "
        f"{100 * base:.0f} % of the base model's hit max_tokens={part.base.max_tokens}: {reason}."
    )


_STANDING = {
    "best": "best",
    "flat": "flat: at most the margin either way",
    "worse": "worse",
    "unclear": "not to be told apart",
    "diverged": "diverged",
    "unknown": "–",
}


def sweep_sections(sweep: SweepResult) -> list[Markup]:
    """All report sections of a sweep, in order."""
    points = sweep.points()
    others = [name for name in sweep.metrics if name != sweep.metric]
    return [
        tag("h2", "What it says"),
        tag("ul", *(tag("li", text) for text in sweep.findings()), class_="verdicts"),
        *sweep_figures(points, base=sweep.base_value(), basis=sweep.basis()),
        tag("h2", "Every point and every run"),
        _folded(f"{len(points)} points", _points(points)),
        *(piece for name in others for piece in _other(sweep, name)),
        _folded(f"{len(sweep.cells)} runs", _runs(sweep)),
        tag(
            "p",
            "The best of several points is on the lucky side: its interval holds for a point that was named "
            "beforehand. "
            "Intervals hold 95 %, over questions and seeds: never narrower than Student's over the seeds, and with one "
            "seed over its questions alone. Differences are paired by question and seed. Worse: the interval of the "
            "difference leaves out 0. Flat: it holds 0 and stays within the margin. Fewer than 10 questions (groups of "
            "them, where they have groups) tell nothing.",
            class_="soft",
        ),
    ]


def _other(sweep: SweepResult, metric: str) -> list[Markup]:
    """Another metric, folded: its findings and figures."""
    said = tag("ul", *(tag("li", text) for text in sweep.findings(metric)), class_="verdicts")
    figures = sweep_figures(sweep.points(metric), base=sweep.base_value(metric), basis=sweep.basis(metric))
    return [tag("details", tag("summary", f"The same by {metric}"), said, *figures)]


def _folded(summary: str, inner: Markup) -> Markup:
    """Numbers for those who want them: on a phone each row is a card, and there may be a hundred."""
    return tag("details", tag("summary", summary), inner)


def _points(points: Sequence[SweepPoint]) -> Markup:
    rows = [
        (
            ("point", f"rank {point.rank}, learning rate {point.learning_rate:g}"),
            (point.metric, shown(point.metric, point.value)),
            ("95 % interval", "–" if point.interval is None else span(point.metric, point.interval)),
            ("against the best", _difference(point)),
            ("standing", _STANDING[point.standing]),
        )
        for point in points
    ]
    return table(rows)


def _difference(point: SweepPoint) -> str:
    if point.difference is None or point.standing == "best":
        return "–"
    limits = point.difference_interval
    interval = "" if limits is None else f" ({span_of_difference(point.metric, limits)})"
    return f"{shown_difference(point.metric, point.difference)}{interval}"


def _runs(sweep: SweepResult) -> Markup:
    rows = [
        (
            ("run", str(cell.cell)),
            ("steps", str(cell.steps)),
            ("training loss", f"{cell.train_loss:.3g}"),
            ("held-out loss", "–" if cell.eval_loss is None else f"{cell.eval_loss:.3g}"),
            ("trained parameters", "–" if cell.trained_parameters is None else f"{cell.trained_parameters:,}"),
            ("seconds", f"{cell.seconds:.0f}"),
            *([("cost", f"${cell.cost_usd:.2f}")] if cell.cost_usd is not None else []),
            ("diverged", cell.diverged or "no"),
        )
        for cell in sweep.cells
    ]
    return table(rows)


def table(rows: Iterable[Sequence[tuple[str, str]]]) -> Markup:
    """A table of heading and text per cell; on a phone, a card per row."""
    lines = list(rows)
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name, _ in lines[0])))
    body = tag("tbody", *(tag("tr", *(tag("td", text, data_label=name) for name, text in line)) for line in lines))
    return tag("div", tag("table", head, body, class_="slices"), class_="wide")


_DARKEST: Final = 6.0
"""The loss in nats from which a token has the strongest colour: one in four hundred."""


def token_section(slices: Sequence[tuple[str, Sequence[AnswerLosses]]]) -> list[Markup]:
    """The answers of each slice as coloured tokens, base above tuned, with every loss below its token."""
    if not slices:
        return []
    return [
        tag("h2", "Token by token"),
        tag(
            "p",
            "Each token of the reference answer, with its loss in nats: the stronger the colour, the less the model "
            "expected it. 0.7 nats is an even chance, 4.6 is one in a hundred.",
            class_="soft",
        ),
        *(piece for name, answers in slices for piece in (tag("h3", name), *map(_answer, answers))),
    ]


def _answer(answer: AnswerLosses) -> Markup:
    rows = [_line("base", answer.tokens), _line("tuned", answer.tokens)]
    return tag("article", tag("p", answer.question, class_="question"), *rows, class_="tokens")


def _line(side: str, tokens: Sequence[TokenLoss]) -> Markup:
    pieces = [_token(token, token.base if side == "base" else token.tuned, side) for token in tokens]
    return tag("div", tag("span", side, class_="who"), *pieces, class_="token-line")


def _token(token: TokenLoss, loss: float, side: str) -> Markup:
    strength = 1.0 if not math.isfinite(loss) else min(max(loss, 0.0) / _DARKEST, 1.0)
    text = token.text.replace("\n", "↵").replace(" ", "·") or "∅"
    shade = tag("i", class_="shade", style=f"opacity: {0.7 * strength:.2f}")
    value = f"{loss:.2f}" if math.isfinite(loss) else str(loss)
    return tag("span", shade, tag("b", text), tag("small", value), class_=f"token {side}")


OPEN_UP_TO: Final = 20
"""A longer list of answers starts folded."""

_EXPLANATION: Final = (
    "Fixed: wrong before training, right after. Broken: the reverse. Kept: the share of what the base answered right "
    "that the tuned model still answers. Majority: what always giving the most frequent answer scores. "
    "Intervals hold 95 %, over questions (their groups, where they have any) and not over training seeds. "
    "p is McNemar's exact test of fixed against broken, counted in groups likewise. "
    "Nats per token: how unlikely the reference answers are, before and after."
)


def comparison_sections(comparison: Comparison) -> list[Markup]:
    """All report sections of a comparison, in order."""
    parts = list(comparison.slices.values())
    return [
        tag("h2", "What changed"),
        *comparison_figures(comparison.rows),
        tag("p", _EXPLANATION, class_="soft"),
        *token_section([(part.name, part.tokens) for part in parts if part.tokens]),
        tag("h2", "Every changed answer"),
        tag("p", "Nats per token say how unlikely each model found the reference answer.", class_="soft"),
        *(piece for part in parts for piece in _answers(part)),
    ]


def _answers(part: SliceComparison) -> list[Markup]:
    """The changed answers of a slice side by side, and those that stayed wrong."""
    kinds = [
        ("broken", part.broken, "bad"),
        ("fixed", part.fixed, "good"),
        ("wrong before and after", part.both_wrong, ""),
    ]
    lists = [_list(part, kind, pairs, mood) for kind, pairs, mood in kinds if pairs]
    return [tag("h3", part.name), *(lists or [tag("p", f"All {part.n} answers were right before and after.")])]


def _list(part: SliceComparison, kind: str, pairs: Sequence[Pair], mood: str) -> Markup:
    """One kind of answers, unfolded if it is a short list of changes."""
    cards = [_card(part, pair, mood) for pair in pairs]
    return tag(
        "details",
        tag("summary", f"{len(pairs)} {kind}", class_=mood),
        *cards,
        open=bool(mood) and len(pairs) <= OPEN_UP_TO,
    )


def _card(part: SliceComparison, pair: Pair, mood: str) -> Markup:
    """One question with both answers."""
    name = f" ({pair.base.id})" if pair.base.id else ""
    return tag(
        "article",
        tag("p", pair.question, class_="question"),
        tag("span", f"accepted{name}: {' / '.join(pair.accepted)}", class_="who"),
        tag("div", _side("base", part.base, pair.base), _side("tuned", part.tuned, pair.tuned), class_="sides"),
        class_=mood,
    )


def _side(role: str, result: EvaluationResult, row: EvaluationRow) -> Markup:
    """One answer, as generated."""
    cut = f", cut off at max_tokens={result.max_tokens}" if row.stop_reason == "length" else ""
    likelihood = "" if row.nll is None else f", {row.nll:.3g} nats per token"
    said = (
        tag("p", row.prediction, class_="answer") if row.prediction else tag("p", tag("em", "nothing"), class_="answer")
    )
    return tag("div", tag("span", f"{role}{cut}{likelihood}", class_="who"), said, class_="side")


def write_html(
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
    """Write the HTML report of what is given; arguments, result and errors are those of `write_report`."""
    target = Path(path)
    if target.is_dir():
        raise ConfigError(
            f"write_report() needs the name of a file, got the folder {str(target)!r}; try report.html in it, "
            "or run= for the report of a run"
        )
    shown = [previews] if isinstance(previews, Preview) else list(previews or ())
    if comparison is None and sweep is None and not history and not header and not shown:
        raise ConfigError(
            "write_report() has nothing to show; give run, comparison, history, header, previews or sweep"
        )
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


_PARTS: Final = {
    "a comparison": "What changed",
    "a history": "How it went",
    "previews": "What was trained",
    "a sweep": "Every point and every run",
}
"""What a page may show → the heading above it."""


def _write(path: Path, text: str) -> None:
    """Write the whole file or nothing; an older page with more on it is kept."""
    make_folder(path.parent)
    if path.is_file():
        _keep(path, text)
    write_whole(path, text)


def _keep(path: Path, text: str) -> None:
    """Put the page at *path* aside, if it shows what *text* does not; once, however often it is written again."""
    older = path.read_bytes()
    before = older.decode("utf-8", "replace")
    lost = [
        part for part, heading in _PARTS.items() if (marked := f"<h2>{heading}</h2>") in before and marked not in text
    ]
    if not lost:
        return
    number = 1
    while (aside := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists() and aside.read_bytes() != older:
        number += 1
    with writing(aside):
        shutil.copyfile(path, aside)
    _LOG.warning(
        "%s showed %s, which the new page does not: the older page is kept as %s", path, " and ".join(lost), aside
    )


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
    """Names and values as a definition list."""
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
