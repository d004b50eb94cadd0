"""The tables of `docs/performance.md` and `docs/comparison.md`, from the recorded results of the benchmarks.

    python -m tests.benchmarks.page

Every benchmark calls it when it has written its results, and a test compares the pages with them: a figure on a page
is one that a command has measured.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "performance.md", ROOT / "docs" / "comparison.md")
RESULTS = ROOT / "docs" / "benchmarks"

_BETWEEN = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def update() -> None:
    """Write every table of the pages anew, and leave their prose alone."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(text: str) -> str:
    """*text* with the tables that the recorded results give."""
    return _BETWEEN.sub(lambda found: f"{found[1]}{_written(found[2])}\n{found[3]}", text)


def _written(name: str) -> str:
    try:
        return TABLES[name]()
    except FileNotFoundError as error:
        return f"*Not measured yet: `docs/benchmarks/{Path(error.filename).name}` is not there.*"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def results(name: str) -> dict[str, Any]:
    """What the benchmark called *name* has recorded."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def machine() -> str:
    """Where and how each benchmark was run."""
    rows = []
    for name in ("local_engine", "local_sampling", "start", "ideas", "scale"):
        if not (RESULTS / f"{name}.json").exists():
            continue
        found = results(name)
        one = found["machine"]
        rows.append(
            [
                f"`{found['command']}`",
                f"{one['processor']}, {one['threads']} thread{'s' * (one['threads'] > 1)}",
                f"{one['gflops_float32']:g}",
                f"{one['gflops_bfloat16']:g}",
                f"{one['load_before']:.1f}",
                one["torch"],
            ]
        )
    head = ("command", "processor", "fp32 GFLOP/s", "bf16 GFLOP/s", "load before", "torch")
    return table(head, rows)


def training() -> str:
    """Everybody's speed, on every kind of rows."""
    rows = []
    for kind, found in results("local_engine")["rows"].items():
        for name, one in found["contestants"].items():
            rows.append(
                [
                    kind,
                    name,
                    f"{one['tokens_per_cpu_second']:.0f}",
                    f"{one['times_cpu_seconds']:.2f}",
                    f"{one['tokens_per_second']:.0f}",
                    f"{one['times_seconds']:.2f}",
                    f"{one['trained_tokens_per_second']:.0f}",
                    f"{one['peak_mb']:,}",
                    f"{one['start_seconds']:.1f}",
                    f"{one['first_step_seconds']:.1f}",
                    f"{one['loss_difference']:.0e}",
                ]
            )
    speeds = ("tokens/CPU s", "× longer", "tokens/s", "× longer", "trained tokens/s")
    return table(("rows", "who", *speeds, "peak MB", "start s", "first step s", "loss apart"), rows)


def utilisation() -> str:
    """How much of what the machine can do our products get out of it, and how much memory we need beside TRL."""
    found = results("local_engine")
    peak, rows = found["machine"]["gflops_float32"], []
    for kind, one in found["rows"].items():
        ours, trl = (one["contestants"][name] for name in ("glowgenius fp32", "TRL fp32"))
        reached = ours["gflops_of_our_products"]
        rows.append(
            [kind, f"{reached:g} of {peak:g}", f"{reached / peak:.0%}", f"{ours['peak_mb'] / trl['peak_mb']:.2f}"]
        )
    head = ("rows", "GFLOP per CPU s", "of the fp32 peak", "peak memory, TRL fp32 = 1")
    return table(head, rows)


def start() -> str:
    """How long it takes before anything is seen."""
    rows = [
        [name, f"{one['stepped']:.1f}", f"{one['answered']:.1f}", f"{one['cpu']:.1f}"]
        for name, one in results("start")["contestants"].items()
    ]
    return table(("program", "s to the first step", "s to the first answer", "CPU s in all"), rows)


def sampling() -> str:
    """Both samplers at every size of a batch."""
    rows = []
    for kind, sizes in results("local_sampling")["prompts"].items():
        for size, one in sizes.items():
            ours, theirs = one["glowgenius"], one["transformers.generate"]
            rows.append(
                [
                    kind,
                    size,
                    f"{ours['tokens_per_cpu_second']:.0f}",
                    f"{theirs['tokens_per_cpu_second']:.0f}",
                    f"{one['times_cpu_seconds']:.2f}",
                    f"{ours['tokens_per_second']:.0f}",
                    f"{theirs['tokens_per_second']:.0f}",
                    f"{one['times_seconds']:.2f}",
                    f"{one['same_answers']} of {one['answers']}",
                ]
            )
    head = ("prompts", "batch", "ours/CPU s", "theirs/CPU s", "×", "ours/s", "theirs/s", "×", "same answers")
    return table(head, rows)


