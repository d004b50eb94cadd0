"""Replay rows that are trained on what the base model finds likely, from the settings to the data that are sent."""

import numpy as np
import pytest

from glowgenius.batching.shift import ShiftedExample, SoftExample, softened, widened
from glowgenius.data.dataset import Dataset
from glowgenius.engines.datum import mean_loss, to_data
from glowgenius.errors import ConfigError, EngineError, PreflightError, RenderingError
from glowgenius.testing import ScriptedService
from tests.support.training import RENDERER, TOKENIZER, Recorder, config, questions, trainer, updates

FACTS = questions(6)
KEPT = Dataset.from_records([{"question": f"K{row}?", "answer": f"{row} stays what it was"} for row in range(6)])
BOTH = FACTS.with_replay(KEPT)
EXAMPLE = ShiftedExample([5, 6, 7], [6, 7, 8], [0.0, 1.0, 0.5])


def test_the_distribution_stands_in_the_place_of_each_trained_target():
    logprobs = np.log(np.array([[0.6, 0.2], [0.5, 0.25]], dtype=np.float32))
    soft = softened(EXAMPLE, np.array([[7, 9], [3, 8]]), logprobs)
    assert soft.inputs.tolist() == [5, 6, 7]
    assert soft.targets.tolist() == [[6, 0], [7, 9], [3, 8]]
    assert soft.weights == pytest.approx(np.array([[0, 0], [0.75, 0.25], [0.5 * 2 / 3, 0.5 / 3]]))
    assert (len(soft), soft.num_trained) == (3, 2)
    assert soft.weights.dtype == np.float32


