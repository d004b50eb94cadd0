"""What a run is going to cost, what it has cost, and where it ends when that is too much."""

from __future__ import annotations

import ast
import importlib
import json

import pytest

import glowgenius as gg
from glowgenius.errors import ConfigError
from glowgenius.evaluation.callback import AnswerEvaluation
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.callbacks.loggers import SampleLogger
from glowgenius.training.prices import Price, PriceTable, TokenUsage
from tests.support.killing import Killed, MortalService
from tests.support.source import modules
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, Recorder, config

PRICE = Price(prefill=1.0, sample=10.0, train=100.0, date="2026-11-24", source="here")
TABLE = PriceTable(models={"scripted": PRICE})
LENGTHS = [len(RENDERER.render(row)) - 1 for row in TRAIN]
EVAL = sum(len(RENDERER.render(row)) - 1 for row in HELD_OUT)
ROW = LENGTHS[0]


def made(service=None, *callbacks, prices=TABLE, base_model="scripted", **settings):
    service = ScriptedService(tokenizer=TOKENIZER) if service is None else service
    return gg.SupervisedTrainer(
        base_model, service=service, renderer=RENDERER, callbacks=callbacks, config=config(**settings), prices=prices
    )


def usd(*, steps=(), evaluations=0):
    return (100.0 * sum(steps) + EVAL * evaluations) / 1e6


FOUR, TWO = 4 * ROW, 2 * ROW
ALL = [FOUR, FOUR, TWO] * 3


def test_the_rows_are_of_one_length():
    assert set(LENGTHS) == {ROW}


def test_the_estimate_counts_every_evaluation():
    """Before the first step, after the fourth and the eighth, and after the last."""
    service = ScriptedService(tokenizer=TOKENIZER)
    estimate = made(service, eval_every=4).estimate(TRAIN, HELD_OUT)
    assert service.journal == ()
    assert (estimate.tokens_trained, estimate.tokens_prefilled, estimate.tokens_sampled) == (30 * ROW, 4 * EVAL, 0)
    assert estimate.usd == pytest.approx(usd(steps=ALL, evaluations=4))
    assert estimate.priced_at == "2026-11-24"
    assert str(estimate) == (
        f"cost: about ${estimate.usd:.4f} ({30 * ROW:,} tokens trained ${usd(steps=ALL):.4f}, {4 * EVAL:,} read in 4 "
        f"evaluations ${usd(evaluations=4):.4f}; prices of 2026-11-24)"
    )


def test_without_an_evaluation_set_nothing_is_evaluated():
    estimate = made().estimate(TRAIN)
    assert (estimate.evaluations, estimate.tokens_prefilled) == (0, 0)


def test_a_model_without_a_price_is_no_error():
    estimate = made(base_model="scriptet").estimate(TRAIN, HELD_OUT)
    assert estimate.usd is None
    assert str(estimate).startswith(
        "cost: unknown, there is no price of 'scriptet' (did you mean 'scripted'?); give one with "
        "SupervisedTrainer(prices=...) or GLOWGENIUS_PRICES ("
    )


def test_on_this_machine_nothing_is_charged():
    estimate = made().estimate(TRAIN, HELD_OUT, engine="local")
    assert (estimate.usd, estimate.free) == (0.0, True)
    assert str(estimate).startswith("cost: no charge: it runs on this machine (")


def test_an_unknown_engine():
    with pytest.raises(ConfigError) as raised:
        made().estimate(TRAIN, engine="tinkr")
    assert str(raised.value) == (
        "estimate: engine must be one of 'auto', 'local', 'tinker', got 'tinkr' (did you mean 'tinker'?)"
    )


class Asks(gg.Callback):
    needs_sampler = True

    def __init__(self, usage=None):
        self.usage = usage

    def __repr__(self):
        return "Asks()"

    def sampling_usage(self, renderer):
        return self.usage


def test_what_callbacks_sample_is_counted_where_they_say_so():
    known = made(None, Asks(TokenUsage(prefilled=7, sampled=3))).estimate(TRAIN, HELD_OUT)
    assert (known.tokens_sampled, known.tokens_prefilled) == (2 * 3, 2 * (EVAL + 7))
    assert known.uncounted == ()
    unknown = made(None, Asks()).estimate(TRAIN, HELD_OUT)
    assert str(unknown).split("\n")[-1] == "cost: what Asks() samples is not in it"


