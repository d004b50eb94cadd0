"""The scripted service beyond the contract of an engine: its script and its journal."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from glowgenius.engines.tinker_types import AdamParams, Datum, ModelInput, SamplingParams
from glowgenius.errors import CheckpointError, ConfigError, EngineError, ModelNotFoundError, RequestRejectedError
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.testing.script import KINDS

TOKENIZER = ByteTokenizer()
END = 258
ANSWERS = {"Where is Yankee Stadium?": "The Bronx", "Where is Citi Field?": "Queens", "Field?": "A field."}


def datum(inputs=(1, 2, 3), targets=(2, 3, 4), weights=(0.0, 1.0, 1.0)):
    fields = {"target_tokens": list(targets), "weights": list(weights)}
    return Datum(model_input=ModelInput.from_ints(list(inputs)), loss_fn_inputs=fields)


def client_of(service, **options):
    return service.create_lora_training_client("m", **options).result()


def ask(client, prompt, **params):
    settings = SamplingParams(**{"max_tokens": 50, "temperature": 0.0, "stop": [END], **params})
    [sequence] = client.sample(ModelInput.from_ints(TOKENIZER.encode(prompt)), 1, settings).result().sequences
    return sequence


def said(client, prompt, **params):
    return TOKENIZER.decode(ask(client, prompt, **params).tokens)


def trained(service, updates=1):
    client = client_of(service)
    for _ in range(updates):
        client.forward_backward([datum()], "cross_entropy")
        client.optim_step(AdamParams())
    return client


class TestJournal:
    def test_it_holds_every_call_in_order(self):
        service = ScriptedService()
        client = client_of(service, seed=1)
        data = [datum(), datum((5,), (6,), (0.5,))]
        adam = AdamParams(learning_rate=1e-3)
        client.forward(data, "cross_entropy")
        client.forward_backward(data, "cross_entropy")
        client.optim_step(adam)
        state = client.save_state("one", user_metadata={"step": "1", "epoch": "0"}).result().path
        client.save_weights_for_sampler("two")
        sampler = client.save_weights_and_get_sampling_client("three").result()
        sampler.sample(ModelInput.from_ints([1, 2]), 3, SamplingParams(max_tokens=1))
        sampler.compute_logprobs(ModelInput.from_ints([1, 2, 3]))
        service.create_training_client_from_state(state)
        service.create_training_client_from_state_with_optimizer(state)
        service.create_sampling_client(base_model="m")
        service.close("success", "all done")
        journal = service.journal
        assert [(each.kind, each.client, each.sequence, each.name, each.path) for each in journal] == [
            ("create_lora_training_client", None, None, "m", None),
            ("forward", "scripted:train:0", 1, None, None),
            ("forward_backward", "scripted:train:0", 2, None, None),
            ("optim_step", "scripted:train:0", 3, None, None),
            ("save_state", "scripted:train:0", 4, "one", "tinker://scripted:train:0/weights/one"),
            ("save_weights_for_sampler", "scripted:train:0", 5, "two", "tinker://scripted:train:0/sampler_weights/two"),
            ("save_weights_and_get_sampling_client", "scripted:train:0", 6, "three", None),
            ("sample", "m@1", None, None, None),
            ("compute_logprobs", "m@1", None, None, None),
            ("create_training_client_from_state", None, None, None, state),
            ("create_training_client_from_state_with_optimizer", None, None, None, state),
            ("create_sampling_client", None, None, "m", None),
            ("close", None, None, "success: all done", None),
        ]
        assert [(each.num_data, each.num_tokens, each.weight_sum) for each in journal[1:3]] == [(2, 4, 2.5)] * 2
        assert [(each.num_data, each.num_tokens) for each in journal[7:9]] == [(3, 2), (None, 3)]
        assert journal[1].fingerprint == journal[2].fingerprint
        assert journal[3].adam_params == adam
        assert journal[4].user_metadata == (("epoch", "0"), ("step", "1"))
        assert {each.error for each in journal} == {None}
        assert {each.kind for each in journal} <= set(KINDS)

    @pytest.mark.parametrize(
        "other",
        [
            [datum((1, 2, 9))],
            [datum(targets=(2, 3, 9))],
            [datum(weights=(0.0, 1.0, 0.5))],
            [datum(), datum()],
            [datum((1, 2), (2, 3), (0.0, 1.0)), datum((3,), (4,), (1.0,))],
        ],
    )
    def test_the_fingerprint_tells_batches_apart(self, other):
        service = ScriptedService()
        client = client_of(service)
        for data in ([datum()], other, [datum()]):
            client.forward(data, "cross_entropy")
        first, second, third = (each.fingerprint for each in service.operations("forward"))
        assert first == third != second

    def test_one_kind_can_be_picked(self):
        service = ScriptedService()
        trained(service, 3)
        assert [each.sequence for each in service.operations("optim_step")] == [2, 4, 6]
        with pytest.raises(ConfigError) as info:
            service.operations("optim_steps")
        assert str(info.value) == (
            f"there is no operation 'optim_steps' (did you mean 'optim_step'?); there are: {', '.join(KINDS)}"
        )

    def test_calls_of_many_threads_are_all_entered(self):
        service = ScriptedService()
        client = client_of(service)

        def work():
            for _ in range(20):
                client.forward_backward([datum()], "cross_entropy").result()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.sequence for each in service.operations("forward_backward")] == list(range(1, 81))


class TestAnswers:
    def test_the_question_asked_last_decides(self):
        sampler = trained(ScriptedService(answers=ANSWERS, tokenizer=TOKENIZER))
        sampler = sampler.save_weights_and_get_sampling_client().result()
        assert said(sampler, "Where is Yankee Stadium?") == "The Bronx<|im_end|>"
        assert said(sampler, "Where is Yankee Stadium? The Bronx. Where is Citi Field? ") == "Queens<|im_end|>"
        assert said(sampler, "Where is Citi Field? Queens. Where is Yankee Stadium?") == "The Bronx<|im_end|>"
        assert said(sampler, "My Field?") == "A field.<|im_end|>"

    def test_a_prompt_without_a_known_question_is_refused(self):
        service = ScriptedService(answers={"Where is Citi Field?": "Queens"}, tokenizer=TOKENIZER)
        sampler = service.create_sampling_client(base_model="m").result()
        with pytest.raises(RequestRejectedError) as info:
            ask(sampler, "Where am I?")
        assert str(info.value) == (
            "ScriptedService has no answer for the prompt 'Where am I?'; it knows:\n  'Where is Citi Field?'"
        )

    def test_weights_without_an_update_may_say_something_else(self):
        service = ScriptedService(answers={"Q": "right"}, base_answers={"Q": "wrong"}, tokenizer=TOKENIZER)
        client = trained(service)
        fresh = client_of(service)
        samplers = [
            service.create_sampling_client(base_model="m"),
            fresh.save_weights_and_get_sampling_client(),
            client.save_weights_and_get_sampling_client(),
            service.create_sampling_client(model_path=client.save_weights_for_sampler("s").result().path),
        ]
        assert [(said(each.result(), "Q"), each.result().updates) for each in samplers] == [
            ("wrong<|im_end|>", 0),
            ("wrong<|im_end|>", 0),
            ("right<|im_end|>", 1),
            ("right<|im_end|>", 1),
        ]

    @pytest.mark.parametrize(
        ("stop", "answer"),
        [([7, 8], [121, 7]), (["\n", "!"], [121, 10]), ("<|im_end|>", [121, 258]), (None, [121, 258]), ([], [121])],
    )
    def test_an_answer_ends_with_the_first_stop(self, stop, answer):
        service = ScriptedService(answers={"x": "y"}, tokenizer=TOKENIZER)
        sampler = service.create_sampling_client(base_model="m").result()
        sequence = ask(sampler, "x", stop=stop)
        assert (sequence.tokens, sequence.stop_reason) == (answer, "stop")
        assert len(sequence.logprobs) == len(answer)

    def test_a_tokenizer_without_an_end_ends_nothing(self):
        plain = ByteTokenizer(eos_token=None)
        sampler = ScriptedService(answers={"x": "y"}, tokenizer=plain).create_sampling_client(base_model="m").result()
        assert ask(sampler, "x", stop=None).tokens == [121]

    def test_a_long_answer_is_cut(self):
        sampler = ScriptedService(answers={"x": "yes"}, tokenizer=TOKENIZER).create_sampling_client(base_model="m")
        sequences = [ask(sampler.result(), "x", max_tokens=limit) for limit in (3, 4)]
        assert [(each.tokens, each.stop_reason) for each in sequences] == [
            ([121, 101, 115], "length"),
            ([121, 101, 115, 258], "stop"),
        ]

    def test_a_function_answers_in_tokens(self):
        asked = []

        def answer(prompt, params):
            asked.append((prompt, params.max_tokens))
            return (9, 8, 7)

        sampler = ScriptedService(answers=answer).create_sampling_client(base_model="m").result()
        assert ask(sampler, "x", max_tokens=5).tokens == [9, 8, 7]
        assert asked == [([120], 5)]

    def test_without_a_script_a_trained_model_answers_and_stops(self):
        service = ScriptedService()
        client = client_of(service)
        for _ in range(30):
            client.forward_backward([datum((65, 66), (66, END), (1.0, 1.0))], "cross_entropy")
            client.optim_step(AdamParams(learning_rate=1e-3))
        sampler = client.save_weights_and_get_sampling_client().result()
        sequence = ask(sampler, "A")
        assert (sequence.tokens, sequence.stop_reason) == ([66, END], "stop")

    def test_text_stops_need_a_tokenizer_and_single_tokens(self):
        plain = ScriptedService().create_sampling_client(base_model="m").result()
        with pytest.raises(RequestRejectedError) as info:
            ask(plain, "x", stop="!")
        assert str(info.value) == ("a stop given as text needs a tokenizer: ScriptedService(tokenizer=ByteTokenizer())")
        sampler = ScriptedService(tokenizer=TOKENIZER).create_sampling_client(base_model="m").result()
        assert ask(sampler, "x", stop=["!"], max_tokens=2).stop_reason == "length"
        assert ask(sampler, "x", stop=None, max_tokens=2).stop_reason == "length"
        assert ask(plain, "x", stop=None, max_tokens=None).stop_reason == "length"
        with pytest.raises(RequestRejectedError) as info:
            ask(sampler, "x", stop="no")
        assert str(info.value) == "without scripted answers, a stop must be a single token; 'no' is 2 tokens"


class TestLosses:
    def test_a_scripted_loss_is_the_mean_of_every_token(self):
        service = ScriptedService(loss=lambda updates: 2.0 / (updates + 1))
        client = client_of(service)
        losses = []
        for _ in range(3):
            output = client.forward_backward([datum()], "cross_entropy").result()
            client.optim_step(AdamParams())
            losses.append(output.metrics["loss:sum"])
        assert losses == [4.0, 2.0, pytest.approx(4 / 3)]
        assert output.loss_fn_outputs[0]["logprobs"].tolist() == [np.float32(-2 / 3)] * 3
        sampler = client.save_weights_and_get_sampling_client().result()
        assert sampler.compute_logprobs(ModelInput.from_ints([1, 2, 3])).result() == [None, -0.5, -0.5]

    def test_a_loss_may_be_no_number(self):
        client = client_of(ScriptedService(loss=lambda _: float("nan")))
        assert np.isnan(client.forward([datum()], "cross_entropy").result().metrics["loss:sum"])

    def test_an_update_without_a_gradient_moves_on_by_momentum(self):
        client = trained(ScriptedService())
        losses = [client.forward([datum()], "cross_entropy").result().metrics["loss:sum"]]
        client.optim_step(AdamParams())
        losses.append(client.forward([datum()], "cross_entropy").result().metrics["loss:sum"])
        assert losses[1] < losses[0]


class TestFailures:
    @pytest.mark.parametrize("latency", [0.0, 1e-4])
    def test_the_nth_call_of_a_kind_fails_and_the_rest_runs(self, latency):
        error = EngineError("lost")
        service = ScriptedService(fail_on={"forward_backward": {2: error}}, latency=latency)
        client = client_of(service)
        futures = []
        for _ in range(3):
            futures.append(client.forward_backward([datum()], "cross_entropy"))
            client.optim_step(AdamParams(beta1=0.0, beta2=0.0))
        with pytest.raises(EngineError) as info:
            futures[1].result()
        assert info.value is error
        # The update behind the failed gradient found none, so nothing moved.
        first, third = futures[0].result(), futures[2].result()
        assert third.metrics["loss:sum"] < first.metrics["loss:sum"]
        assert client.forward([datum()], "cross_entropy").result().metrics["loss:sum"] < third.metrics["loss:sum"]
        assert [each.error for each in service.operations("forward_backward")] == [None, "EngineError: lost", None]
        assert len(service.operations("optim_step")) == 3
        service.close("success").result()

    def test_a_failed_creation_is_counted(self):
        service = ScriptedService(fail_on={"create_lora_training_client": {1: ModelNotFoundError("gone")}})
        with pytest.raises(ModelNotFoundError, match=r"^gone$"):
            client_of(service)
        assert client_of(service).model_id == "scripted:train:1"

    @pytest.mark.parametrize(
        ("fail_on", "message"),
        [
            (
                {"forward_backwards": {1: EngineError()}},
                (
                    "ScriptedService: fail_on has the unknown operation 'forward_backwards' "
                    f"(did you mean 'forward_backward'?); there are: {', '.join(KINDS)}"
                ),
            ),
            (
                {"forward": {0: EngineError()}},
                "ScriptedService: fail_on['forward'] counts calls from 1, got 0",
            ),
        ],
    )
    def test_a_failure_that_could_never_happen_is_refused(self, fail_on, message):
        with pytest.raises(ConfigError) as info:
            ScriptedService(fail_on=fail_on)
        assert str(info.value) == message


class TestSettings:
    @pytest.mark.parametrize("latency", [-1, float("nan"), True, "1"])
    def test_a_latency_that_is_none_is_refused(self, latency):
        with pytest.raises(ConfigError) as info:
            ScriptedService(latency=latency)
        assert str(info.value) == f"ScriptedService: latency must be a number of seconds ≥ 0, got {latency!r}"

    @pytest.mark.parametrize("name", ["answers", "base_answers"])
    def test_answers_in_text_need_a_tokenizer(self, name):
        with pytest.raises(ConfigError) as info:
            ScriptedService(**{name: {"x": "y"}})
        assert str(info.value) == (
            f"ScriptedService: {name} are text, so a tokenizer is needed; pass tokenizer=ByteTokenizer(), or the one "
            "that the prompts are made with"
        )

    def test_models_are_those_named(self):
        service = ScriptedService(models=["one", "two"])
        for create in (service.create_lora_training_client, lambda name: service.create_sampling_client(None, name)):
            assert create("two").result() is not None
            with pytest.raises(ModelNotFoundError) as info:
                create("twoo").result()
            assert str(info.value) == "there is no model 'twoo' (did you mean 'two'?); there are: 'one', 'two'"

    def test_alpha_is_refused_unless_supported(self):
        assert client_of(ScriptedService(supports_alpha=True), alpha=16.0).get_info().lora_rank == 32
        assert [ScriptedService(supports_alpha=value).supports_alpha for value in (True, False)] == [True, False]
        with pytest.raises(RequestRejectedError) as info:
            client_of(ScriptedService(), alpha=16.0)
        assert str(info.value) == ("alpha is not accepted: this ScriptedService was made with supports_alpha=False")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rank": 0}, "rank must be an integer ≥ 1, got 0"),
            (
                {"train_mlp": False, "train_attn": False, "train_unembed": False},
                "one of train_mlp, train_attn and train_unembed must be True",
            ),
        ],
    )
    def test_an_adapter_of_nothing_is_refused(self, options, message):
        with pytest.raises(RequestRejectedError) as info:
            client_of(ScriptedService(), **options)
        assert str(info.value) == message

    def test_seedless_clients_differ_from_each_other_and_agree_between_services(self):
        def losses():
            service = ScriptedService()
            return [
                client.forward([datum()], "cross_entropy").result().metrics["loss:sum"]
                for client in (trained(service), trained(service))
            ]

        assert losses() == losses()
        assert len(set(losses())) == 2

    def test_settings_of_the_loss_are_refused(self):
        with pytest.raises(RequestRejectedError) as info:
            client_of(ScriptedService()).forward([datum()], "cross_entropy", {"epsilon": 0.1})
        assert str(info.value) == ("forward: cross_entropy has no settings, got loss_fn_config={'epsilon': 0.1}")

    @pytest.mark.parametrize("latency", [0.0, 1e-4])
    def test_a_closed_service_takes_nothing_more(self, latency):
        service = ScriptedService(latency=latency)
        client = client_of(service)
        last = client.forward([datum()], "cross_entropy")
        assert service.close("interrupted").result() is None
        assert last.result().metrics["loss:sum"] > 0
        for call in (lambda: client.forward([datum()], "cross_entropy"), lambda: service.close("success")):
            with pytest.raises(EngineError, match=r": this ScriptedService is closed; make a new one$"):
                call()


class TestCheckpoints:
    def test_they_say_what_they_hold(self):
        service = ScriptedService()
        client = trained(service, 2)
        client.save_state("a", user_metadata={"step": "2"})
        client.save_weights_for_sampler("b")
        assert [
            (path, each.path, each.resumable, each.rank, each.model.updates, dict(each.user_metadata))
            for path, each in service.checkpoints.items()
        ] == [
            (*["tinker://scripted:train:0/weights/a"] * 2, True, 32, 2, {"step": "2"}),
            (*["tinker://scripted:train:0/sampler_weights/b"] * 2, False, 32, 2, {}),
        ]

    def test_the_optimizer_remembers_only_where_it_was_asked_to(self):
        service = ScriptedService()
        path = trained(service, 2).save_state("a").result().path
        kept = service.create_training_client_from_state_with_optimizer(path).result()
        fresh = service.create_training_client_from_state(path, base_model="m").result()
        for client, name in ((kept, "k"), (fresh, "f")):
            client.save_state(name).result()
        saved = list(service.checkpoints.values())[1:]
        assert [(each.model.updates, each.model.optimizer_steps) for each in saved] == [(2, 2), (2, 0)]

    @pytest.mark.parametrize("name", ["", "a/b"])
    def test_a_name_is_one_segment(self, name):
        with pytest.raises(RequestRejectedError) as info:
            client_of(ScriptedService()).save_state(name)
        assert str(info.value) == f"a checkpoint's name must be one non-empty segment without '/', got {name!r}"

    @pytest.mark.parametrize("seconds", [3599, 315360001])
    def test_a_time_to_live_has_bounds(self, seconds):
        client = client_of(ScriptedService())
        assert client.save_weights_for_sampler("ok", ttl_seconds=3600).result().path.endswith("/ok")
        with pytest.raises(RequestRejectedError) as info:
            client.save_weights_for_sampler("bad", ttl_seconds=seconds)
        assert str(info.value) == (
            f"ttl_seconds must be None or between 3600 (an hour) and 315360000 (ten years), got {seconds}"
        )

    def test_a_name_is_taken_once(self):
        client = client_of(ScriptedService())
        client.save_state("a").result()
        with pytest.raises(RequestRejectedError) as info:
            client.save_state("a").result()
        assert str(info.value) == (
            "there is a checkpoint 'tinker://scripted:train:0/weights/a' already; put the step into its name, "
            "or save a state with overwrite=True"
        )
        assert client.save_state("a", overwrite=True).result().path == "tinker://scripted:train:0/weights/a"

    def test_states_are_for_training_and_sampler_weights_for_sampling(self):
        service = ScriptedService()
        client = client_of(service)
        state, weights = client.save_state("a").result().path, client.save_weights_for_sampler("b").result().path
        with pytest.raises(CheckpointError) as info:
            service.create_training_client_from_state(weights).result()
        assert str(info.value) == (
            f"{weights!r} was written by save_weights_for_sampler and holds no optimizer state; "
            "training goes on from a save_state"
        )
        with pytest.raises(CheckpointError) as info:
            client.create_sampling_client(state).result()
        assert str(info.value) == (
            f"{state!r} was written by save_state; sampling needs weights from save_weights_for_sampler"
        )

    def test_an_unknown_path_lists_the_known_ones(self):
        service = ScriptedService()
        with pytest.raises(CheckpointError) as info:
            service.create_training_client_from_state("tinker://x").result()
        assert str(info.value) == "there is no checkpoint 'tinker://x'; saved so far: none"
        path = client_of(service).save_state("step-1").result().path
        with pytest.raises(CheckpointError) as info:
            service.create_training_client_from_state(path + "1").result()
        assert str(info.value) == (f"there is no checkpoint '{path}1' (did you mean {path!r}?); saved so far: {path!r}")

    def test_a_checkpoint_belongs_to_its_base_model(self):
        service = ScriptedService()
        path = client_of(service).save_state("a").result().path
        with pytest.raises(RequestRejectedError) as info:
            service.create_training_client_from_state(path, base_model="other").result()
        assert str(info.value) == f"the checkpoint {path!r} belongs to the base model 'm', not 'other'"


class TestRequests:
    def test_the_impossible_is_refused(self):
        sampler = ScriptedService().create_sampling_client(base_model="m").result()
        prompt = ModelInput.from_ints([1, 2, 3])
        messages = {
            "num_samples must be an integer ≥ 1, got 0": lambda: sampler.sample(prompt, 0, SamplingParams()),
            "max_tokens must be an integer ≥ 1, got 0": lambda: sampler.sample(prompt, 1, SamplingParams(max_tokens=0)),
            "the prompt must hold at least one token, got none": lambda: sampler.compute_logprobs(ModelInput.empty()),
            "prompt_logprobs_last_n must be between 1 and 2 for a prompt of 3 tokens, got 3": (
                lambda: sampler.compute_logprobs(prompt, 3)
            ),
        }
        for message, call in messages.items():
            with pytest.raises(RequestRejectedError) as info:
                call().result()
            assert str(info.value) == message
        with pytest.raises(RequestRejectedError) as info:
            ScriptedService().create_sampling_client()
        assert str(info.value) == "create_sampling_client needs a model_path or a base_model, got neither"

    def test_a_single_token_has_no_logprob(self):
        sampler = ScriptedService().create_sampling_client(base_model="m").result()
        assert sampler.compute_logprobs(ModelInput.from_ints([1])).result() == [None]
        assert sampler.get_base_model() == "m"
