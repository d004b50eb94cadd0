"""Draw the pictures of docs/understanding.md from the recorded results; nothing is run.

    python -m pip install matplotlib
    python -m examples.experiments.figures                # writes docs/figures/*.svg

A picture shows what is recorded: the mean over the seeds there are, and every single seed as a thin line or a dot.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import RESULTS, recorded, select

if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "docs" / "figures"

COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Okabe and Ito's, which people who do not see red and green apart can tell apart."""


def main() -> int:
    """Draw everything."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("before_after", draw_before_after),
        ("facts", draw_facts),
        ("rank_early", draw_rank_early),
        ("capacity", draw_capacity),
        ("learning_rate", draw_learning_rate),
    ):
        if (RESULTS / f"{name}.json").exists() and len(recorded(name)) > 1:
            save(draw(), DIRECTORY / f"{name}.svg")
            print(f"docs/figures/{name}.svg")
    if (RESULTS / "facts.json").exists() and list(select("facts", arm="4 wordings")):
        save(draw_frontier(), DIRECTORY / "frontier.svg")
        print("docs/figures/frontier.svg")
    return 0


def draw_before_after() -> Any:
    """What the example's model gets right before training and after, on each kind of question."""
    figure, axes = plane("share of right answers", "")
    runs = [row["figures"]["slices"] for row in recorded("before_after")]
    slices = list(runs[0])
    for place, (side, label) in enumerate((("base", "before"), ("tuned", "after"))):
        left = [position + (place - 0.5) * 0.4 for position in range(len(slices))]
        shares = [
            [run[name][side]["contains" if name == "control" else "exact_match"] for name in slices] for run in runs
        ]
        axes.bar(left, [mean(values) for values in zip(*shares, strict=True)], 0.4, label=label, color=shade(place))
        for values in shares:
            axes.plot(left, values, ".", color="black", markersize=3)
    axes.set_xticks(range(len(slices)), ["seen", "new wording", "never shown", "general"])
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def draw_frontier() -> Any:
    """General questions still answered, against facts learned, as training goes on."""
    figure, axes = plane("general questions still right", "facts right in new wordings")
    (base,) = (row["figures"] for row in select("facts", arm="base"))
    for place, arm in enumerate(("4 wordings", "4 wordings and replay", "4 wordings and distributions")):
        runs = [row["figures"]["points"] for row in select("facts", arm=arm)]
        if not runs:
            continue
        paths = [[(point["paraphrase"], point["retention_contains"]) for point in (base, *points)] for points in runs]
        for path in paths:
            axes.plot(*zip(*path, strict=True), color=COLORS[place], linewidth=0.5, alpha=0.4)
        middle = [tuple(map(mean, zip(*points, strict=True))) for points in zip(*paths, strict=True)]
        axes.plot(*zip(*middle, strict=True), "o-", color=COLORS[place], markersize=4, label=arm)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def draw_facts() -> Any:
    """What each arm scores on each kind of question."""
    figure, axes = plane("share of right answers", "")
    slices = ("seen", "paraphrase", "reverse", "unseen", "retention_contains")
    arms = list(dict.fromkeys(row["cell"]["arm"] for row in recorded("facts")))
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        rows = list(select("facts", arm=arm))
        left = [position + (place - (len(arms) - 1) / 2) * width for position in range(len(slices))]
        heights = [mean(row["figures"][name] for row in rows) for name in slices]
        axes.bar(left, heights, width, label=arm, color=shade(place))
        for row in rows:
            axes.plot(left, [row["figures"][name] for name in slices], ".", color="black", markersize=3)
    axes.set_xticks(range(len(slices)), ["seen", "new wording", "backwards", "never shown", "general"])
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return figure


