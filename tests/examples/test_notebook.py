"""The notebook of the example: what is stored in it was made by the code that stands there."""

from __future__ import annotations

import copy

from tests.support.notebook import SETTINGS, fingerprint, problems, read, source

NOTEBOOK = read()
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def outputs(kind):
    return [
        "".join(output["data"][kind]) for cell in CODE for output in cell["outputs"] if kind in output.get("data", {})
    ]


def test_every_cell_was_run_in_order_and_says_nothing_private():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert problems(NOTEBOOK) == []


def test_it_shows_tables_and_plots():
    shown = outputs("text/html")
    assert len(shown) == 5
    assert sum(html.count("<svg") for html in shown) >= 4
    assert "McNemar" not in shown[0]
    assert [cell["metadata"].get("tags") for cell in CODE].count([SETTINGS]) == 1


def test_a_change_of_the_code_and_a_path_of_a_machine_are_noticed():
    changed = copy.deepcopy(NOTEBOOK)
    [settings] = [cell for cell in changed["cells"] if SETTINGS in cell["metadata"].get("tags", ())]
    settings["source"] = source(settings) + "  # more"
    assert problems(changed) == ["the code has changed since it was run: python -m tests.support.notebook"]
    changed["metadata"]["glowgenius"] = {"code": fingerprint(changed)}
    settings["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "saved in /home/me/runs"}]
    assert problems(changed) == ["cell 3: /home/"]
    settings["outputs"] = [{"output_type": "stream", "name": "stderr", "text": "a warning"}]
    assert problems(changed) == ["cell 3: a warning"]