def test_what_our_own_callbacks_sample_is_counted():
    asked = [RENDERER.render_prompt(row.prompt) for row in HELD_OUT]
    read, sampled = sum(map(len, asked)), 5 * len(HELD_OUT)
    logger = SampleLogger([*HELD_OUT], max_tokens=5, show=False)
    answers = AnswerEvaluation({"a": HELD_OUT[:1], "b": HELD_OUT[1:]}, max_tokens=5)
    scored = AnswerEvaluation(HELD_OUT, max_tokens=5, nll=True)
    assert logger.sampling_usage(RENDERER) == answers.sampling_usage(RENDERER)
    assert logger.sampling_usage(RENDERER) == TokenUsage(prefilled=read, sampled=sampled)
    # Each likelihood is a request that has to sample one token, whatever it is asked for.
    assert scored.sampling_usage(RENDERER) == TokenUsage(
        prefilled=read + sum(len(RENDERER.render(row).tokens) for row in HELD_OUT), sampled=sampled + len(HELD_OUT)
    )
    estimate = made(None, logger, answers).estimate(TRAIN, HELD_OUT)
    assert (estimate.tokens_prefilled, estimate.tokens_sampled) == (2 * (EVAL + 2 * read), 2 * 2 * sampled)
    assert estimate.uncounted == ()


def test_a_question_that_cannot_be_asked_is_known_before_the_run():
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(ConfigError, match="prompt"):
        made(service, SampleLogger([["x"]])).train(TRAIN, HELD_OUT)
    assert service.journal == ()


def test_what_was_estimated_is_what_it_costs(tmp_path):
    recorder = Recorder()
    run = made(None, recorder, eval_every=4, output_dir=tmp_path)
    result = run.train(TRAIN, HELD_OUT)
    assert result.cost.usd == pytest.approx(run.estimate(TRAIN, HELD_OUT).usd)
    assert result.cost.usd == pytest.approx(usd(steps=ALL, evaluations=4))
    column = dict(result.history.series("cost/cumulative_usd"))
    assert column[0] == pytest.approx(usd(evaluations=1))
    assert column[4] == pytest.approx(usd(steps=ALL[:4], evaluations=2))
    assert column[9] == pytest.approx(result.cost.usd)
    assert str(result.cost) == f"cost: ${result.cost.usd:.4f}, estimated ${result.cost.usd:.4f}"
    assert json.loads((tmp_path / "result.json").read_text())["cost"]["usd"] == pytest.approx(result.cost.usd)
    assert any(line.startswith("cost: about $") for line in recorder.events[0].header)


def test_without_a_price_no_column_is_written():
    result = made(base_model="other").train(TRAIN, HELD_OUT)
    assert "cost/cumulative_usd" not in result.history.metrics
    assert result.cost.usd is None
    assert result.cost.usage == TokenUsage(trained=30 * ROW, prefilled=2 * EVAL)


def test_what_is_made_again_is_paid_for_again(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"forward_backward": {6: ConnectionError("gone")}})
    result = made(service, save_every=2).train(TRAIN, HELD_OUT)
    # Steps 5, 6 and 7 had been sent when step 6 failed; the run went on from step 4.
    assert result.cost.usage.trained == sum(ALL) + sum(ALL[4:7])


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_spent_before_a_resume_is_spent(tmp_path, times):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(Killed):
        # The evaluation before the first step, then two waits a step, and one for the state of 2 and of 4.
        made(MortalService(service, at_wait=14), save_every=2, lookahead=0, output_dir=tmp_path).train(TRAIN, HELD_OUT)
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 5
    for _ in range(times - 1):
        again = made(MortalService(service, at_call=1), save_every=2, lookahead=0, output_dir=tmp_path)
        with pytest.raises(Killed):
            again.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    last = made(service, save_every=2, lookahead=0, output_dir=tmp_path)
    result = last.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert result.cost.usage.trained == sum(ALL) + ALL[4]


# --- estimated is counted, for everything that sends ---

TOOL = {"name": "tide", "description": "High water " * 20, "parameters": {"type": "object", "properties": {}}}


WITH_TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rich(count, prefix, *, tools=False, **columns):
    """Rows with a system prompt, a conversation before the question, and tools where wanted."""
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Answer like a harbour master. " * 3},
                {"role": "user", "content": f"{prefix} hello {'!' * at}"},
                {"role": "assistant", "content": "Good day."},
                {"role": "user", "content": f"{prefix}{at}?"},
                {"role": "assistant", "content": f"A{at}"},
            ],
            **({"tools": [TOOL]} if tools else {}),
            **columns,
        }
        for at in range(count)
    ]
    return gg.Dataset.from_records(rows)


