"""The numbers of docs/understanding.md: each is followed by its name in a comment, and this writes the number.

    python -m examples.experiments.prose             # puts the recorded figures into the page
    python -m examples.experiments.prose --check     # exit 1 if the page says something else than the results

    It held 2,707<!-- capacity.1.bits --> bits.

Every number comes from a file in `results/`; a name that no result stands behind is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import RESULTS, recorded, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "understanding.md"

CONSTANTS: Final = (
    *(
        "0.0001",
        "0.0003",
        "0.01",
        "2019",
        "2021",
        "2023",
        "2025",
        "20",
        "135",
        "95",
        "30",
        "128",
        "3.1",
        "0",
        "3",
        "4",
        "8",
        "16",
        "32",
        "1",
        "2",
        "5",
        "40",
        "44",
        "60",
        "10",
        "24",
        "256",
        "64",
    ),
    *("26.6", "192", "83920517", "0417", "0.001", "91"),
)
"""Numbers of the prose that are no results: years, sizes, and settings that the scripts name."""

MARKED: Final = re.compile(r"(?P<number>[^\s|(]+(?: to [^\s|(]+)?(?: %)?)<!-- (?P<name>[^ ]+) -->")

DIFFERENCES: Final = (
    ("paraphrase", "4 wordings", "1 wording"),
    ("paraphrase", "8 wordings", "1 wording"),
    ("paraphrase", "4 wordings and replay", "4 wordings"),
    ("seen", "4 wordings and replay", "4 wordings"),
    ("retention", "4 wordings", "base"),
    ("retention", "4 wordings and replay", "4 wordings"),
    ("retention", "4 wordings and distributions", "4 wordings"),
    ("retention", "4 wordings and distributions", "4 wordings and replay"),
    ("retention", "4 wordings and distributions", "base"),
    ("paraphrase", "4 wordings and distributions", "4 wordings and replay"),
    ("paraphrase", "4 wordings and distributions", "4 wordings"),
    ("reverse", "4 wordings", "base"),
    ("unseen", "4 wordings", "base"),
)
"""What the page compares of `facts`: which questions, of which arm, with which other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a number differs")
    options = parser.parse_args(arguments)
    text = PAGE.read_text(encoding="utf-8")
    known = figures()
    if options.check:
        wrong = differences(text, known)
        print("\n".join(wrong) or "every number is the recorded one")
        return 1 if wrong else 0
    PAGE.write_text(rewritten(text, known), encoding="utf-8")
    return 0


def rewritten(text: str, known: dict[str, str]) -> str:
    """Put every named number in its place.

    Raises:
        LookupError: A name stands for nothing that is recorded.
    """

    def number(match: re.Match[str]) -> str:
        if match["name"] not in known:
            raise LookupError(f"{match['name']!r} is not a recorded figure; there are {', '.join(sorted(known))}")
        return f"{known[match['name']]}<!-- {match['name']} -->"

    return MARKED.sub(number, text)


def differences(text: str, known: dict[str, str]) -> list[str]:
    """List the named numbers that are not the recorded ones."""
    return [
        f"{match['name']}: the page says {match['number']}, recorded is {known.get(match['name'], 'nothing')}"
        for match in MARKED.finditer(text)
        if known.get(match["name"]) != match["number"]
    ]


def figures() -> dict[str, str]:
    """Every figure that the page may name, as it is written there."""
    parts = {
        "frozen": of_frozen,
        "efficiency": of_efficiency,
        "rank_early": of_rank_early,
        "capacity": of_capacity,
        "facts": of_facts,
        "learning_rate": of_learning_rate,
        "before_after": of_before_after,
    }
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        if (RESULTS / f"{name}.json").exists()
        for key, value in part().items()
    }


def of_frozen() -> dict[str, str]:
    """The hash of the base model before and after, and the differences of its logits."""
    (row,) = recorded("frozen")
    values = row["figures"]
    return {
        "before": values["base_sha256_before"][:12],
        "after": values["base_sha256_after"][:12],
        "untrained": f"{values['largest_logit_difference_of_an_untrained_adapter']:g}",
        "off": f"{values['largest_logit_difference_with_the_adapter_off']:g}",
    }


