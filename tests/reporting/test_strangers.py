"""Strangers' texts in cards and pages: quoted where they stand, whatever they hold."""

from __future__ import annotations

import ast
import itertools
import json
from html.parser import HTMLParser

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import glowgenius as gg
from glowgenius.data.dataset import Dataset
from glowgenius.evaluation import AnswerEvaluation, compare
from glowgenius.reporting import write_report
from glowgenius.testing import ScriptedService
from glowgenius.training.adapter_export import model_card
from tests.support.training import RENDERER, TOKENIZER, questions, trainer

HOSTILE = [
    'x"): pass\nimport os; os.system("true") #',
    "x\n---\nlicense: mit\n---\n# Owned",
    "a: b\n- c: {d: [e",
    "null",
    "!!python/object/apply:os.system ['true']",
    "&a *a",
    "<script>alert(1)</script>",
    "![x](http://tracker/x.png) [y](javascript:alert)",
    "|a|b|",
    "```\nowned\n```",
    "\x1b[2J\u202e\x00\x85\u2028\ufeff",
    "\\\\host\\share 'quoted' `code`",
    "満潮/⚓ é",
    "12/5",
    "'; --",
]
TAGS = {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code", "a"}


class Elements(HTMLParser):
    """Every element of a page with the names of its attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.links = set(), "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, *sorted(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def any_text():
    return st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), min_size=1))


def card(text):
    settings = {
        "fingerprints": {"train": text, "eval": text},
        "training": {"lr_schedule": text, "seed": text},
        "versions": {text: text},
        "header": [f"train rows: {text}", f"eval rows{text}"],
        "renderer": text,
        "learning_rate": text,
    }
    config = {"base_model_name_or_path": text, "r": 4, "lora_alpha": 32, "target_modules": [text, "lm_head"]}
    rows = [{"step": 1, "train/loss": 1.0, f"eval/{text}": 2.0}]
    return model_card(config, trained_on=text, step=1, settings=settings, rows=rows)


@given(any_text())
@example(HOSTILE[0])
def test_a_card_is_one_front_one_piece_of_python_and_plain_text(text):
    written = card(text)
    assert written.encode("utf-8")
    _, front, body = written.split("---\n", 2)
    assert yaml.safe_load(front).keys() == {"base_model", "library_name", "tags", "license"}
    assert yaml.safe_load(front)["license"] == "unknown"
    assert isinstance(yaml.safe_load(front)["base_model"], str)

    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["Measured", "Use", "Licence"]
    fences = [token.content for token in tokens if token.type == "fence"]
    assert len(fences) == 1
    assert not any(token.type in ("html_block", "code_block", "hr") for token in tokens)
    inline = [child.type for token in tokens for child in token.children or ()]
    assert not {"html_inline", "image", "link_open"} & set(inline)

    code = ast.parse(fences[0])
    calls = [node for node in ast.walk(code) if isinstance(node, ast.Call)]
    [loads] = [call for call in calls if ast.unparse(call.func) == "AutoModelForCausalLM.from_pretrained"]
    assert [ast.literal_eval(argument) for argument in loads.args] == [text]
    assert len(code.body) == 8


def test_what_a_hub_takes_stays_plain():
    written = card("org/model-1.5_B")
    assert "\nbase_model: org/model-1.5_B\n" in written
    assert "# LoRA adapter for org/model-1.5_B\n" in written
    assert 'from_pretrained("org/model-1.5_B")' in written


@pytest.mark.parametrize("settings", [{}, {"fingerprints": [], "training": "x", "versions": 5, "header": {"a": 1}}])
def test_settings_of_another_shape_leave_the_card_shorter(settings):
    config = {"base_model_name_or_path": "a/b", "r": "4", "lora_alpha": "8", "target_modules": "all-linear"}
    written = model_card(config, trained_on="a/b", step=1, settings=settings, rows=[])
    assert "| rank, alpha | 4, 8 |" in written


# --- pages ---

EVIL = "\"'><script>alert(1)</script><img src=x onerror=y></style></title></svg>--><!-- \x1b[2J\u202e& "
HARMLESS = "zzz \x1b[2J\u202e"


def spoiled(value, text):
    """*value* with every text that is a fact and no name of a setting spoiled."""
    if isinstance(value, dict):
        return {name: spoiled(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item, text) for item in value]
    return f"{value}{text}" if isinstance(value, str) else value


def run_with(text, folder):
    rows = Dataset.from_records(
        [{"question": f"Q{row}?{text}", "answer": f"A{text}", "id": f"{row}{text}", "group": text} for row in range(4)]
    )
    service = ScriptedService(tokenizer=TOKENIZER)
    callbacks = [AnswerEvaluation(rows), gg.SampleLogger(rows[:1], show=False)]
    callbacks.append(gg.on(gg.EvaluateBegin, lambda _: gg.LogMetrics({f"eval/m{text}": 1.0})))
    made = trainer(service, callbacks=callbacks, max_steps=2, eval_every=1, output_dir=folder)
    result = made.train(rows, questions(2))
    compared = compare(made.base_sampler(), result.sampler, {f"slice{text}": rows})
    for name in ("config.json", "result.json"):
        if (folder / name).exists():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            for field in ("status", "metric_for_best", "sha256"):  # a file of a stranger need not have a digest
                content.pop(field, None)
            (folder / name).write_text(json.dumps(spoiled(content, text)), encoding="utf-8")
    pages = [write_report(folder / "again.html", run=folder, comparison=compared, header={f"k{text}": text})]
    pages.append(
        write_report(
            folder / "comparison.html",
            comparison=compared,
            header={f"k{text}": text},
            history=list(result.history.rows),
            previews=gg.preview(rows, RENDERER),
            warnings=[text],
            title=f"T{text}",
        )
    )
    shown = [page.read_text(encoding="utf-8") for page in pages]
    shown += [compared._repr_html_(), rows._repr_html_(), rows.check()._repr_html_(), result.history._repr_html_()]
    return [*shown, gg.preview(rows, RENDERER)._repr_html_()]


def test_pages_have_the_same_elements_whatever_the_texts_in_them(tmp_path):
    evil = [Elements(page) for page in run_with(EVIL, tmp_path / "evil")]
    plain = [Elements(page) for page in run_with(HARMLESS, tmp_path / "plain")]
    for one, other in zip(evil, plain, strict=True):
        assert one.found == other.found
        assert [link for link in one.links if not link.startswith(("#", "report"))] == []
        assert "<script>alert(1)</script>" in one.text
        assert not set(one.text) & {"\x1b", "\u202e"}