def draw_rank_early() -> Any:
    """The loss of the first steps, under both scalings."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axes, scaling in zip(panels, ("1/r", "1/sqrt(r)"), strict=True):
        ranks = sorted({row["cell"]["rank"] for row in recorded("rank_early")})
        for place, rank in enumerate(ranks):
            # At rank 1 the two scalings are one, and it was run once.
            rows = list(select("rank_early", rank=rank, scaling=scaling)) or list(select("rank_early", rank=rank))
            curves([row["figures"]["losses"] for row in rows], axes, f"rank {rank}", COLORS[place])
        finish(axes, "step", "loss, nats per token" if scaling == "1/r" else "")
        axes.set_title(f"alpha · {scaling}", fontsize=9)
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def draw_capacity() -> Any:
    """Bits held against numbers trained."""
    figure, axes = plane("bits held", "trained numbers")
    rows = recorded("capacity")
    held: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        held[row["figures"]["trained_parameters"]].append(row["figures"]["bits_held"])
    sizes = sorted(held)
    axes.plot(sizes, [mean(held[size]) for size in sizes], color=COLORS[0], label="held by the adapter")
    for size in sizes:
        axes.plot([size] * len(held[size]), held[size], ".", color=COLORS[0])
    axes.axhline(rows[0]["figures"]["bits_to_learn"], color=COLORS[1], label="in all codes together")
    axes.plot(sizes[:2], [2 * size for size in sizes[:2]], ":", color="gray", label="2 bits a number")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_learning_rate() -> Any:
    """The loss on new wordings against the rate, and against how far the model moved."""
    from matplotlib import pyplot as plt

    figure, (curve, cost) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
    base = [row["figures"]["own_answers_nll"] for row in select("learning_rate", method="base")]
    for place, (method, label) in enumerate((("lora", "LoRA, rank 8"), ("full", "every weight"))):
        found: dict[float, list[tuple[float, float]]] = defaultdict(list)
        for row in select("learning_rate", method=method):
            values = row["figures"]
            moved = values["own_answers_nll"] - (base[0] if base else 0)
            found[row["cell"]["learning_rate"]].append((values["held_out_wording_nll"], moved))
        rates = sorted(found)
        losses = [mean(loss for loss, _ in found[rate]) for rate in rates]
        curve.plot(rates, losses, "-", color=COLORS[place], label=label)
        cost.plot([mean(moved for _, moved in found[rate]) for rate in rates], losses, "-", color=COLORS[place])
        for rate in rates:
            for loss, moved in found[rate]:
                curve.plot(rate, loss, ".", color=COLORS[place])
                cost.plot(moved, loss, ".", color=COLORS[place])
    finish(curve, "learning rate", "loss on new wordings, nats")
    finish(cost, "loss added to the base model's own answers, nats", "")
    curve.set_xscale("log")
    curve.set_yscale("log")
    cost.set_xscale("symlog", linthresh=0.1)
    curve.legend(frameon=False, fontsize=8)
    return figure


def curves(lines: Sequence[Sequence[float]], axes: Any, label: str, color: str) -> None:
    """Draw each line thin and their mean thick."""
    steps = range(1, len(lines[0]) + 1)
    for line in lines:
        axes.plot(steps, line, color=color, linewidth=0.5, alpha=0.4)
    axes.plot(steps, [mean(values) for values in zip(*lines, strict=True)], color=color, label=label)


def plane(ylabel: str, xlabel: str) -> tuple[Any, Any]:
    """A figure with one pair of axes."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    finish(axes, xlabel, ylabel)
    return figure, axes


def finish(axes: Any, xlabel: str, ylabel: str) -> None:
    """Label the axes, and leave out the frame that says nothing."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)


def shade(place: int) -> str:
    """The base in gray, the arms in colors."""
    return "#999999" if place == 0 else COLORS[(place - 1) % len(COLORS)]


def save(figure: Any, path: Path) -> None:
    """Write an SVG that is the same file whenever it is drawn from the same results."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", transparent=False)


if __name__ == "__main__":
    import matplotlib as mpl

    mpl.use("Agg")
    sys.exit(main())
