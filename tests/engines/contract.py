"""What an engine has to do, whichever it is: one suite for the scripted service, the local engine and the real SDK.

A test module makes a class of it by saying what is under test:

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self, tmp_path):
            return Engine(service=lambda: MyService(tmp_path), base_model="tiny", learning_rate=1e-2)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from attrs import frozen

from glowgenius.engines.errors import translate
from glowgenius.engines.offered import context_length, delete_checkpoint, settle_place
from glowgenius.engines.tinker_types import AdamParams, Datum, ModelInput, SamplingParams
from glowgenius.errors import CheckpointError, EngineError, ModelNotFoundError, RequestRejectedError
from glowgenius.lora.config import LoRAConfig
from glowgenius.training import SupervisedTrainer, TrainingConfig
from tests.support.training import RENDERER, questions

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.engines.protocol import SamplingClient, ServiceClient, TrainingClient

VOCABULARY = 120
"""Token ids of the suite lie below this: every engine under test has at least as many."""

ROWS = 4
"""Data of one batch."""


@frozen(kw_only=True)
class Engine:
    """What is under test."""

    service: Callable[[], ServiceClient]
    """Makes a service; two of them share their checkpoints where `shares_checkpoints` says so."""

    base_model: str
    """A base model that it has."""

    learning_rate: float
    """A rate at which ten steps lower the loss visibly."""

    tolerance: float = 1e-5
    """Largest relative difference between two ways to compute the same number."""

    shares_checkpoints: bool = False
    """Whether a second service finds the checkpoints of the first."""

    context: int | None = None
    """The most tokens that a row or a prompt of the model may have; None where it sets no limit."""

    vocabulary_size: int | None = None
    """Where token ids end, if the engine checks them."""


def rows(seed: int, count: int = ROWS) -> list[tuple[list[int], list[int], list[float]]]:
    """Inputs, targets and weights of *count* examples of different lengths, their first tokens untrained."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(generator.integers(4, 12))
        tokens = generator.integers(0, VOCABULARY, length + 1).tolist()
        untrained = int(generator.integers(1, length))
        found.append((tokens[:-1], tokens[1:], [0.0] * untrained + [1.0] * (length - untrained)))
    return found


def datum(inputs: list[int], targets: list[int], weights: list[float]) -> Datum:
    """One example as an engine takes it."""
    fields: dict[str, Any] = {"target_tokens": targets, "weights": weights}
    return Datum(model_input=ModelInput.from_ints(inputs), loss_fn_inputs=fields)


def batch(seed: int, count: int = ROWS) -> list[Datum]:
    """The examples of `rows` as data."""
    return [datum(*row) for row in rows(seed, count)]


def loss_of(client: TrainingClient, data: list[Datum]) -> float:
    """The sum loss of *data* under the weights as they are now."""
    return client.forward(data, "cross_entropy").result().metrics["loss:sum"]


def error_of(call: Callable[[], Any]) -> Exception:
    """The error of *call*, whether it raises or returns a future that does, as an error of this library."""
    try:
        result = call()
        if hasattr(result, "result"):
            result.result(timeout=60)
    except Exception as error:  # noqa: BLE001 - which error it is, is what the test asks
        return translate(error)
    pytest.fail("nothing was refused")


def drawn(client: SamplingClient, prompt: list[int], count: int = 1, **params: Any) -> Any:
    """The sequences that *client* continues *prompt* with."""
    return client.sample(ModelInput.from_ints(prompt), count, SamplingParams(**params)).result().sequences