def questions() -> str:
    """Three hundred questions."""
    found = results("local_sampling")["questions"]
    rows = [
        [name, found["questions"], f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}"]
        for name, one in found.items()
        if isinstance(one, dict)
    ]
    return table(("who", "questions", "seconds", "CPU seconds"), rows)


def limits() -> str:
    """What the products alone allow a sampler, beside what is reached and what would be twice `transformers`."""
    reached, peak = results("local_sampling")["prompts"]["chat"], results("ideas")["machine"]["gflops_float32"]
    rows = []
    for one in results("ideas")["products_alone"]:
        both = reached[str(one["batch"])]
        rows.append(
            [
                one["batch"],
                f"{one['weights_gb_per_second']:g} of {one['memory_gb_per_second']:g}",
                f"{one['gflops']:g} of {peak:g}",
                f"{one['products_alone']:.0f}",
                f"{both['glowgenius']['tokens_per_cpu_second']:.0f}",
                f"{2 * both['transformers.generate']['tokens_per_cpu_second']:.0f}",
            ]
        )
    head = ("batch", "weights read, GB/s", "GFLOP/s", "products alone, tokens/CPU s", "reached", "twice `generate`")
    return table(head, rows)


def ideas() -> str:
    """What each idea is worth: the same work without it."""
    rows = [
        [one["job"], one["idea"], f"{one['with']:.2f}", f"{one['without']:.2f}", f"{one['times']:.2f}"]
        for one in results("ideas")["ideas"]
    ]
    return table(("work", "idea", "CPU s with it", "CPU s without", "×"), rows)


def products() -> str:
    """How quickly one matrix is multiplied, by its layout."""
    found = results("ideas")["products"]
    names = [name for name in found[0] if name != "tokens"]
    return table(("tokens", *names), [[one["tokens"], *(f"{one[name]:g}" for name in names)] for one in found])


def lengths() -> str:
    """The cost of a token by the length of its row."""
    rows = [
        [one["tokens_per_row"], one["rows"], f"{one['cpu_ms_per_token']:.2f}", f"{one['peak_mb']:,}"]
        for one in results("scale")["lengths"]
    ]
    return table(("tokens a row", "rows", "CPU ms a token", "peak MB"), rows)


def computed_twice() -> str:
    """What gradient checkpointing costs and saves."""
    rows = [
        [one["layers"], f"{one['cpu_ms_per_token']:.2f}", f"{one['peak_mb']:,}"]
        for one in results("scale")["computed_twice"]
    ]
    return table(("layers computed twice", "CPU ms a token", "peak MB"), rows)


def rows() -> str:
    """The cost of a token by the number of rows."""
    found = [
        [f"{one['rows']:,}", f"{one['tokens']:,}", f"{one['cpu_ms_per_token']:.3f}", f"{one['peak_mb']:,}"]
        for one in results("scale")["rows"]
    ]
    return table(("rows", "tokens", "CPU ms a token", "peak MB"), found)


def footprint() -> str:
    """What an installation takes, and how long its users wait for an import."""
    found = [
        [
            f"`{one['requirement']}`",
            one["distributions"],
            f"{one['megabytes'] - one['megabytes_of_torch']:,}",
            f"{one['megabytes_of_torch']:,}" if one["megabytes_of_torch"] else "none",
            f"`{one['module']}`",
            f"{one['import_cpu_seconds']:.2f}",
        ]
        for one in results("footprint")["rows"]
    ]
    head = ("installed", "distributions", "MB without PyTorch", "MB of PyTorch", "imported", "CPU seconds")
    return table(head, found)


TABLES: dict[str, Callable[[], str]] = {
    "machine": machine,
    "training": training,
    "utilisation": utilisation,
    "start": start,
    "sampling": sampling,
    "questions": questions,
    "limits": limits,
    "ideas": ideas,
    "products": products,
    "lengths": lengths,
    "computed_twice": computed_twice,
    "rows": rows,
    "footprint": footprint,
}


if __name__ == "__main__":
    update()