def of_efficiency() -> dict[str, str]:
    """Measured cost of a step, and the counted sizes of models."""
    found: dict[str, str] = {}
    cost = {method: averages("efficiency", method=method) for method in ("lora", "full")}
    if all(cost.values()):
        for method, values in cost.items():
            found[f"{method}.seconds"] = f"{values['cpu_seconds_per_step']:.2f}"
            found[f"{method}.gigabytes"] = f"{values['peak_memory_bytes'] / 1e9:.1f}"
        ratio = cost["lora"]["cpu_seconds_per_step"] / cost["full"]["cpu_seconds_per_step"]
        found["measured_ratio"] = f"{ratio:.2f}"
        found["runs"] = str(len(list(select("efficiency", method="lora"))))
    for row in recorded("efficiency"):
        cell, values = row["cell"], row["figures"]
        if "model" in cell:
            name = f"{cell['model'].rsplit('/', 1)[-1].lower()}.{cell['rank']}"
            found[f"{name}.trained"] = f"{values['trained_parameters']:,}"
            found[f"{name}.trained_millions"] = f"{values['trained_parameters'] / 1e6:.1f}"
            found[f"{name}.share"] = f"{100 * values['trained_parameters'] / values['adapted_weights']:.1f} %"
            found[f"{name}.megabytes"] = f"{values['adapter_file_bytes_float32'] / 1e6:,.1f}"
            found[f"{name}.full_gigabytes"] = f"{values['training_state_bytes_full'] / 1e9:,.1f}"
            found[f"{name}.lora_gigabytes"] = f"{values['training_state_bytes_lora'] / 1e9:,.1f}"
            found[f"{name}.operations"] = f"{values['operations_lora_over_full']:.2f}"
    return found


def of_rank_early() -> dict[str, str]:
    """How far the losses of the ranks are apart after ten steps, under each scaling."""
    found: dict[str, str] = {}
    last: dict[str, dict[int, list[float]]] = {"1/r": {}, "1/sqrt(r)": {}}
    for row in recorded("rank_early"):
        cell, loss = row["cell"], row["figures"]["losses"][-1]
        for scaling in [cell["scaling"]] if cell["rank"] > 1 else list(last):
            last[scaling].setdefault(cell["rank"], []).append(loss)
    for scaling, name in (("1/r", "linear"), ("1/sqrt(r)", "root")):
        means = {rank: mean(values) for rank, values in last[scaling].items()}
        if len(means) < 2:  # noqa: PLR2004 - one rank has nothing to be apart from
            continue
        found |= {f"{name}.{rank}": f"{value:.2f}" for rank, value in means.items()}
        found[f"{name}.spread"] = f"{max(means.values()) - min(means.values()):.2f}"
    found["seeds"] = seeds_of(recorded("rank_early"), "rank")
    return found


def of_capacity() -> dict[str, str]:
    """The bits that adapters of each rank hold."""
    rows = recorded("capacity")
    found = {"bits": f"{rows[0]['figures']['bits_to_learn']:,}", "seeds": seeds_of(rows, "rank")}
    for rank in sorted({row["cell"]["rank"] for row in rows}):
        values = averages("capacity", rank=rank)
        found[f"{rank}.trained"] = f"{values['trained_parameters']:,.0f}"
        found[f"{rank}.bits"] = f"{values['bits_held']:,.0f}"
        found[f"{rank}.bits_per_number"] = f"{values['bits_per_parameter']:.1f}"
        found[f"{rank}.recalled"] = percent(values["codes_recalled"])
    return found


def of_facts() -> dict[str, str]:
    """The scores of each arm, the numbers of runs, and paired differences between arms with their intervals."""
    found: dict[str, str] = {}
    arms = list(dict.fromkeys(row["cell"]["arm"] for row in recorded("facts")))
    for arm in arms:
        rows = [row["figures"] for row in select("facts", arm=arm)]
        name = arm.replace(" ", "_")
        found[f"{name}.runs"] = str(len(rows))
        for key in [key for key, value in rows[0].items() if isinstance(value, float | int)]:
            values = [row[key] for row in rows]
            written = "{:.2f}".format if key.endswith("_nll") else percent
            found[f"{name}.{key}"] = written(mean(values))
            found[f"{name}.{key}.range"] = f"{written(min(values)).removesuffix(' %')} to {written(max(values))}"
        found |= {f"{name}.{key}.n": str(len(value)) for key, value in rights(rows[0]).items()}
    found |= of_general_questions(arms)
    for questions, arm, other in DIFFERENCES:
        if arm in arms and other in arms:
            name = f"{questions}.{arm}-{other}".replace(" ", "_")
            found[name], found[f"{name}.interval"] = paired(questions, arm, other)
    return found


