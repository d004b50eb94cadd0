"""Run the notebook of the example from top to bottom, in a kernel of its own.

usage: python -m tests.support.notebook [--quick]

Without options it runs as it stands, and what it shows is stored in the file.
With `--quick` the cell of settings is replaced by the smallest that still trains, and nothing is stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from tests.support.source import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOK = ROOT / "examples" / "nyc_qa.ipynb"
SETTINGS = "settings"
"""The tag of the cell that says how much is done."""

QUICK = "num_facts, num_wordings, num_epochs, num_replay, num_questions = 4, 6, 2, 8, 2"
PRIVATE = re.compile(r"/(?:root|home|tmp|usr|opt|var|work|Users)/|[A-Z]:\\\\|site-packages|tml-")
"""What only the machine that ran it knows, and no reader should."""


BUSY = re.compile(r"(waiting for the service|IOStream.flush timed out)")
"""What is shown only where the machine has other things to do."""


def read(path: Path = NOTEBOOK) -> dict[str, Any]:
    """The notebook as JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which a file holds in lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def fingerprint(notebook: dict[str, Any]) -> str:
    """The sha256 of everything that was run; outputs of other code are out of date."""
    code = [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def problems(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with the stored outputs."""
    found = []
    if notebook["metadata"].get("glowgenius", {}).get("code") != fingerprint(notebook):
        found.append("the code has changed since it was run: python -m tests.support.notebook")
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        for output in cell["outputs"]:
            if output.get("name") == "stderr" or output["output_type"] == "error":
                found.append(f"cell {number}: {output.get('text') or output.get('evalue')}")
            found += [
                f"cell {number}: {match}" for match in set(PRIVATE.findall(json.dumps(output, ensure_ascii=False)))
            ]
    return found


def run(*, quick: bool) -> Any:
    """The notebook, executed in an empty folder.

    Raises:
        CellExecutionError: A cell has failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if quick:
        [cell] = [cell for cell in notebook.cells if SETTINGS in cell.metadata.get("tags", ())]
        cell.source = QUICK
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TINKER_")}
        # What is installed beside is no matter of the notebook's.
        environment["PYTHONWARNINGS"] = "ignore:IProgress not found"
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(NOTEBOOK.parent)])
        client = NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=environment)
    return notebook


def joined(outputs: list[Any]) -> list[Any]:
    """Lines that were printed one after another as one output."""
    found: list[Any] = []
    for output in outputs:
        if found and output["output_type"] == "stream" == found[-1]["output_type"]:
            found[-1]["text"] += output["text"]
        else:
            found.append(output)
    return found


def store(notebook: Any) -> None:
    """Write the outputs without what differs from run to run."""
    import nbformat

    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["glowgenius"] = {"code": fingerprint(notebook)}
    nbformat.write(notebook, NOTEBOOK)


def main() -> int:
    """Run it, and store it where nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest run; stores nothing")
    options = parser.parse_args()
    notebook = run(quick=options.quick)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not BUSY.match(output.get("text", ""))]
    notebook.metadata["glowgenius"] = {"code": fingerprint(notebook)}
    wrong = problems(notebook)
    for line in wrong:
        sys.stdout.write(f"{line}\n")
    if not wrong and not options.quick:
        store(notebook)
        sys.stdout.write(f"written: {NOTEBOOK.relative_to(ROOT)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