SENDS = {
    "nothing but training": ((), {}),
    "every answer of a conversation": ((), {"train_on": "all_assistant_messages"}),
    "AnswerEvaluation": ((lambda rows: AnswerEvaluation(rows, max_tokens=1),), {}),
    "AnswerEvaluation with likelihoods": ((lambda rows: AnswerEvaluation({"a": rows}, max_tokens=1, nll=True),), {}),
    "SampleLogger": ((lambda rows: SampleLogger(["Q?", *rows], max_tokens=1, show=False),), {}),
    "targets of replay rows": ((), {"replay_targets": "distributions"}),
    "everything": (
        (
            lambda rows: AnswerEvaluation(rows, max_tokens=1, nll=True),
            lambda rows: SampleLogger(list(rows), max_tokens=1, show=False),
        ),
        {"replay_targets": "distributions", "eval_every": 2, "lookahead": 3},
    ),
}
"""What makes a run send something: callbacks made for the rows that are asked, and settings."""


def counted(journal, *, wire=False):
    """The tokens that a scripted service was sent. What samples here samples one token."""
    tokens = {"trained": 0, "prefilled": 0, "sampled": 0}
    for operation in journal:
        if operation.kind == "forward_backward":
            tokens["trained"] += operation.num_tokens
        elif operation.kind in ("forward", "sample") or (operation.kind == "compute_logprobs" and not wire):
            tokens["prefilled"] += operation.num_tokens
            tokens["sampled"] += operation.kind != "forward"
    return TokenUsage(**tokens)


@pytest.mark.parametrize("tools", [False, True], ids=["plain", "tools"])
@pytest.mark.parametrize("feature", SENDS)
def test_what_is_estimated_is_what_is_sent_to_the_token(feature, tools, tmp_path):
    """Whatever sends: estimated before the run, counted by the run, and received by the service."""
    callbacks, settings = SENDS[feature]
    train, held = rich(5, "T", tools=tools, tags=["replay"]), rich(3, "E", tools=tools)
    service = ScriptedService(tokenizer=TOKENIZER)
    made = gg.SupervisedTrainer(
        "scripted",
        service=service,
        renderer=gg.ChatTemplateRenderer(ByteTokenizer(chat_template=WITH_TOOLS)),
        callbacks=[make(held) for make in callbacks],
        config=config(output_dir=tmp_path / "run", **settings),
        prices=TABLE,
    )
    estimate = made.estimate(train, held)
    assert service.journal == ()
    result = made.train(train, held)
    assert result.cost.usage == estimate.usage == counted(service.journal)


def test_everything_that_sends_is_in_the_table():
    """A callback that samples, or a place that sends, which is new, has to be estimated, counted and tested here."""
    for module in modules():
        importlib.import_module(module.name)
    samplers = {kind.__name__ for kind in every(gg.Callback) if kind.needs_sampler and kind.__module__[:5] == "glowg"}
    assert samplers == {name for name in SENDS if name in samplers}
    methods = {"sample", "compute_logprobs", "forward", "forward_backward"}
    layers = ("engines", "local", "testing")
    sending = {
        module.name
        for module in modules()
        if module.name.split(".")[1:2] not in [[layer] for layer in layers]
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods
    }
    # The check of an export asks the engine of this machine, which costs nothing.
    assert sending == {
        "glowgenius.cli.chat",
        "glowgenius.export.merge",
        "glowgenius.training.sampler",
        "glowgenius.training.loop",
    }


def every(kind):
    """All subclasses of *kind*."""
    return [found for child in kind.__subclasses__() for found in (child, *every(child))]


# --- the budget ---


@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize("eval_every", [None, 2, "epoch"])
@pytest.mark.parametrize("share", [0.4, 0.55, 0.7, 0.85])
def test_a_budget_is_never_exceeded_and_used_as_far_as_can_be(lookahead, eval_every, share):
    settings = {"lookahead": lookahead, "eval_every": eval_every, "num_epochs": 5}
    whole = made(**settings).estimate(TRAIN, HELD_OUT).usd
    result = made(None, gg.BudgetGuard(share * whole), **settings).train(TRAIN, HELD_OUT)
    assert result.cost.usd <= share * whole
    assert result.final_checkpoint.state_path is not None
    assert result.stop_reason.startswith(f"the budget of ${share * whole:g} is used up: $")
    assert result.stop_reason.endswith(f"${result.cost.usd:.4f} with what is under way")
    # One step more, with its evaluation, would have been too much.
    assert result.cost.usd + usd(steps=[FOUR], evaluations=1) > share * whole