def of_general_questions(arms: Sequence[str]) -> dict[str, str]:
    """How general questions were selected, how many share their form with a replay row, and the scores of near ones.

    Near is a question that has all words but the last in common with a question of the replay rows.
    """
    from examples.nyc import build, data

    everything = data.load()
    forms = {build.form(row.question) for row in everything.replay}
    openings = {tuple(data.words(row.question)[:-1]) for row in everything.replay}
    found: dict[str, str] = {"replay.rows": str(len(everything.replay))}
    for name, rows in (("control", everything.control), ("retention", everything.retention)):
        found[f"{name}.of"] = str(len(rows))
        found[f"{name}.candidates"] = str(len(build.read_csv(f"{name}_candidates.csv")))
        found[f"{name}.same_form"] = str(sum(build.form(row.question) in forms for row in rows))
    near = [tuple(data.words(row.question)[:-1]) in openings for row in everything.retention]
    for kind, wanted in (("near", True), ("other", False)):
        found[f"{kind}.n"] = str(near.count(wanted))
        for arm in arms:
            right = [
                int(one)
                for row in select("facts", arm=arm)
                for one, place in zip(rights(row["figures"])["retention"], near, strict=True)
                if place is wanted
            ]
            found[f"{kind}.{arm.replace(' ', '_')}"] = percent(mean(right))
    return found


def rights(figures: dict[str, Any]) -> dict[str, str]:
    """Which questions of each slice were right, as zeros and ones."""
    return {key.removesuffix("_right"): value for key, value in figures.items() if key.endswith("_right")}


def paired(questions: str, arm: str, other: str) -> tuple[str, str]:
    """The difference of two arms in points, and its 95 % interval over questions and seeds."""
    from glowgenius.evaluation.intervals import crossed_interval

    def by_seed(name: str) -> dict[int, list[int]]:
        return {
            row["cell"]["seed"]: list(map(int, rights(row["figures"])[questions])) for row in select("facts", arm=name)
        }

    after, before = by_seed(arm), by_seed(other)
    if other == "base":  # one run, as there is nothing to draw
        before = dict.fromkeys(after, before[0])
    values = [
        [float(new - old) for new, old in zip(after[seed], before[seed], strict=True)]
        for seed in after
        if seed in before
    ]
    difference = mean(value for row in values for value in row)
    limits = crossed_interval(values, range(len(values[0])), kind="differences")
    return f"{100 * difference:+.0f}", f"{100 * limits.low:+.0f} to {100 * limits.high:+.0f}"


def of_before_after() -> dict[str, str]:
    """The slices of the example: the mean of the runs, their range, and the interval over seeds and questions."""
    from glowgenius.evaluation.intervals import crossed_interval

    rows = [row["figures"] for row in recorded("before_after")]
    used = rows[0]["rows"]["train"]
    found = {
        "runs": str(len(rows)),
        "trained": f"{rows[0]['trainable_parameters']:,}",
        "rows": f"{rows[0]['train_rows']:,}",
        "rank": str(rows[0]["lora"]["rank"]),
        "rate": f"{rows[0]['settings']['learning_rate']:g}",
        "replay_rows": percent(used["replay_rows"] / used["rows"]),
        "replay_tokens": percent(used["replay_tokens"] / used["trained_tokens"]),
        "minutes": f"{mean(row['train_seconds'] for row in rows) / 60:.0f}",
    }
    for name in rows[0]["slices"]:
        parts = [row["slices"][name] for row in rows]
        metric = "contains" if name == "control" else "exact_match"
        found[f"{name}.n"] = str(parts[0]["n"])
        for side in ("base", "tuned"):
            values = [part[side][metric] for part in parts]
            found[f"{name}.{side}"] = percent(mean(values))
            found[f"{name}.{side}.range"] = f"{percent(min(values)).removesuffix(' %')} to {percent(max(values))}"
            found[f"{name}.{side}.nll"] = f"{mean(part[side]['nll'] for part in parts):.2f}"
        # Each fact is asked once, so that the interval goes by how many were fixed and broken, and not by which.
        changes = [
            [1.0] * part["fixed"] + [-1.0] * part["broken"] + [0.0] * (part["n"] - part["fixed"] - part["broken"])
            for part in parts
        ]
        limits = crossed_interval(changes, range(parts[0]["n"]), kind="differences")
        found[f"{name}.difference"] = f"{100 * mean(part['difference'] for part in parts):+.0f}"
        found[f"{name}.interval"] = f"{100 * limits.low:+.0f} to {100 * limits.high:+.0f}"
        if parts[0].get("baseline") is not None:
            found[f"{name}.baseline"] = percent(parts[0]["baseline"])
    if "control.base" in found:
        kept = [row["slices"]["control"] for row in rows]
        found["kept"] = percent(mean(part["tuned"]["contains"] / part["base"]["contains"] for part in kept))
    return found