def test_a_row_without_a_distribution_gets_as_many_columns_and_stays_what_it_was():
    wide = widened(EXAMPLE, 3)
    assert wide.targets.tolist() == [[6, 0, 0], [7, 0, 0], [8, 0, 0]]
    assert wide.weights.tolist() == [[0, 0, 0], [1, 0, 0], [0.5, 0, 0]]
    client = ScriptedService(tokenizer=TOKENIZER).create_lora_training_client("scripted").result()
    losses = [mean_loss(client.forward(to_data(data), "cross_entropy").result(), data) for data in ([EXAMPLE], [wide])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_every_trained_place_needs_its_distribution():
    with pytest.raises(RenderingError, match=r"^2 trained positions need as many distributions, got 1$"):
        softened(EXAMPLE, np.array([[7, 9]]), np.zeros((1, 2), np.float32))


class Listener:
    """A client that keeps what it is sent, before it sends it on."""

    def __init__(self, client):
        self.client, self.data = client, []

    def __getattr__(self, name):
        return getattr(self.client, name)

    def forward_backward(self, data, loss_fn):
        self.data += data
        return self.client.forward_backward(data, loss_fn)


class Listening:
    """A service whose training clients are listened to."""

    def __init__(self):
        self.service, self.heard = ScriptedService(tokenizer=TOKENIZER), []

    def __getattr__(self, name):
        return getattr(self.service, name)

    def create_lora_training_client(self, *args, **settings):
        future = self.service.create_lora_training_client(*args, **settings)
        client = Listener(future.result())
        self.heard.append(client)
        return type("Done", (), {"result": lambda _: client})()


def test_what_is_sent_is_the_base_models_distribution_for_replay_rows_and_the_answer_for_others():
    service = Listening()
    run = trainer(service, replay_targets="distributions", num_epochs=1, batch_size=12)
    run.train(BOTH)
    base = run.base_sampler()
    sent = {tuple(datum.model_input.to_ints()): datum for client in service.heard for datum in client.data}
    assert len(sent) == 12
    total = sum(RENDERER.render(row).num_trained for row in BOTH)
    for row in BOTH:
        tokens, weights = RENDERER.render(row).tokens.tolist(), RENDERER.render(row).weights[1:]
        datum = sent[tuple(tokens[:-1])]
        targets = datum.loss_fn_inputs["target_tokens"].to_numpy()
        shares = datum.loss_fn_inputs["weights"].to_numpy() * total
        assert targets.shape == shares.shape == (len(tokens) - 1, 20)
        assert shares.sum(axis=1) == pytest.approx(weights, abs=1e-5)
        if "replay" not in row.tags:
            assert targets[:, 0].tolist() == tokens[1:]
            assert not shares[:, 1:].any()
            continue
        for place in np.flatnonzero(weights):
            # An independent way to the same figures: each candidate scored as if it were the text.
            alone = [
                base._client.compute_logprobs(datum.model_input.from_ints([*tokens[: place + 1], token])).result()[-1]
                for token in targets[place].tolist()
            ]
            chances = np.exp(alone)
            assert shares[place] == pytest.approx(chances / chances.sum(), rel=1e-4)


def drift(result, base, rows):
    """How far the log-probabilities of the answers have moved, in nats per token."""
    pairs = zip(base.answer_logprobs(rows), result.sampler.answer_logprobs(rows), strict=True)
    return float(np.mean([np.abs(before - after).mean() for before, after in pairs]))


def test_distributions_hold_the_model_better_than_answers_do(monkeypatch):
    # The scripted model is so unsure that 20 tokens are little of what it finds likely: here it tells all.
    monkeypatch.setattr("glowgenius.training.replay_targets.WIDTH", 256)
    moved = {}
    for targets in ("answers", "distributions"):
        run = trainer(replay_targets=targets, num_epochs=8, learning_rate=1e-3)
        moved[targets] = drift(run.train(BOTH), run.base_sampler(), list(KEPT))
    assert moved["distributions"] < 0.5 * moved["answers"]


def test_a_resumed_run_asks_again_and_makes_the_same_updates(tmp_path):
    whole = ScriptedService(tokenizer=TOKENIZER)
    trainer(whole, replay_targets="distributions", num_epochs=2).train(BOTH)
    service = ScriptedService(tokenizer=TOKENIZER)
    settings = {"replay_targets": "distributions", "output_dir": tmp_path / "run"}
    trainer(service, num_epochs=1, lr_schedule="constant", **settings).train(BOTH)
    trainer(service, num_epochs=2, lr_schedule="constant", **settings).train(BOTH, resume_from_checkpoint=True)
    assert [batch for batch, _ in updates(service)] == [batch for batch, _ in updates(whole)]


def test_a_complete_run_asks_for_nothing(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    settings = {"replay_targets": "distributions", "output_dir": tmp_path / "run", "num_epochs": 1}
    cost = trainer(service, **settings).train(BOTH).cost
    asked = len(service.operations("sample"))
    again = trainer(service, **settings).train(BOTH, resume_from_checkpoint=True)
    assert asked == len(service.operations("sample")) == len(KEPT)
    assert again.cost.usage == cost.usage


def test_a_service_that_fails_while_it_is_asked_ends_a_run_that_has_begun(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"sample": {2: EngineError("full")}})
    recorder = Recorder()
    run = trainer(service, callbacks=[recorder], replay_targets="distributions", output_dir=tmp_path / "run")
    with pytest.raises(EngineError):
        run.train(BOTH)
    assert recorder.names == ["TrainBegin", "TrainFailed"]
    assert (tmp_path / "run" / "result.json").exists()


def test_without_replay_rows_there_is_nothing_to_ask_about():
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(PreflightError) as caught:
        trainer(service, replay_targets="distributions").train(FACTS)
    assert str(caught.value) == (
        "the run cannot begin; no row has been sent yet\n"
        "  config.replay_targets: 'distributions', but no row of the training data is tagged 'replay' → "
        "Dataset.with_replay(rows), or replay_targets='answers'"
    )
    assert not service.operations("sample")


def test_an_engine_that_leaves_the_distributions_out_is_named():
    class Silent(ScriptedService):
        def create_sampling_client(self, *args, **settings):
            client = super().create_sampling_client(*args, **settings).result()
            answer = client.sample
            client.sample = lambda *given, **_: answer(*given)
            return type("Done", (), {"result": lambda _: client})()

    with pytest.raises(EngineError) as caught:
        trainer(Silent(tokenizer=TOKENIZER), replay_targets="distributions").train(BOTH)
    assert str(caught.value) == "the engine was asked for the 20 likeliest tokens along a prompt, and gave none"


def test_what_the_base_model_reads_is_counted():
    run = trainer(replay_targets="distributions", num_epochs=1)
    estimate = run.estimate(BOTH)
    read = sum(len(RENDERER.render(row)) for row in KEPT)
    assert (estimate.teacher.prefilled, estimate.teacher.sampled) == (read, len(KEPT))
    assert f"{read:,} read for the targets of replay rows" in str(estimate)
    assert run.train(BOTH).cost.usage == estimate.usage
    assert trainer(num_epochs=1).estimate(BOTH).teacher.prefilled == 0


def test_the_header_says_what_replay_rows_are_trained_on():
    recorder = Recorder()
    trainer(callbacks=[recorder], replay_targets="distributions", num_epochs=1).train(BOTH)
    expected = (
        "replay targets: the 20 tokens that the base model finds likeliest at each place, asked for before the first "
        "step"
    )
    assert expected in recorder.events[0].header
    assert expected in trainer(replay_targets="distributions").preflight(BOTH).lines()


def test_a_misspelt_setting_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"replay_targets must be one of .* \(did you mean 'distributions'\?\)$"):
        config(replay_targets="distribution")


def test_soft_examples_are_counted_by_place():
    assert SoftExample(inputs=np.arange(2), targets=np.zeros((2, 3), int), weights=np.ones((2, 3))).num_trained == 2
