"""A comparison as text table, sentences and plots."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from glowgenius._output import columns
from glowgenius.evaluation.answers import trained_lines
from glowgenius.evaluation.intervals import FEWEST_GROUPS, MARGIN, RULE, limits, p_value, percent, points
from glowgenius.markup.html import tag
from glowgenius.markup.plots import Dot, Row, whisker_chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from glowgenius.evaluation.answers import EvaluationResult
    from glowgenius.evaluation.slices import SliceComparison

WIDTH: Final = 100
"""Columns of the widest line."""

_NAME_WIDTH: Final = 14


def comparison_table(parts: Sequence[SliceComparison], sentences: Sequence[str] = ()) -> str:
    """Table of slices, then each slice's verdict with every mean, and the overall sentences."""
    header = ("slice", "n", "base", "tuned", "majority", "kept", "fixed", "broken", "points", "95 %", "p")
    lines = columns([header, *(_row(part) for part in parts)])
    names = dict.fromkeys((part.base.name, part.tuned.name) for part in parts)
    titles = [title for base, tuned in names for title in _titles(base, tuned)]
    said = [line for part in parts for line in _block(part)]
    together = ["", *_wrapped(sentences)] if sentences else []
    rule = ["", *_wrapped([RULE])]
    return "\n".join([*_wrapped(titles), "", lines[0], "-" * len(lines[0]), *lines[1:], "", *said, *together, *rule])


def notes(part: SliceComparison) -> list[str]:
    """Caveats about the numbers of a slice."""
    found = [] if part.name.endswith((": trained", ": not trained")) else trained_lines(part.tuned)[:1]
    if part.num_groups < part.n:
        found.append(
            f"{part.n} questions in {part.num_groups} group{'s' * (part.num_groups > 1)}; interval and p go by groups"
        )
    found.extend(
        f"{result.num_truncated} of {part.n} answers of {role} were cut off at max_tokens={result.max_tokens}"
        for role, result in (("base", part.base), ("tuned", part.tuned))
        if result.num_truncated
    )
    found.extend(
        f"{result.num_invalid} of {part.n} answers of {role} are not valid JSON"
        for role, result in (("base", part.base), ("tuned", part.tuned))
        if result.num_invalid
    )
    found.extend(part.base.warnings)
    # Not worth a note for a score below the majority baseline.
    if part.name_baseline is not None and part.name_baseline > part.baseline.score:
        found.append(
            f"giving the answer of the most similar training question of another group scores "
            f"{percent(part.name_baseline)}"
        )
    if part.few_shot is not None:
        found.append(f"base behind worked examples: {part.metric} {percent(part.few_shot.means[part.metric])}")
    found.extend(str(ranking) for ranking in part.ranking or ())
    return found


def means(part: SliceComparison) -> list[str]:
    """Every mean that both models have, as `metric base → tuned`."""
    old, new = part.base.means, part.tuned.means
    shown = [f"{name} {percent(old[name])} → {percent(new[name])}" for name in part.base.metrics if name in new]
    if "nll" in old and "nll" in new:
        shown.append(f"nll {old['nll']:.3f} → {new['nll']:.3f} nats per token")
    return shown


def _titles(base: str, tuned: str) -> list[str]:
    """Names of both models, on one line if short enough."""
    titles = [f"base: {base}", f"tuned: {tuned}"]
    line = "   ".join(titles)
    return [line] if len(line) <= WIDTH else titles


def _row(part: SliceComparison) -> tuple[str, ...]:
    """Cells of one slice; a name that is too long appears in full below the table."""
    scores = (part.base.means[part.metric], part.tuned.means[part.metric])
    shares = (*scores, part.baseline.score, part.retention)
    return (
        _short(part.name),
        str(part.n),
        *("-" if share is None else percent(share).replace(" ", "") for share in shares),
        str(len(part.fixed)),
        str(len(part.broken)),
        points(part.difference),
        f"{points(part.interval.low)} to {points(part.interval.high)}",
        shown_p(part),
    )


def shown_p(part: SliceComparison) -> str:
    """The p-value of a slice; a dash if there are too few groups for a verdict."""
    return p_value(part.mcnemar_p) if part.num_groups >= FEWEST_GROUPS else "-"