def of_learning_rate() -> dict[str, str]:
    """The best rate of each method by the loss on new wordings, that loss, and how far the model moved."""
    found: dict[str, str] = {}
    base = averages("learning_rate", method="base")
    if base:
        found["base.loss"] = f"{base['held_out_wording_nll']:.2f}"
    for method in ("lora", "full"):
        rates = sorted({row["cell"]["learning_rate"] for row in select("learning_rate", method=method)})
        means = {rate: averages("learning_rate", method=method, learning_rate=rate) for rate in rates}
        losses = {rate: values["held_out_wording_nll"] for rate, values in means.items()}
        if not losses:
            continue
        best = min(losses, key=lambda rate: losses[rate])
        found |= {f"{method}.best": f"{best:g}", f"{method}.loss": f"{losses[best]:.2f}"}
        found |= {f"{method}.{rate:g}": f"{loss:.2f}" for rate, loss in losses.items()}
        if base:
            moved = {rate: means[rate]["own_answers_nll"] - base["own_answers_nll"] for rate in rates}
            found[f"{method}.moved"] = f"{moved[best]:.2f}"
            found |= {f"{method}.{rate:g}.moved": f"{value:.2f}" for rate, value in moved.items()}
    by_seed = {
        rate: {
            row["cell"]["seed"]: row["figures"]["held_out_wording_nll"]
            for row in select("learning_rate", method="full", learning_rate=rate)
        }
        for rate in (3e-4, 1e-3)
    }
    if all(len(values) > 1 for values in by_seed.values()):
        from glowgenius.evaluation.intervals import student

        apart = [value - by_seed[3e-4][seed] for seed, value in by_seed[1e-3].items() if seed in by_seed[3e-4]]
        limits = student(apart)
        found["full.apart"] = f"{mean(apart):+.2f}"
        found["full.apart.interval"] = f"{limits.low:+.2f} to {limits.high:+.2f}"
    trained = [row for row in recorded("learning_rate") if row["cell"]["method"] != "base"]
    return found | ({"seeds": seeds_of(trained, "method")} if trained else {})


def seeds_of(rows: Iterable[Any], setting: str) -> str:
    """How many seeds are recorded for each value of a setting: "3", or "1 to 2" where they are not all there yet."""
    seeds: dict[Any, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["cell"][setting], set()).add(row["cell"]["seed"])
    least, most = min(map(len, seeds.values())), max(map(len, seeds.values()))
    return str(least) if least == most else f"{least} to {most}"


def averages(experiment: str, **cell: Any) -> dict[str, float]:
    """The mean over the recorded seeds of every figure that is a number; empty if nothing is recorded."""
    rows = list(select(experiment, **cell))
    numbers = [key for key, value in rows[0]["figures"].items() if isinstance(value, float | int)] if rows else []
    return {key: mean(row["figures"][key] for row in rows) for key in numbers}


def percent(share: float) -> str:
    """A share as the page writes it."""
    return f"{100 * share:.0f} %"


def unmarked_numbers(text: str, constants: Iterable[str]) -> list[str]:
    """List the numbers in the prose that neither have a name nor are settings of a script."""
    allowed = set(constants)
    plain = MARKED.sub(" ", re.sub(r"```.*?```|`[^`]*`|\[[^\]]*\]\([^)]*\)", " ", text, flags=re.DOTALL))
    return [number for number in re.findall(r"\d[\d.,]*\d|\d", plain) if number not in allowed]


if __name__ == "__main__":
    sys.exit(main())