class EngineContract:
    """The suite; `engine` says what is under test."""

    @pytest.fixture
    def engine(self) -> Engine:
        raise NotImplementedError

    @pytest.fixture
    def service(self, engine: Engine) -> Any:
        service = engine.service()
        yield service
        service.close("success").result(timeout=60)

    @pytest.fixture
    def make(self, engine: Engine, service: ServiceClient) -> Callable[..., TrainingClient]:
        def make(seed: int = 0, rank: int = 4) -> TrainingClient:
            return service.create_lora_training_client(engine.base_model, rank=rank, seed=seed).result(timeout=60)

        return make

    @pytest.fixture
    def train(self, engine: Engine) -> Callable[..., list[float]]:
        def train(client: TrainingClient, seeds: range | list[int], **adam: Any) -> list[float]:
            params = AdamParams(**{"learning_rate": engine.learning_rate, **adam})
            losses = []
            for seed in seeds:
                losses.append(client.forward_backward(batch(seed), "cross_entropy"))
                client.optim_step(params)
            return [loss.result(timeout=60).metrics["loss:sum"] for loss in losses]

        return train

    @pytest.fixture
    def near(self, engine: Engine) -> Callable[[Any], Any]:
        return lambda value: pytest.approx(value, rel=engine.tolerance, abs=engine.tolerance)

    # Order.

    def test_calls_take_effect_in_the_order_in_which_they_were_made(self, engine, make):
        client = make()
        data = batch(1)
        before = client.forward(data, "cross_entropy")
        client.forward_backward(data, "cross_entropy")
        step = client.optim_step(AdamParams(learning_rate=engine.learning_rate))
        after = client.forward(data, "cross_entropy")
        # Asked for in another order than submitted.
        loss_after = after.result().metrics["loss:sum"]
        step.result()
        assert loss_after < before.result().metrics["loss:sum"]

    def test_ten_steps_lower_the_loss(self, make, train):
        losses = train(make(), [1] * 10)
        assert losses[-1] < 0.9 * losses[0]

    # The loss.

    def test_the_loss_is_the_plain_sum_of_weighted_logprobs(self, make, near):
        output = make().forward_backward(batch(2), "cross_entropy").result()
        expected = -sum(
            float(np.asarray(outputs["logprobs"].to_numpy(), dtype=np.float64) @ np.array(weights))
            for outputs, (_, _, weights) in zip(output.loss_fn_outputs, rows(2), strict=True)
        )
        assert output.metrics["loss:sum"] == near(expected)

    def test_each_datum_has_a_logprob_for_each_target(self, make):
        output = make().forward(batch(3), "cross_entropy").result()
        for outputs, (inputs, _, weights) in zip(output.loss_fn_outputs, rows(3), strict=True):
            logprobs = outputs["logprobs"].to_numpy()
            assert (logprobs.shape, logprobs.dtype) == ((len(inputs),), np.float32)
            assert (logprobs[np.array(weights) > 0] < 0).all()

    def test_the_loss_grows_with_the_weights_and_is_divided_by_nothing(self, make, near):
        client = make()
        single, doubled, both = (
            loss_of(client, [datum(inputs, targets, [factor * weight for weight in weights])] * count)
            for inputs, targets, weights in rows(4, 1)
            for factor, count in ((1, 1), (2, 1), (1, 2))
        )
        assert doubled == near(2 * single)
        assert both == near(2 * single)

    def test_data_do_not_see_each_other(self, make, near):
        client = make()
        assert loss_of(client, batch(5)) == near(sum(loss_of(client, [one]) for one in batch(5)))

    def test_a_target_without_weight_does_not_matter(self, make, near, engine):
        losses = []
        for target in (5, 6):
            client = make()
            data = [
                datum(i, [target if not w else t for t, w in zip(ts, ws, strict=True)], ws) for i, ts, ws in rows(6)
            ]
            client.forward_backward(data, "cross_entropy")
            client.optim_step(AdamParams(learning_rate=engine.learning_rate))
            losses.append(loss_of(client, batch(6)))
        assert losses[0] == near(losses[1])

    def test_fractional_weights_count(self, make, near):
        client = make()
        [(inputs, targets, weights)] = rows(7, 1)
        last = [0.0] * (len(weights) - 1)
        whole = loss_of(client, [datum(inputs, targets, [*last, 1.0])])
        assert loss_of(client, [datum(inputs, targets, [*last, 0.25])]) == near(0.25 * whole)

    def test_several_targets_of_a_place_are_weighed_and_summed(self, make, near):
        client = make()
        [(inputs, targets, weights)] = rows(25, 1)
        others = [(target + 1) % VOCABULARY for target in targets]
        both = datum(inputs, list(zip(targets, others, strict=True)), [(0.75 * one, 0.25 * one) for one in weights])
        output = client.forward([both], "cross_entropy").result()
        expected = 0.75 * loss_of(client, [datum(inputs, targets, weights)])
        expected += 0.25 * loss_of(client, [datum(inputs, others, weights)])
        assert output.metrics["loss:sum"] == near(expected)
        logprobs = output.loss_fn_outputs[0]["logprobs"].to_numpy()
        assert logprobs.shape == (len(inputs), 2)
        trained = np.flatnonzero(weights)
        single = client.forward([datum(inputs, others, weights)], "cross_entropy").result()
        assert logprobs[trained, 1] == near(single.loss_fn_outputs[0]["logprobs"].to_numpy()[trained])

    # Gradients and the optimizer.

    def test_several_targets_of_a_place_have_the_gradient_of_each(self, make, near, engine):
        together, apart = make(), make()
        wide, narrow = [], []
        for inputs, targets, weights in rows(26):
            others = [(target + 1) % VOCABULARY for target in targets]
            wide.append(datum(inputs, list(zip(targets, others, strict=True)), [(0.75 * w, 0.25 * w) for w in weights]))
            narrow.append(datum(inputs, targets, [0.75 * weight for weight in weights]))
            narrow.append(datum(inputs, others, [0.25 * weight for weight in weights]))
        for client, data in ((together, wide), (apart, narrow)):
            for rate in (1.0, 0.5):
                client.forward_backward(data, "cross_entropy")
                client.optim_step(AdamParams(learning_rate=rate * engine.learning_rate))
        assert loss_of(together, wide) == near(loss_of(apart, narrow))

    def test_gradients_of_several_calls_add_up(self, make, near, engine):
        one, several = make(), make()
        one.forward_backward(batch(8), "cross_entropy")
        for row in batch(8):
            several.forward_backward([row], "cross_entropy")
        for client in (one, several):
            client.optim_step(AdamParams(learning_rate=engine.learning_rate))
        assert loss_of(several, batch(8)) == near(loss_of(one, batch(8)))

    def test_halves_of_a_weight_add_up_to_its_gradient(self, make, near, engine):
        whole, halves = make(), make()
        params = AdamParams(learning_rate=engine.learning_rate)
        half = [datum(inputs, targets, [0.5 * weight for weight in weights]) for inputs, targets, weights in rows(24)]
        whole.forward_backward(batch(24), "cross_entropy")
        for _ in range(2):
            halves.forward_backward(half, "cross_entropy")
        for client in (whole, halves):
            client.optim_step(params)
            # Adam forgets the scale of one gradient, but not that of a second one beside it.
            client.forward_backward(batch(24), "cross_entropy")
            client.optim_step(params)
        assert loss_of(halves, batch(24)) == near(loss_of(whole, batch(24)))

    def test_an_update_clears_the_gradient(self, make, near, train):
        client = make()
        train(client, [9])
        loss = loss_of(client, batch(9))
        # Without memory of earlier gradients, an update without a gradient moves nothing.
        client.optim_step(AdamParams(learning_rate=1.0, beta1=0.0, beta2=0.0))
        assert loss_of(client, batch(9)) == near(loss)

    def test_forward_changes_neither_weights_nor_gradient(self, make, near, engine):
        plain, disturbed = make(), make()
        before = loss_of(plain, batch(10))
        for client in (plain, disturbed):
            client.forward_backward(batch(10), "cross_entropy")
        assert loss_of(disturbed, batch(10)) == near(before)
        loss_of(disturbed, batch(11))
        for client in (plain, disturbed):
            client.optim_step(AdamParams(learning_rate=engine.learning_rate))
        assert loss_of(disturbed, batch(10)) == near(loss_of(plain, batch(10)))
        assert loss_of(plain, batch(10)) < before

    def test_a_learning_rate_of_zero_changes_nothing(self, make, train, near):
        client = make()
        before = loss_of(client, batch(12))
        train(client, [12], learning_rate=0.0)
        assert loss_of(client, batch(12)) == near(before)

    def test_weight_decay_is_decoupled_and_pulls_the_adapter_to_zero(self, make, train, near):
        client = make()
        base = loss_of(client, batch(13))
        train(client, [13] * 5)
        assert loss_of(client, batch(13)) != near(base)
        # learning_rate · weight_decay = 1: every parameter loses itself, and only the base model is left.
        client.optim_step(AdamParams(learning_rate=0.1, weight_decay=10.0, beta1=0.0, beta2=0.0))
        assert loss_of(client, batch(13)) == near(base)

    def test_the_gradient_is_clipped_to_a_global_norm(self, make, train):
        moved = {}
        for norm in (0.0, 1e-6):
            client = make()
            before = loss_of(client, batch(14))
            # With a large eps the size of an update follows the size of the gradient.
            train(client, [14], eps=1.0, grad_clip_norm=norm)
            moved[norm] = abs(loss_of(client, batch(14)) - before)
        assert moved[1e-6] < 0.1 * moved[0.0]

    # Seeds.

    def test_one_seed_gives_the_same_losses(self, make, train):
        assert train(make(seed=3), range(5)) == train(make(seed=3), range(5))

    def test_another_seed_gives_other_losses(self, make, train):
        assert train(make(seed=3), range(5))[1:] != train(make(seed=4), range(5))[1:]

    def test_a_fresh_adapter_is_the_base_model(self, make, service, engine, near):
        prompt = ModelInput.from_ints(rows(15, 1)[0][0])
        base = service.create_sampling_client(base_model=engine.base_model).result()
        fresh = make().save_weights_and_get_sampling_client().result()
        assert fresh.compute_logprobs(prompt).result()[1:] == near(base.compute_logprobs(prompt).result()[1:])

    # Identity.

    def test_every_client_is_new_and_knows_what_it_is(self, make, service, engine):
        first, second = make(rank=4), make(rank=2)
        path = first.save_state("here").result().path
        third = service.create_training_client_from_state_with_optimizer(path).result()
        assert len({client.model_id for client in (first, second, third)}) == 3
        info = second.get_info()
        assert (info.model_id, info.model_data.model_name, info.lora_rank) == (second.model_id, engine.base_model, 2)
        assert third.get_info().lora_rank == 4

    # Checkpoints.

    def test_a_checkpoint_holds_what_was_submitted_before_it(self, make, service, engine):
        client = make()
        params = AdamParams(learning_rate=engine.learning_rate)
        losses, saves = [], []
        for step in range(3):
            client.forward_backward(batch(16), "cross_entropy")
            client.optim_step(params)
            saves.append(client.save_state(f"step-{step}"))
            losses.append(client.forward(batch(16), "cross_entropy"))
        for save, loss in zip(saves, losses, strict=True):
            resumed = service.create_training_client_from_state(save.result().path).result()
            assert loss_of(resumed, batch(16)) == loss.result().metrics["loss:sum"]

    def test_resuming_with_the_optimizer_goes_on_as_if_nothing_had_happened(self, make, service, train):
        client = make()
        train(client, range(3))
        path = client.save_state("here").result().path
        resumed = service.create_training_client_from_state_with_optimizer(path).result()
        assert train(resumed, range(3, 7)) == train(client, range(3, 7))

    def test_resuming_without_the_optimizer_starts_it_afresh(self, make, service, train, near):
        client = make()
        train(client, range(3))
        path = client.save_state("here").result().path
        resumed = service.create_training_client_from_state(path).result()
        on, afresh = train(client, range(3, 7)), train(resumed, range(3, 7))
        assert afresh[0] == near(on[0])
        assert afresh[1:] != on[1:]

    def test_training_after_a_save_does_not_change_the_checkpoint(self, make, service, train):
        client = make()
        train(client, range(2))
        before = loss_of(client, batch(17))
        path = client.save_state("here").result().path
        train(client, range(2, 5))
        resumed = service.create_training_client_from_state_with_optimizer(path).result()
        train(resumed, range(2, 5))
        again = service.create_training_client_from_state_with_optimizer(path).result()
        assert loss_of(again, batch(17)) == before

    def test_another_service_finds_the_checkpoint(self, engine, make, train):
        if not engine.shares_checkpoints:
            pytest.skip("checkpoints of this engine end with their service")
        client = make()
        train(client, range(2))
        path = client.save_state("here", user_metadata={"step": "2"}).result().path
        other = engine.service()
        resumed = other.create_training_client_from_state_with_optimizer(path).result()
        assert train(resumed, range(2, 4)) == train(client, range(2, 4))
        other.close("success").result()

    def test_a_state_can_be_overwritten_on_demand(self, make, service, train):
        client = make()
        client.save_state("latest").result()
        train(client, range(2))
        path = client.save_state("latest", overwrite=True).result().path
        resumed = service.create_training_client_from_state(path).result()
        assert loss_of(resumed, batch(18)) == loss_of(client, batch(18))

    def test_weights_for_sampling_are_no_state_to_resume_from(self, make, service):
        path = make().save_weights_for_sampler("here").result().path
        error = error_of(lambda: service.create_training_client_from_state_with_optimizer(path))
        assert isinstance(error, CheckpointError | RequestRejectedError)

    def test_a_second_stage_begins_with_the_weights_of_the_first(self, service, engine, tmp_path, near):
        def stage(folder, data, **how):
            config = TrainingConfig(
                max_steps=3,
                batch_size=4,
                learning_rate=engine.learning_rate,
                lr_schedule="constant",
                output_dir=tmp_path / folder,
            )
            made = SupervisedTrainer(
                engine.base_model, lora=LoRAConfig(rank=4), service=service, renderer=RENDERER, config=config
            )
            return made.train(data, eval_dataset=questions(2, prefix="E"), **how).history.rows

        one = stage("one", questions(4))
        two = stage("two", questions(4, prefix="Z"), initial_weights=tmp_path / "one")
        losses = [[row["eval/loss"] for row in (rows[0], rows[-1])] for rows in (one, two)]
        assert one[0]["step"] == two[0]["step"] == 0
        assert losses[1][0] == near(losses[0][1])
        assert losses[0][0] != near(losses[0][1])
        assert losses[1][1] != near(losses[1][0])

    # Sampling.

    def test_a_snapshot_keeps_the_weights_of_its_place(self, make, service, train, near):
        client = make()
        train(client, range(3))
        inputs, targets, _ = rows(19, 1)[0]
        whole = client.forward([datum(inputs, targets, [1.0] * len(inputs))], "cross_entropy")
        saved = client.save_weights_for_sampler("here")
        settle_place(client, saved)
        snapshot = client.save_weights_and_get_sampling_client()
        train(client, range(3, 6))
        expected = near(whole.result().loss_fn_outputs[0]["logprobs"].to_numpy().tolist())
        prompt = ModelInput.from_ints([*inputs, targets[-1]])
        path = saved.result().path
        for made in (
            snapshot,
            client.create_sampling_client(path),
            service.create_sampling_client(model_path=path),
        ):
            assert made.result().compute_logprobs(prompt).result()[1:] == expected

    def test_logprobs_are_given_for_the_last_n_tokens(self, service, engine, near):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        prompt = ModelInput.from_ints([3, 1, 4, 1, 5])
        everything = client.compute_logprobs(prompt).result()
        assert everything[0] is None
        assert all(value is not None and value < 0 for value in everything[1:])
        some = client.compute_logprobs(prompt, prompt_logprobs_last_n=2).result()
        assert some[:3] == [None] * 3
        assert some[3:] == near(everything[3:])
        assert client.compute_logprobs(prompt, 4).result()[1:] == near(everything[1:])

    def test_the_likeliest_tokens_are_told_along_a_prompt(self, service, engine, near):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        prompt = [3, 1, 4, 1, 5]
        params = SamplingParams(max_tokens=1, temperature=0.0)
        response = client.sample(ModelInput.from_ints(prompt), 1, params, topk_prompt_logprobs=3).result()
        found = response.topk_prompt_logprobs
        assert found[0] is None
        for place in range(1, len(prompt)):
            tokens, logprobs = zip(*found[place], strict=True)
            assert len(set(tokens)) == 3
            assert list(logprobs) == sorted(logprobs, reverse=True)
            assert drawn(client, prompt[:place], max_tokens=1, temperature=0.0)[0].tokens == [tokens[0]]
            for token, logprob in zip(tokens, logprobs, strict=True):
                alone = client.compute_logprobs(ModelInput.from_ints([*prompt[:place], token])).result()
                assert logprob == near(alone[-1])
        alone = client.sample(ModelInput.from_ints(prompt), 1, params).result()
        assert alone.topk_prompt_logprobs is None
        assert response.sequences[0].tokens == alone.sequences[0].tokens
        assert response.sequences[0].logprobs == near(alone.sequences[0].logprobs)
        assert response.sequences[0].stop_reason == alone.sequences[0].stop_reason
        params = SamplingParams(max_tokens=2, temperature=1.0, seed=4)
        beside = client.sample(ModelInput.from_ints(prompt), 2, params, topk_prompt_logprobs=3).result()
        assert [one.tokens for one in beside.sequences] == [
            one.tokens for one in client.sample(ModelInput.from_ints(prompt), 2, params).result().sequences
        ]
        assert beside.topk_prompt_logprobs[1:] == [[(t, near(v)) for t, v in place] for place in found[1:]]

    def test_greedy_answers_are_repeatable_and_as_long_as_asked(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        settings = {"max_tokens": 7, "temperature": 0.0, "stop": []}
        [first], [second] = (drawn(client, [1, 2, 3], **settings) for _ in range(2))
        assert (first.tokens, first.stop_reason, len(first.tokens)) == (second.tokens, "length", 7)

    def test_answers_do_not_depend_on_what_else_is_asked(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        prompts = [[7], [1, 2, 3], list(range(40)), [5, 6]]
        settings = SamplingParams(max_tokens=6, temperature=0.0, stop=[])
        futures = [client.sample(ModelInput.from_ints(prompt), 1, settings) for prompt in prompts]
        together = [future.result().sequences[0].tokens for future in futures]
        alone = [drawn(client, prompt, max_tokens=6, temperature=0.0, stop=[])[0].tokens for prompt in prompts]
        assert together == alone

    def test_a_stop_token_ends_the_answer_and_belongs_to_it(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        [greedy] = drawn(client, [1, 2, 3], max_tokens=5, temperature=0.0, stop=[])
        [stopped] = drawn(client, [1, 2, 3], max_tokens=5, temperature=0.0, stop=[greedy.tokens[2]])
        end = greedy.tokens.index(greedy.tokens[2]) + 1
        assert (stopped.tokens, stopped.stop_reason) == (greedy.tokens[:end], "stop")

    def test_a_seed_makes_draws_repeatable(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        draws = [
            drawn(client, [1, 2, 3], max_tokens=12, temperature=1.0, seed=seed, stop=[])[0].tokens for seed in (5, 5, 6)
        ]
        assert draws[0] == draws[1]
        assert draws[0] != draws[2]

    def test_several_samples_of_one_prompt_differ(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        sequences = drawn(client, [1, 2, 3], 3, max_tokens=40, temperature=1.0, seed=0, stop=[])
        assert len({tuple(sequence.tokens) for sequence in sequences}) == 3

    def test_the_narrowest_draw_is_the_greedy_one(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        [greedy] = drawn(client, [1, 2, 3], max_tokens=6, temperature=0.0, stop=[])
        for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}):
            settings = {"max_tokens": 6, "temperature": 1.0, "seed": 1, "stop": [], **narrow}
            assert drawn(client, [1, 2, 3], **settings)[0].tokens == greedy.tokens

    def test_the_logprobs_of_a_draw_are_those_of_its_tokens(self, service, engine, near):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        [sequence] = drawn(client, [1, 2, 3], max_tokens=5, temperature=1.0, seed=2, stop=[])
        if sequence.logprobs is None:
            pytest.skip("this engine gives no logprobs with its answers")
        whole = ModelInput.from_ints([1, 2, 3, *sequence.tokens])
        assert sequence.logprobs == near(client.compute_logprobs(whole, len(sequence.tokens)).result()[3:])

    # Refusals.

    def test_no_data_are_refused(self, make):
        for method in (make().forward, make().forward_backward):
            assert isinstance(error_of(lambda method=method: method([], "cross_entropy")), RequestRejectedError)

    @pytest.mark.parametrize(
        ("inputs", "targets", "weights"),
        [([1, 2, 3], [2, 3], [1.0, 1.0]), ([1, 2], [2, 3], [1.0]), ([1, 2], [2, 3], [1.0, 1.0, 1.0])],
    )
    def test_rows_of_different_lengths_are_refused(self, make, inputs, targets, weights):
        client = make()
        error = error_of(lambda: client.forward_backward([datum(inputs, targets, weights)], "cross_entropy"))
        assert isinstance(error, RequestRejectedError)

    def test_tokens_beyond_the_vocabulary_are_refused(self, make, engine):
        if engine.vocabulary_size is None:
            pytest.skip("every token id is known to this engine")
        client, size = make(), engine.vocabulary_size
        for inputs, targets in (([1, size], [2, 3]), ([1, 2], [3, size])):
            error = error_of(lambda row=(inputs, targets): client.forward([datum(*row, [0.0, 1.0])], "cross_entropy"))
            assert isinstance(error, RequestRejectedError)

    def test_how_long_a_row_may_be_is_known_before_the_first_request(self, make, service, engine):
        assert context_length(service, engine.base_model) == engine.context
        if engine.context is None:
            return
        client = make()
        sampler = service.create_sampling_client(base_model=engine.base_model).result()
        fits, longer = [1] * engine.context, [1] * (engine.context + 1)
        assert client.forward([datum(fits, fits, [1.0] * len(fits))], "cross_entropy").result()
        assert sampler.compute_logprobs(ModelInput.from_ints(fits)).result()
        for call in (
            lambda: client.forward([datum(longer, longer, [1.0] * len(longer))], "cross_entropy"),
            lambda: client.forward_backward([datum(longer, longer, [1.0] * len(longer))], "cross_entropy"),
            lambda: sampler.compute_logprobs(ModelInput.from_ints(longer)),
            lambda: sampler.sample(ModelInput.from_ints(longer), 1, SamplingParams(max_tokens=1)),
        ):
            assert isinstance(error_of(call), RequestRejectedError)

    def test_an_unknown_loss_is_refused(self, make):
        client = make()
        error = error_of(lambda: client.forward(batch(1), "no_such_loss"))
        assert isinstance(error, RequestRejectedError)

    def test_an_unknown_base_model_is_refused(self, service):
        for create in (
            lambda: service.create_lora_training_client("no/such-model", rank=4),
            lambda: service.create_sampling_client(base_model="no/such-model"),
        ):
            assert isinstance(error_of(create), ModelNotFoundError | RequestRejectedError)

    def test_an_unknown_checkpoint_is_refused(self, make, service):
        path = make().save_state("here").result().path.replace("here", "gone")
        for create in (
            lambda: service.create_training_client_from_state(path),
            lambda: service.create_training_client_from_state_with_optimizer(path),
            lambda: service.create_sampling_client(model_path=path),
        ):
            assert isinstance(error_of(create), CheckpointError | RequestRejectedError)

    def test_a_deleted_checkpoint_is_gone_and_the_others_are_not(self, make, service):
        client = make()
        gone, kept = client.save_state("gone").result().path, client.save_state("kept").result().path
        weights = client.save_weights_for_sampler("gone").result().path
        for path in (gone, weights):
            assert delete_checkpoint(client, path).result() is None
        assert isinstance(
            error_of(lambda: service.create_training_client_from_state(gone)), CheckpointError | RequestRejectedError
        )
        assert isinstance(error_of(lambda: client.create_sampling_client(weights)), CheckpointError | EngineError)
        assert service.create_training_client_from_state(kept).result().model_id != client.model_id
        assert isinstance(error_of(lambda: delete_checkpoint(client, gone)), CheckpointError | RequestRejectedError)

    def test_neither_model_nor_checkpoint_is_refused(self, service):
        assert isinstance(error_of(service.create_sampling_client), RequestRejectedError)

    @pytest.mark.parametrize("last_n", [0, 3, 4])
    def test_logprobs_of_more_than_there_is_are_refused(self, service, engine, last_n):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        error = error_of(lambda: client.compute_logprobs(ModelInput.from_ints([1, 2, 3]), last_n))
        assert isinstance(error, RequestRejectedError)

    def test_an_empty_prompt_is_refused(self, service, engine):
        client = service.create_sampling_client(base_model=engine.base_model).result()
        error = error_of(lambda: client.sample(ModelInput.from_ints([]), 1, SamplingParams(max_tokens=1)))
        assert isinstance(error, RequestRejectedError)

    def test_a_refused_call_does_not_stop_those_behind_it(self, make, engine, near):
        client = make()
        before = loss_of(client, batch(20))
        error_of(lambda: client.forward_backward([datum([1, 2], [3], [1.0])], "cross_entropy"))
        good = client.forward_backward(batch(20), "cross_entropy")
        client.optim_step(AdamParams(learning_rate=engine.learning_rate))
        assert good.result().metrics["loss:sum"] == near(before)
        assert loss_of(client, batch(20)) < before

    def test_a_service_is_closed_at_the_end_of_a_block(self, engine):
        with engine.service() as service:
            if not hasattr(getattr(service, "sdk", service), "close"):
                pytest.skip("this SDK ends no session: one that misses its heartbeats is ended by its server")
            client = service.create_lora_training_client(engine.base_model, rank=4, seed=0).result(timeout=60)
        assert isinstance(error_of(lambda: client.forward(batch(1), "cross_entropy")), EngineError)

    # Futures.

    def test_futures_can_be_awaited_from_any_loop(self, make, near):
        client = make()

        async def ask() -> list[float]:
            first, second = client.forward(batch(21), "cross_entropy"), client.forward(batch(21), "cross_entropy")
            return [(await second).metrics["loss:sum"], (await first.result_async(60)).metrics["loss:sum"]]

        losses = [loss for _ in range(2) for loss in asyncio.run(ask())]
        assert losses == near([loss_of(client, batch(21))] * 4)

    def test_a_future_says_when_it_is_done(self, make):
        future = make().forward(batch(22), "cross_entropy")
        future.result()
        assert future.future().done()