def _short(name: str) -> str:
    whole, _, part = name.rpartition(": ")
    if whole and part in ("trained", "not trained"):
        return f"  {part}"  # it stands below its slice
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _block(part: SliceComparison) -> list[str]:
    """Verdict and notes of a slice, under its name."""
    lines = [part.verdict, ", ".join(means(part)), *(f"note: {note}" for note in notes(part))]
    return _wrapped([f"{part.name}, judged by {part.metric}: {lines[0]}", *(f"  {line}" for line in lines[1:])])


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Lines wrapped at `WIDTH`, with indented continuations."""
    return [
        piece
        for line in lines
        for piece in textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) or [""]
    ]


KEPT: Final = ("control", "retention")
"""Slices of what the base model knew."""


def sentences(parts: Mapping[str, SliceComparison]) -> tuple[str, ...]:
    """Overall conclusions; slices with other names are ignored."""
    found = [_learned(parts.get("seen"), parts.get("paraphrase"), parts.get("unseen"))]
    found += [_form(part) for name, part in parts.items() if name not in KEPT and part.metric != "abstains"]
    found += [_kept(part) for name, part in parts.items() if name in KEPT]
    found += [_invented(part) for part in parts.values() if part.metric == "abstains"]
    return tuple(sentence for sentence in found if sentence)


def _moved(part: SliceComparison) -> str:
    """Score before and after, with the interval of the difference."""
    old, new = part.base.means[part.metric], part.tuned.means[part.metric]
    interval = f"{points(part.interval.low)} to {points(part.interval.high)} points"
    return f"{percent(old)} → {percent(new)} of {part.n} (95 % interval of the difference {interval})"


def _learned(seen: SliceComparison | None, paraphrase: SliceComparison | None, unseen: SliceComparison | None) -> str:
    """Whether facts, their wording, or the subject were learned."""
    if seen is None:
        return ""
    if not _gained(seen):
        said = "Too few questions to tell whether" if _maybe(seen) else "There is no sign that"
        return f"{said} the trained questions were learned: {_moved(seen)}."
    if paraphrase is None or _gained(paraphrase):
        return _facts(seen, paraphrase, unseen)
    if _maybe(paraphrase):
        return (
            f"It learned its training questions, {_moved(seen)}; too few questions to tell whether it learned "
            f"the facts "
            f"behind them: in other words {_moved(paraphrase)}."
        )
    return (
        f"It learned its training questions by heart, {_moved(seen)}, and not the facts: in other words "
        f"{_moved(paraphrase)}."
    )


def _facts(seen: SliceComparison, paraphrase: SliceComparison | None, unseen: SliceComparison | None) -> str:
    """What was learned, and whether it generalises beyond the training questions."""
    facts = "" if paraphrase is None else f", and in other words {_moved(paraphrase)}"
    what = "its training questions" if paraphrase is None else "these facts"
    if unseen is None:
        return f"It learned {what}: {_moved(seen)}{facts}."
    guess = max(unseen.baseline.score, unseen.name_baseline or 0.0)
    share = unseen.tuned.means[unseen.metric]
    if unseen.tuned.interval(unseen.metric).low > guess:
        return (
            f"It learned {what}, {_moved(seen)}{facts}; and it answers {percent(share)} of {unseen.n} facts that it "
            f"was never shown, which guessing does not explain ({percent(guess)})."
        )
    return (
        f"It learned {what} and not the subject: {_moved(seen)}{facts}; of {unseen.n} facts that it was never shown it "
        f"gets {percent(share)}, not surely more than guessing does ({percent(guess)})."
    )


def _gained(part: SliceComparison) -> bool:
    return part.finding == "higher"


def _maybe(part: SliceComparison) -> bool:
    """Whether the interval includes a gain that would matter."""
    return part.finding == "unknown" and part.interval.high > MARGIN


def _form(part: SliceComparison) -> str:
    """Share of a gain that comes from the form of the answers alone."""
    if part.few_shot is None:
        return ""
    zero, few = part.base.means[part.metric], part.few_shot.means[part.metric]
    tuned = part.tuned.means[part.metric]
    if tuned <= zero:
        return ""
    if tuned <= few:
        return (
            f"{part.name}: {percent(zero)} → {percent(tuned)} may be the form of the answer alone: worked examples "
            f"bring the base model to {percent(few)}."
        )
    form = max(0.0, few - zero)
    return (
        f"{part.name}: of the {points(tuned - zero)} points, {points(form)} may be the form of the answer, as the base "
        f"model behind worked examples gets {percent(few)}; the other {points(tuned - zero - form)} are not."
    )


def _kept(part: SliceComparison) -> str:
    """How much of the base model's knowledge is kept."""
    known = len(part.both_right) + len(part.broken)
    interval = part.retention_interval
    if part.retention is None or interval is None:
        return f"{part.name}: the base model answered none of {part.n} questions, so there was nothing to keep."
    return (
        f"{part.name}: it keeps {percent(part.retention)} of what the base model answered, {len(part.both_right)} of "
        f"{known} questions (95 % interval {limits(interval.low, interval.high)})."
    )


