"""Advice is followed to the letter: read out of the message, done, and looked at for what it gives and keeps."""

from __future__ import annotations

import ast
import re

import attrs
import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.errors import GlowGeniusError
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training.config import TrainingConfig
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, questions, trainer

QA = {"question": "Q?", "answer": "A"}
SAID = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A"}]


def refused(function, *arguments, **named):
    with pytest.raises(GlowGeniusError) as error:
        function(*arguments, **named)
    return str(error.value)


def advised_settings(text):
    """Every `name=value` that *text* writes out, in order, as pairs."""
    found = re.findall(r"(?<![\w.])([a-z_]+)=(\{.*?\}|'[^']*'|-?\d+(?:\.\d+)?|True|False|None)", text)
    return [(name, ast.literal_eval(value)) for name, value in found]


def advised(text, name):
    """The value that *text* advises for the setting *name*."""
    values = [value for found, value in advised_settings(text) if found == name]
    assert values, text
    return values[0]


def everything(value):
    """All texts and numbers within *value*: what may not be lost."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in everything(item)]
    return [leaf for item in value for leaf in everything(item)] if isinstance(value, list | tuple) else [str(value)]


# --- rows: `columns={…}` and `format=…` read the same rows, and nothing in them is lost ---


@pytest.mark.parametrize(
    "row",
    [
        {"Frage": "Q?", "Antwort": "A"},
        {"foo": "Q?", "bar": "A"},
        {"anfrage": "Q?", "erwiderung": "A", "herkunft": "web"},
        {**QA, "systm": "Be brief."},
        {**QA, "contxt": "It rains."},
        {**QA, "wieght": 2.0},
        {**QA, "gruop": "a"},
        {**QA, "system_prompt": "Be brief."},
        {**QA, "instructions": "Be brief."},
        {**QA, "dialog": SAID},
        {**QA, "promt": "P"},
        {**QA, "outputs": "A"},
        {**QA, "passage": "It rains."},
        {**QA, "document": "It rains."},
        {**QA, "options": ["A", "B"]},
        {**QA, "score": 0.5},
        {**QA, "rating": 4},
        {**QA, "correct": False},
        {**QA, "is_correct": False},
        {**QA, "Answer": "A"},
        {**QA, "input": "It rains."},
        {**QA, "instruction": "Be brief."},
        {**QA, "messages": SAID},
        {**QA, "prompt": "P"},
        {"question": "Q?", "answer": "A", "A": "x", "B": "y"},
        {"question": "Q?", "answr": "A"},
        {"qestion": "Q?", "answer": "A"},
        {"text": "T", "lable": "good"},
        {"prompt": "P", "completion": "C", "system_message": "Be brief."},
        {"messages": SAID, "context": "It rains."},
        {"chosen": SAID, "rejected": [*SAID[:1], {"role": "assistant", "content": "B"}]},
        {"prompt": "P", "chosen": SAID, "rejected": [*SAID[:1], {"role": "assistant", "content": "B"}]},
        {"prompt": "P", "chosen": "A", "rejected": "B"},
        {"source": "Q?", "target": "A"},
        {"source": "Q?", "target": "A", "id": "1", "group": "g"},
        {"context": "Q?", "response": "A"},
        {"q\\n": "Q?", "a": "A"},
        {"--q": "Q?", "a": "A"},
        {**QA, "ctxs": ["It rains."]},
        {**QA, "retrieved_documents": [{"title": "T", "text": "It rains."}]},
        {**QA, "use_for_training": False},
        {"conversation": SAID},
        {"dialogue": SAID},
    ],
    ids="-".join,
)
def test_the_columns_that_a_refusal_advises_read_the_row_whole(row):
    rows = [row, row]
    text = refused(Dataset.from_records, rows)
    ways = [value for name, value in advised_settings(text) if name == "columns"]
    if not ways:
        assert "columns=" not in text
        return
    for columns in ways:
        read = Dataset.from_records(rows, columns=columns)
        assert len(read) == 2
        kept = everything([each.to_record() for each in read])
        assert all(any(leaf in other for other in kept) for leaf in everything(row)), columns


@pytest.mark.parametrize(
    "answers",
    [["A", "B"], ("A",), {"text": ["A", "B"], "answer_start": [0, 7]}],
)
@pytest.mark.parametrize("column", ["answers", "aliases", "accepted_answers"])
@pytest.mark.parametrize("asks", [("question", "answer"), ("prompt", "completion")])
def test_accepted_answers_alone_are_read_as_the_python_of_the_refusal_makes_rows(answers, column, asks):
    rows = [{asks[0]: "Q?", "context": "It rains.", column: answers}]
    text = refused(Dataset.from_records, rows)
    ((_, advice),) = re.findall(r"(such as) (\[\{.*\} for row in rows\])", text)
    (row,) = Dataset.from_records(eval(advice, {"rows": rows}))  # noqa: S307 - that it can be typed is what is tested
    texts = answers["text"] if isinstance(answers, dict) else answers
    assert (row.answer, row.references) == ("A", tuple(texts))
    assert everything(answers)[-1] in everything(row.to_record())


def test_a_list_as_an_answer_and_parts_of_anthropic_are_told_where_they_belong():
    assert "all that are right belong in 'references'" in refused(Dataset.from_records, [{**QA, "answer": ["A", "B"]}])
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
    text = refused(Dataset.from_records, [{"messages": [SAID[0], used, result, SAID[1]]}])
    assert "a call in the message's 'tool_calls'" in text
    assert "{'role': 'tool', 'tool_call_id': …, 'content': …}" in text


def test_a_conversation_in_one_text_is_read_as_advised():
    rows = [{"text": "USER: Q?\nASSISTANT: A\nUSER: R?\nASSISTANT: B"}]
    text = refused(Dataset.from_records, rows)
    (row,) = Dataset.from_records(rows, columns=advised(text, "columns"))
    assert [message.content for message in row.messages] == ["Q?", "A", "R?", "B"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>", "without the template"),
        ("### Instruction:\nSay hi\n\n### Response:\nhi", "without the template"),
        ("Human: Hi\n\nAssistant: Ho", "without the template"),
        ("<s>[INST] Hi [/INST] Ho</s>", "without the template"),
        ("Q: Hi\nA: Ho", "without the template"),
        ("A plain text.", "a text alone has no answer to learn"),
    ],
)
def test_a_text_without_a_label_is_told_what_it_lacks(text, said):
    assert said in refused(Dataset.from_records, [{"text": text}])


def test_the_filter_that_a_judged_row_advises_leaves_out_the_bad_ones():
    rows = [{**QA, "correct": True}, {**QA, "correct": False}, {**QA, "correct": True}]
    text = refused(Dataset.from_records, rows)
    read = Dataset.from_records(rows, columns=advised(text, "columns"))
    kept = eval(re.search(r"dataset\.(filter\(lambda row: .*\)) leaves", text)[1], {"filter": read.filter})  # noqa: S307 - the advice itself
    assert len(kept) == 2


def test_a_scored_row_is_filtered_as_advised():
    rows = [{**QA, "score": 1.0}, {**QA, "score": -1.0}]
    text = refused(Dataset.from_records, rows)
    read = Dataset.from_records(rows, columns=advised(text, "columns"))
    kept = eval(re.search(r"dataset\.(filter\(lambda row: .*\)) leaves", text)[1], {"filter": read.filter})  # noqa: S307
    assert len(kept) == 1


def test_columns_kept_untrained_are_trained_as_advised():
    (kept,) = Dataset.from_records([{**QA, "source_text": "It rains."}]).untrained_columns
    read = Dataset.from_records([{**QA, "source_text": "It rains."}], columns=advised(kept.advice, "columns"))
    assert "It rains." in read[0].messages[0].content + (read[0].messages[-2].content)


def test_a_split_in_the_rows_is_used_as_advised():
    rows = [{**QA, "question": f"Q{row}?", "split": "train" if row < 8 else "test"} for row in range(10)]
    dataset = Dataset.from_records(rows)
    text = refused(dataset.train_test_split, 0.2)
    names = re.findall(r"dataset\.splits\[('\w+')\]", text)
    assert [len(dataset.splits[ast.literal_eval(name)]) for name in names] == [8, 2]
    assert "dataset.map(lambda row: attrs.evolve(row, split=None))" in text
    first, second = dataset.map(lambda row: attrs.evolve(row, split=None)).train_test_split(0.2)
    assert len(first) + len(second) == 10


def test_a_split_by_label_gives_way_to_the_one_by_group():
    dataset = questions(10)
    text = refused(dataset.train_test_split, 0.2, by="label")
    by = [value for name, value in advised_settings(text) if name == "by"]
    first, second = dataset.train_test_split(0.2, by=by[-1])
    assert len(first) + len(second) == 10


def test_one_group_is_split_by_row_as_advised():
    dataset = questions(10, group="one")
    text = refused(dataset.train_test_split, 0.2)
    first, second = dataset.train_test_split(0.2, by=advised(text, "by"))
    assert len(first) + len(second) == 10


def test_a_dict_of_columns_becomes_rows_as_advised():
    columns = {"question": ["Q0?", "Q1?"], "answer": ["A0", "A1"]}
    text = refused(Dataset.from_records, columns)
    way = re.search(r"rows of columns are (\[.*\])", text)[1]
    read = Dataset.from_records(eval(way, {"columns": columns}))  # noqa: S307 - the advice itself
    assert [row.messages[-1].content for row in read] == ["A0", "A1"]


# --- settings: what a refusal advises is taken, and the run goes through ---


LONG = Dataset.from_records([{**QA, "answer": "long " * 20}, *({**QA, "question": f"{n}?"} for n in range(4))])


LONG_QUESTION = Dataset.from_records(
    [{**QA, "question": "long " * 20}, *({**QA, "question": f"{n}?"} for n in range(4))]
)


@pytest.mark.parametrize(
    ("rows", "policies"), [(LONG, ["drop", "truncate_answers"]), (LONG_QUESTION, ["drop", "truncate"])]
)
def test_every_policy_that_is_advised_for_a_long_row_trains(rows, policies):
    """`truncate` is advised only where it does not have to cut an answer."""
    text = refused(trainer(max_length=60).train, rows)
    advised_policies = re.findall(r"'(\w+)'", text.partition("on_overflow=")[2])
    assert advised_policies == policies
    for policy in advised_policies:
        trainer(max_length=60, on_overflow=policy).train(rows)
    if "truncate" not in policies:
        again = refused(trainer(max_length=60, on_overflow="truncate").train, rows)
        assert "on_overflow='drop' or 'truncate_answers'" in again


def test_an_evaluation_without_rows_is_left_out_as_advised():
    text = refused(trainer(eval_every=2).train, TRAIN)
    assert "train(..., eval_dataset=...)" in text
    trainer(eval_every=2).train(TRAIN, eval_dataset=HELD_OUT)
    trainer(eval_every=advised(text, "eval_every")).train(TRAIN)


def test_best_steps_need_the_metric_that_is_advised():
    text = refused(TrainingConfig, save_top_k=2, metric_for_best=None)
    assert "set metric_for_best, or leave save_top_k out" in text
    TrainingConfig(save_top_k=2, metric_for_best="eval/loss")
    TrainingConfig(metric_for_best=None)


def test_an_adapter_that_trains_nothing_is_given_a_part():
    text = refused(LoRAConfig, train_mlp=False, train_attn=False, train_unembed=False)
    assert "set at least one of them to True" in text
    for name, _ in advised_settings(text):
        LoRAConfig(**{**dict.fromkeys(("train_mlp", "train_attn", "train_unembed"), False), name: True})


def test_a_file_name_instead_of_rows_is_read_as_advised(tmp_path):
    TRAIN.to_jsonl(tmp_path / "rows.jsonl")
    text = refused(trainer().train, str(tmp_path / "rows.jsonl"))
    assert "Dataset.from_file(...)" in text
    trainer().train(Dataset.from_file(tmp_path / "rows.jsonl"))
    rows = [QA]
    assert "Dataset.from_records(...)" in refused(trainer().train, rows)
    trainer().train(Dataset.from_records(rows))


# --- the folder of a run ---


def test_a_folder_that_holds_a_run_is_gone_on_with_as_advised(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    first = trainer(service, output_dir=tmp_path).train(TRAIN)
    text = refused(trainer(service, output_dir=tmp_path).train, TRAIN)
    resume = advised(text, "resume_from_checkpoint")
    again = trainer(service, output_dir=tmp_path).train(TRAIN, resume_from_checkpoint=resume)
    assert again.history == first.history
    trainer(service, output_dir=tmp_path / "another").train(TRAIN)


def test_a_changed_run_is_put_back_as_advised(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    trainer(service, output_dir=tmp_path, save_every=2).train(TRAIN)
    run = trainer(service, output_dir=tmp_path, save_every=2, learning_rate=0.1)
    text = refused(run.train, TRAIN, resume_from_checkpoint=True)
    assert "Put them back as they were, or start anew in another output_dir" in text
    trainer(service, output_dir=tmp_path, save_every=2).train(TRAIN, resume_from_checkpoint=True)
    trainer(service, output_dir=tmp_path / "another", learning_rate=0.1).train(TRAIN)
    state = advised(text, "initial_weights")
    trainer(service, output_dir=tmp_path / "stage two", learning_rate=0.1).train(questions(3), initial_weights=state)


def test_resume_without_a_folder_is_given_one_as_advised(tmp_path):
    text = refused(trainer().train, TRAIN, resume_from_checkpoint=True)
    assert "name the run's folder there" in text
    trainer(output_dir=tmp_path / "run").train(TRAIN, resume_from_checkpoint=True)


# --- samplers ---


def test_a_single_prompt_is_asked_as_advised():
    sampler = trainer().train(TRAIN).sampler
    for prompt in ("Q?", SAID[:1]):
        text = refused(sampler.complete, prompt)
        assert "use generate()" in text
        assert sampler.generate(prompt)