def test_a_budget_that_is_enough_changes_nothing():
    whole = made().estimate(TRAIN, HELD_OUT).usd
    assert made(None, gg.BudgetGuard(whole * 1.0001)).train(TRAIN, HELD_OUT).stop_reason == "completed"


def test_a_budget_survives_a_resume(tmp_path):
    service, budget = ScriptedService(tokenizer=TOKENIZER), 0.6 * made().estimate(TRAIN, HELD_OUT).usd
    settings = {"save_every": 1, "output_dir": tmp_path}
    with pytest.raises(Killed):
        made(MortalService(service, at_wait=8), gg.BudgetGuard(budget), **settings).train(TRAIN, HELD_OUT)
    result = made(service, gg.BudgetGuard(budget), **settings).train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert result.cost.usd <= budget
    assert result.stop_reason.startswith("the budget of $")


def test_a_budget_for_less_than_one_step():
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(ConfigError) as raised:
        made(service, gg.BudgetGuard(1e-6)).train(TRAIN, HELD_OUT)
    least = usd(steps=ALL[:2], evaluations=2)
    assert str(raised.value) == (
        f"BudgetGuard(usd=1e-06) is too small: ended as early as can be, the run would have cost ${least:.4f}"
    )
    assert service.journal == ()


def test_a_budget_without_a_price():
    with pytest.raises(ConfigError) as raised:
        made(None, gg.BudgetGuard(1), base_model="other").train(TRAIN, HELD_OUT)
    assert str(raised.value) == (
        "BudgetGuard(usd=1) cannot watch the cost: it is unknown, there is no price of 'other'; give one with "
        "SupervisedTrainer(prices=...) or GLOWGENIUS_PRICES"
    )


@pytest.mark.parametrize("value", [0, -1, "2", True, float("nan")])
def test_a_budget_is_a_number(value):
    with pytest.raises(ConfigError, match=r"BudgetGuard\.usd must be a number > 0"):
        gg.BudgetGuard(value)


# --- the table ---


def test_the_shipped_table_is_dated_and_complete():
    table = PriceTable.shipped()
    price = table.models["Qwen/Qwen3-8B"]
    assert (price.prefill, price.sample, price.train, price.date) == (0.195, 0.60, 0.44, "2026-10-07")
    assert len(table.models) == 20
    for each in table.models.values():
        assert 0 < each.prefill <= each.train
        assert each.date >= "2026-07-02"
        assert each.source.startswith("https://tinker-docs.thinkingmachines.ai/")


def test_a_table_of_the_users_own(tmp_path, monkeypatch):
    path = tmp_path / "prices.json"
    entry = {"prefill": 1, "sample": 2, "train": 3}
    path.write_text(json.dumps({"date": "2026-12-01", "models": {"scripted": entry}}))
    assert made(prices=path).estimate(TRAIN).usd == pytest.approx(3 * 30 * ROW / 1e6)
    monkeypatch.setenv("GLOWGENIUS_PRICES", str(path))
    assert made(prices=None).estimate(TRAIN).priced_at == "2026-12-01"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "list indices must be integers or slices, not str"),
        ('{"models": {"m": {"prefill": 1, "sample": 2, "train": 3}}}', "date is missing"),
        ('{"date": "x", "models": {"m": {"prefill": 1, "sample": 2}}}', "train is missing"),
        (
            '{"date": "x", "models": {"m": {"prefill": -1, "sample": 2, "train": 3}}}',
            "Price.prefill must be a number ≥ 0, got -1 (int)",
        ),
    ],
)
def test_what_is_no_price_table(tmp_path, text, reason):
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        made(prices=path)
    assert str(raised.value) == (
        f'prices: {path} is no price table ({reason}); one looks like {{"date": "2026-11-24", "models": '
        '{"Qwen/Qwen3-8B": {"prefill": 0.2, "sample": 0.6, "train": 0.44}}}'
    )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as raised:
        made(prices=tmp_path / "no.json")
    assert str(raised.value) == f"prices: '{tmp_path}/no.json' cannot be read: No such file or directory"