def _invented(part: SliceComparison) -> str:
    """How often it gives a made-up answer to a question about something that does not exist."""
    old, new = 1 - part.base.means["abstains"], 1 - part.tuned.means["abstains"]
    interval = part.tuned.interval("abstains")
    return (
        f"{part.name}: it answers {percent(new)} of {part.n} questions about things that do not exist as if they did "
        f"(95 % interval {limits(1 - interval.high, 1 - interval.low)}); before training "
        f"{percent(old)}."
    )


def comparison_figures(parts: Sequence[SliceComparison]) -> list[Markup]:
    """Verdict of each slice, both charts, and the table."""
    verdicts = [
        tag(
            "li",
            tag("strong", part.name),
            f": {part.verdict}",
            *(tag("span", note, class_="soft") for note in notes(part)),
        )
        for part in parts
    ]
    return [
        tag("ul", *verdicts, class_="verdicts"),
        tag("p", RULE, class_="soft"),
        tag("div", _scores(parts), _differences(parts), class_="charts"),
        _table(parts),
    ]


def _scores(parts: Sequence[SliceComparison]) -> Markup:
    """Chart of both scores of each slice with intervals, and the majority baseline."""
    rows = [
        Row(
            label=part.name,
            dots=(_score(part.base, part.metric, "base"), _score(part.tuned, part.metric, "tuned")),
            tick=part.baseline.score,
        )
        for part in parts
    ]
    keys = [("base", "○ base"), ("tuned", "● tuned"), ("majority", "| majority baseline")]
    return whisker_chart("Score", rows, low=0, high=1, show=percent, keys=keys)


def _score(result: EvaluationResult, metric: str, side: str) -> Dot:
    interval = result.interval(metric)
    mean = result.means[metric]
    title = f"{side}: {percent(mean)}, 95 % interval {percent(interval.low)} to {percent(interval.high)}"
    return Dot(value=mean, low=interval.low, high=interval.high, colour=side, hollow=side == "base", title=title)


def _differences(parts: Sequence[SliceComparison]) -> Markup:
    """Chart of each slice's difference with its interval, on a scale that includes 0."""
    rows = [
        Row(
            label=part.name,
            dots=(
                Dot(
                    value=part.difference,
                    low=part.interval.low,
                    high=part.interval.high,
                    colour="tuned",
                    title=f"{points(part.difference)} points, 95 % interval {_interval(part)}",
                ),
            ),
        )
        for part in parts
    ]
    keys = [("tuned", "● difference with its 95 % interval")]
    low = min(0.0, *(part.interval.low for part in parts)) - 0.05
    high = max(0.0, *(part.interval.high for part in parts)) + 0.05
    return whisker_chart(
        "Difference in points, tuned minus base", rows, low=low, high=high, show=points, zero=True, keys=keys
    )


def _interval(part: SliceComparison) -> str:
    return f"{points(part.interval.low)} to {points(part.interval.high)}"


def _table(parts: Sequence[SliceComparison]) -> Markup:
    """HTML table with one row per slice; cards on a phone."""
    rows = [_cells(part) for part in parts]
    names = [name for name, _ in rows[0]]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag("tbody", *(tag("tr", *(tag("td", text, data_label=name) for name, text in row)) for row in rows))
    return tag("div", tag("table", head, body, class_="slices"), class_="wide")


def _cells(part: SliceComparison) -> list[tuple[str, str | Markup]]:
    """Heading and text of each cell."""
    old, new = part.base.means, part.tuned.means
    likelihood = f"{old['nll']:.3f} → {new['nll']:.3f}" if "nll" in old and "nll" in new else "–"
    return [
        ("slice", part.name),
        ("judged by", part.metric),
        ("n", str(part.n)),
        ("base", _with_interval(part.base, part.metric)),
        ("tuned", _with_interval(part.tuned, part.metric)),
        ("majority", percent(part.baseline.score)),
        ("kept", "–" if part.retention is None else percent(part.retention)),
        ("fixed", str(len(part.fixed))),
        ("broken", str(len(part.broken))),
        ("points", points(part.difference)),
        ("95 % interval", _interval(part)),
        ("p", shown_p(part)),
        ("nats / token", likelihood),
    ]


def _with_interval(result: EvaluationResult, metric: str) -> Markup:
    """A score with its interval in small type below."""
    interval = result.interval(metric)
    span = limits(interval.low, interval.high)
    return tag("span", f"{percent(result.means[metric])} ", tag("small", span))
