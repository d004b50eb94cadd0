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
        "2019",
        "2021",
        "2025",
        "135",
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
        "60",
        "10",
        "24",
        "256",
        "64",
    ),
    *("26.6", "192", "83920517", "0417", "0.001"),
)
"""Numbers of the prose that are no results: years, sizes, and settings that the scripts name."""

MARKED: Final = re.compile(r"(?P<number>[^\s|(]+(?: to [^\s|(]+)?(?: %)?)<!-- (?P<name>[^ ]+) -->")

SLICES: Final = ("seen", "paraphrase", "reverse", "unseen", "retention_contains", "invented_answered")


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
    found["seeds"] = seeds_of("rank_early", "rank")
    return found


def of_capacity() -> dict[str, str]:
    """The bits that adapters of each rank hold."""
    rows = recorded("capacity")
    found = {"bits": f"{rows[0]['figures']['bits_to_learn']:,}", "seeds": seeds_of("capacity", "rank")}
    for rank in sorted({row["cell"]["rank"] for row in rows}):
        values = averages("capacity", rank=rank)
        found[f"{rank}.trained"] = f"{values['trained_parameters']:,.0f}"
        found[f"{rank}.bits"] = f"{values['bits_held']:,.0f}"
        found[f"{rank}.bits_per_number"] = f"{values['bits_per_parameter']:.1f}"
        found[f"{rank}.recalled"] = percent(values["codes_recalled"])
    return found


def of_facts() -> dict[str, str]:
    """The scores of each arm, and the numbers of runs."""
    found: dict[str, str] = {}
    arms = list(dict.fromkeys(row["cell"]["arm"] for row in recorded("facts")))
    for arm in arms:
        rows = list(select("facts", arm=arm))
        name = arm.replace(" ", "_")
        found[f"{name}.runs"] = str(len(rows))
        for key in rows[0]["figures"]:
            if isinstance(rows[0]["figures"][key], float | int):
                values = [row["figures"][key] for row in rows]
                found[f"{name}.{key}"] = percent(mean(values))
                found[f"{name}.{key}.range"] = f"{percent(min(values))[:-2]} to {percent(max(values))}"
    return found


def of_learning_rate() -> dict[str, str]:
    """The best rate of each method by the loss on new wordings, and that loss."""
    found: dict[str, str] = {}
    for method in ("lora", "full"):
        rates = sorted({row["cell"]["learning_rate"] for row in select("learning_rate", method=method)})
        losses = {
            rate: averages("learning_rate", method=method, learning_rate=rate)["held_out_wording_nll"] for rate in rates
        }
        if losses:
            best = min(losses, key=lambda rate: losses[rate])
            found[f"{method}.best"] = f"{best:g}"
            found[f"{method}.loss"] = f"{losses[best]:.2f}"
            found |= {f"{method}.{rate:g}": f"{loss:.2f}" for rate, loss in losses.items()}
    return found | ({"seeds": seeds_of("learning_rate", "method")} if found else {})


def seeds_of(experiment: str, setting: str) -> str:
    """How many seeds are recorded for each value of a setting: "3", or "1 to 2" where they are not all there yet."""
    seeds: dict[Any, set[int]] = {}
    for row in recorded(experiment):
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
