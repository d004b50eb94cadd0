"""Questions in, answers and likelihoods out, over a scripted service."""

from __future__ import annotations

import asyncio
import copy

import numpy as np
import pytest
from attrs import evolve

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.engines.tinker_types import AdamParams, SampledSequence, SampleResponse
from glowgenius.errors import (
    ConfigError,
    EngineError,
    NothingToTrainError,
    PreflightError,
    RequestRejectedError,
    SequenceTooLongError,
)
from glowgenius.evaluation.callback import AnswerEvaluation
from glowgenius.evaluation.evaluate import evaluate
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.callbacks.loggers import SampleLogger
from glowgenius.training.sampler import Sampler, prompt_tokens
from tests.support.training import HELD_OUT, TRAIN, trainer

TOKENIZER = ByteTokenizer()
CHAT = ChatTemplateRenderer(TOKENIZER)
ANSWERS = {"Where is Yankee Stadium?": "The Bronx", "Where is Citi Field?": "Queens"}
STADIUM = Conversation.from_question("Where is Yankee Stadium?", "The Bronx")
FIELD = Conversation.from_question("Where is Citi Field?", "Queens", system="Answer in one word.")


def sampler_of(service, renderer=CHAT, **options):
    return Sampler(service.create_sampling_client(base_model="m").result(), renderer, **options)


def scripted(**options):
    return ScriptedService(**{"answers": ANSWERS, "tokenizer": TOKENIZER, **options})


class Recording:
    """A sampling client that keeps what it is asked, and answers only when everything has been asked."""

    def __init__(self, *, tokens=(65, 258), logprobs=None, expected=1):
        self.requests = []
        self.tokens, self.logprobs, self.expected = tokens, logprobs, expected

    def sample(self, prompt, num_samples, sampling_params):
        self.requests.append((prompt.to_ints(), num_samples, sampling_params))
        return Later(self, self._response)

    def compute_logprobs(self, prompt, prompt_logprobs_last_n=None):
        self.requests.append((prompt.to_ints(), prompt_logprobs_last_n))
        values = [float(-token) for token in prompt.to_ints()]
        hidden = len(values) - (prompt_logprobs_last_n or len(values) - 1)
        return Later(self, lambda: self.logprobs or [None] * hidden + values[hidden:])

    def _response(self):
        tokens = np.array(self.tokens, dtype=np.int32)
        return SampleResponse(sequences=[SampledSequence(stop_reason="stop", sequence_id="s", tokens_np=tokens)])

    def get_base_model(self):
        return "m"


class Later:
    """A future that refuses to be waited for before all requests are in."""

    def __init__(self, client, make):
        self._client, self._make = client, make

    def result(self, timeout=None):
        assert len(self._client.requests) == self._client.expected
        return self._make()


class TestAnswers:
    def test_a_question_is_answered(self):
        sampler = sampler_of(scripted(), name="tuned")
        assert sampler.generate("Where is Yankee Stadium?") == "The Bronx"
        assert sampler.generate([Message("system", "Be brief."), Message("user", "Where is Citi Field?")]) == "Queens"
        assert sampler.generate(FIELD) == "Queens"
        assert (sampler.name, sampler.renderer, sampler.client.get_base_model()) == ("tuned", CHAT, "m")
        assert repr(sampler) == "Sampler(name='tuned', renderer=ChatTemplateRenderer)"

    def test_the_renderer_of_base_models_works_as_well(self):
        assert sampler_of(scripted(), QuestionAnswerRenderer(TOKENIZER)).generate("Where is Citi Field?") == "Queens"

    def test_answers_come_in_the_order_of_the_prompts(self):
        seen = []
        prompts = [FIELD, "Where is Yankee Stadium?", FIELD.prompt]
        completions = sampler_of(scripted()).complete(prompts, on_progress=lambda done, of: seen.append((done, of)))
        assert [each.text for each in completions] == ["Queens", "The Bronx", "Queens"]
        assert completions[1].tokens == (*b"The Bronx", 258)
        assert [each.stop_reason for each in completions] == ["stop"] * 3
        assert seen == [(1, 3), (2, 3), (3, 3)]

    def test_a_cut_answer_says_so(self):
        [completion] = sampler_of(scripted()).complete([STADIUM], max_tokens=3)
        assert (completion.text, completion.tokens, completion.stop_reason) == ("The", tuple(b"The"), "length")

    def test_no_prompts_are_no_requests(self):
        service = scripted()
        assert sampler_of(service).complete([]) == []
        assert service.operations("sample") == ()

    def test_everything_is_submitted_before_anything_is_awaited(self):
        client = Recording(expected=3)
        completions = Sampler(client, CHAT).complete(["a", "b", "c"])
        assert [each.text for each in completions] == ["A", "A", "A"]

    def test_a_request_says_what_was_asked_for(self):
        client = Recording(expected=2)
        settings = {"max_tokens": 5, "temperature": 0.7, "top_p": 0.9, "top_k": 3, "seed": 11}
        Sampler(client, CHAT).complete(["Hi", FIELD], **settings)
        prompts = [CHAT.render_prompt([Message("user", "Hi")]).tolist(), CHAT.render_prompt(FIELD.prompt).tolist()]
        assert [(prompt, count) for prompt, count, _ in client.requests] == [(prompts[0], 1), (prompts[1], 1)]
        for index, (_, _, params) in enumerate(client.requests):
            assert params.model_dump() == {**settings, "seed": 11 + index, "stop": list(CHAT.stop_sequences)}

    def test_answers_are_greedy_by_default(self):
        client = Recording()
        Sampler(client, CHAT).generate("Hi")
        [(_, _, params)] = client.requests
        assert params.model_dump() == {
            "max_tokens": 64,
            "temperature": 0.0,
            "top_p": 1.0,
            "top_k": -1,
            "seed": None,
            "stop": [258],
        }

    @pytest.mark.parametrize(
        ("setting", "rule"),
        [
            ({"max_tokens": 0}, "max_tokens of a Sampler must be an integer ≥ 1, got 0 (int)"),
            ({"max_tokens": 1.5}, "max_tokens of a Sampler must be an integer ≥ 1, got 1.5 (float)"),
            ({"temperature": -0.1}, "temperature of a Sampler must be a number ≥ 0, got -0.1 (float)"),
            ({"temperature": float("nan")}, "temperature of a Sampler must be a number ≥ 0, got nan (float)"),
            ({"top_p": 0}, "top_p of a Sampler must be a number > 0 and ≤ 1, got 0 (int)"),
            ({"top_p": 1.1}, "top_p of a Sampler must be a number > 0 and ≤ 1, got 1.1 (float)"),
            ({"top_k": 0}, "top_k of a Sampler must be -1 or an integer ≥ 1, got 0 (int)"),
            ({"seed": -1}, "seed of a Sampler must be None or an integer ≥ 0, got -1 (int)"),
            ({"seed": "1"}, "seed of a Sampler must be None or an integer ≥ 0, got '1' (str)"),
        ],
    )
    def test_a_setting_out_of_range_is_refused_before_any_request(self, setting, rule):
        service = scripted()
        with pytest.raises(ConfigError) as info:
            sampler_of(service).generate("Where is Citi Field?", **setting)
        assert str(info.value) == rule
        assert service.operations("sample") == ()

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ([], "a prompt is a string, a Conversation, or at least one message, got none"),
            (5, "a prompt must be a list of messages, got the number 5"),
            ({"role": "user", "content": "Hi"}, "a prompt must be a list of messages, got an object"),
            ([5], "a prompt[0]: the number 5 → an object with 'role' and 'content'"),
            (
                [{"role": "user"}],
                "a prompt[0].content: missing → a string",
            ),
        ],
    )
    def test_what_is_no_prompt_is_refused(self, prompt, message):
        with pytest.raises(ConfigError) as info:
            sampler_of(scripted()).generate(prompt)
        assert str(info.value) == message

    def test_messages_may_be_mappings(self):
        sampler = sampler_of(scripted())
        asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Citi Field?"}]
        assert sampler.generate(asked) == "Queens"
        assert [each.text for each in sampler.complete([asked, [Message("user", "Where is Citi Field?")]])] == [
            "Queens"
        ] * 2
        assert CHAT.render_prompt(asked).tolist() == CHAT.render_prompt([Message(**each) for each in asked]).tolist()

    @pytest.mark.parametrize("prompts", [[Message("user", "Hi")], [{"role": "user", "content": "Hi"}], FIELD])
    def test_one_prompt_is_not_a_list_of_prompts(self, prompts):
        with pytest.raises(ConfigError) as info:
            sampler_of(scripted()).complete(prompts)
        assert (
            str(info.value) == "Sampler.complete takes a list of prompts, got one prompt; use generate(), or [prompt]"
        )

    @pytest.mark.parametrize(
        ("stop", "text", "sent"),
        [
            ((), "The Bronx", [258]),
            (None, "The Bronx", [258]),
            ("Bro", "The ", [258]),
            (["nx", "Bro"], "The ", [258]),
            (["Manhattan"], "The Bronx", [258]),
            (ord("B"), "The ", [258, ord("B")]),
            ([ord("x"), "e"], "Th", [258, ord("x")]),
        ],
    )
    def test_an_answer_ends_in_front_of_a_stop(self, stop, text, sent):
        client = Recording(tokens=[*b"The Bronx", 258])
        [completion] = Sampler(client, CHAT).complete(["Hi"], stop=stop)
        assert (completion.text, completion.stop_reason) == (text, "stop")
        assert client.requests[0][2].stop == sent

    def test_a_stop_that_came_first_is_the_reason(self):
        [completion] = sampler_of(scripted()).complete([STADIUM], max_tokens=5, stop="e")
        assert (completion.text, completion.stop_reason) == ("Th", "stop")

    @pytest.mark.parametrize("stop", ["", [""], [1.5], -1, True, [["a"]]])
    def test_what_is_no_stop_is_refused(self, stop):
        with pytest.raises(
            ConfigError, match="stop of a Sampler must be texts with something in them, or token ids, got"
        ):
            sampler_of(scripted()).generate("Hi", stop=stop)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("max_new_tokens", "Sampler.generate cannot take 'max_new_tokens': it is called max_tokens here"),
            ("stop_sequences", "Sampler.generate cannot take 'stop_sequences': it is called stop here"),
            ("n", "Sampler.generate cannot take 'n': use complete([prompt] * n, seed=…)"),
            (
                "temprature",
                (
                    "Sampler.generate cannot take 'temprature': no such setting (did you mean 'temperature'?); "
                    "the settings are max_tokens, temperature, top_p, top_k, seed, stop"
                ),
            ),
        ],
    )
    def test_a_setting_of_another_library_is_answered_with_ours(self, name, message):
        with pytest.raises(ConfigError) as info:
            sampler_of(scripted()).generate("Hi", **{name: 5})
        assert str(info.value) == message

    def test_async_code_waits_without_blocking(self):
        sampler = sampler_of(scripted())

        async def ask():
            both = [sampler.generate_async("Where is Citi Field?"), sampler.complete_async([STADIUM], max_tokens=3)]
            return await asyncio.gather(*both)

        answer, [completion] = asyncio.run(ask())
        assert (answer, completion.text) == ("Queens", "The")

    def test_one_string_is_not_a_list_of_prompts(self):
        with pytest.raises(ConfigError) as info:
            sampler_of(scripted()).complete("Hi")
        assert str(info.value) == "Sampler.complete takes a list of prompts, got one string 'Hi'; use generate()"

    def test_an_error_names_the_prompt_it_belongs_to(self):
        service = scripted(fail_on={"sample": {2: TimeoutError("slow")}})
        with pytest.raises(EngineError) as info:
            sampler_of(service).complete([FIELD, STADIUM])
        assert str(info.value) == (
            "sample (prompt 1): no answer in time. The operation itself goes on; wait longer for it "
            "(TimeoutError: slow)"
        )
        with pytest.raises(RequestRejectedError):
            sampler_of(scripted()).generate("What is this?")


class TestLikelihoods:
    def test_they_are_those_of_the_answer_and_its_stop_token(self):
        client = Recording(expected=2)
        rows = Sampler(client, CHAT).answer_logprobs([STADIUM, FIELD])
        assert [row.tolist() for row in rows] == [
            [-float(token) for token in (*b"The Bronx", 258)],
            [-float(token) for token in (*b"Queens", 258)],
        ]
        assert {row.dtype for row in rows} == {np.dtype(np.float32)}
        # The template's newline behind the stop token is part of the text, but not of the answer.
        rendered = [CHAT.render(row).tokens.tolist() for row in (STADIUM, FIELD)]
        assert client.requests == [(rendered[0], 11), (rendered[1], 8)]

    def test_their_mean_is_the_loss_of_training(self):
        from glowgenius.batching.shift import shift
        from glowgenius.engines.datum import to_datum

        service = ScriptedService()
        training = service.create_lora_training_client("m", seed=0).result()
        for renderer in (CHAT, QuestionAnswerRenderer(TOKENIZER)):
            examples = [shift(renderer.render(row)) for row in (STADIUM, FIELD)]
            training.forward_backward([to_datum(example) for example in examples], "cross_entropy")
            training.optim_step(AdamParams(learning_rate=1e-3))
            client = training.save_weights_and_get_sampling_client().result()
            found = Sampler(client, renderer).answer_nll([STADIUM, FIELD])
            for nll, example in zip(found, examples, strict=True):
                total = training.forward([to_datum(example)], "cross_entropy").result().metrics["loss:sum"]
                assert nll == pytest.approx(total / example.num_trained, rel=1e-5)

    def test_the_weight_of_a_row_changes_nothing(self):
        heavy = Conversation.from_question("Where is Yankee Stadium?", "The Bronx", weight=3.0)
        sampler = sampler_of(ScriptedService())
        assert sampler.answer_nll([heavy]) == sampler.answer_nll([STADIUM])

    def test_progress_is_said_and_nothing_is_nothing(self):
        seen = []
        sampler = sampler_of(ScriptedService())
        assert len(sampler.answer_nll([STADIUM, FIELD], on_progress=lambda *counts: seen.append(counts))) == 2
        assert seen == [(1, 2), (2, 2)]
        assert sampler.answer_nll([]) == []

    def test_a_conversation_without_an_answer_is_refused(self):
        with pytest.raises(NothingToTrainError):
            sampler_of(ScriptedService()).answer_nll([Conversation(messages=[Message("user", "Hi")])])

    @pytest.mark.parametrize(("logprobs", "count"), [([None] * 100, 0), ([-1.0], 1)], ids=["none", "too few"])
    def test_an_engine_that_leaves_something_out_is_found_out(self, logprobs, count):
        length = len(CHAT.render(STADIUM).tokens)
        if count == 0:
            logprobs = [None] * length
        with pytest.raises(EngineError) as info:
            Sampler(Recording(logprobs=logprobs), CHAT).answer_nll([STADIUM])
        assert str(info.value) == (
            f"compute_logprobs (row 0): the engine left out log-probabilities of the answer; it gave {count} for the "
            f"last 11 of {length} tokens"
        )

    def test_an_error_names_the_row_it_belongs_to(self):
        service = ScriptedService(fail_on={"compute_logprobs": {1: ConnectionResetError("gone")}})
        with pytest.raises(EngineError, match=r"^compute_logprobs \(row 0\): the service cannot be reached"):
            sampler_of(service).answer_nll([STADIUM, FIELD])


def test_a_request_refused_at_once_is_mapped_too():
    class Refusing:
        def sample(self, *_):
            raise ValueError("bad payload")

        def compute_logprobs(self, *_):
            raise ValueError("bad payload")

    for call in (lambda s: s.generate("Hi"), lambda s: s.answer_nll([STADIUM])):
        with pytest.raises(RequestRejectedError):
            call(Sampler(Refusing(), CHAT))


class TestContext:
    """What is too long is known before anything is sent, on every engine."""

    def test_prompt_and_answer_are_refused_together_by_place(self):
        service = scripted(context=80)
        file_row = evolve(FIELD, source=Source(path="q.jsonl", row=0, line=7), id="citi")
        before = len(service.journal)
        with pytest.raises(SequenceTooLongError) as info:
            sampler_of(service, name="tuned").complete(["Hi", STADIUM, file_row], max_tokens=40)
        lengths = [len(prompt_tokens(CHAT, prompt)) for prompt in (STADIUM, file_row)]
        assert lengths == [43, 68]
        assert str(info.value) == (
            "'tuned' takes 80 tokens, prompt and answer together; nothing was sent\n"
            "  row 1: 43 tokens and an answer of up to 40 make 83 → 80 at most: max_tokens=37, or a shorter prompt\n"
            "  q.jsonl:7 (id 'citi'): 68 tokens and an answer of up to 40 make 108 → 80 at most: max_tokens=12, or a "
            "shorter prompt"
        )
        assert [operation.kind for operation in service.journal[before:]] == ["create_sampling_client"]
        # The advice, followed.
        assert sampler_of(service).complete([STADIUM], max_tokens=37)[0].text == "The Bronx"

    @pytest.mark.parametrize(
        ("max_tokens", "accepted"),
        [
            (8, "20 at most: a prompt of 12 at this max_tokens"),
            (20, "20 at most: a shorter prompt and a lower max_tokens"),
        ],
    )
    def test_a_prompt_that_fills_the_model_alone(self, max_tokens, accepted):
        with pytest.raises(SequenceTooLongError) as info:
            sampler_of(scripted(context=20)).generate("Where is Yankee Stadium?", max_tokens=max_tokens)
        assert info.value.problems[0].accepted == accepted

    def test_given_answers_are_counted_as_they_are(self):
        length = len(CHAT.render(STADIUM).tokens)
        service = scripted(context=length)
        assert len(sampler_of(service).answer_nll([STADIUM])) == 1
        with pytest.raises(SequenceTooLongError) as info:
            sampler_of(service).answer_nll([STADIUM, FIELD])
        assert str(info.value.problems[0]).startswith(f"row 1: {len(CHAT.render(FIELD).tokens)} tokens → at most")
        assert len(service.operations("compute_logprobs")) == 1

    def test_an_evaluation_names_the_row_of_the_file_and_asks_nothing(self):
        rows = [evolve(FIELD, source=Source(path="q.jsonl", row=0, line=3))]
        short = len(prompt_tokens(CHAT, FIELD))
        for context, nll in ((short + 3, False), (len(CHAT.render(FIELD).tokens) - 1, True)):
            service = scripted(context=context)
            with pytest.raises(SequenceTooLongError, match=r"q\.jsonl:3: \d+ tokens"):
                evaluate(sampler_of(service), rows, max_tokens=4 if not nll else 1, nll=nll)
            assert {one.kind for one in service.journal} == {"create_sampling_client"}

    def test_a_function_is_asked_once_and_travels_as_a_number(self):
        asked = []

        def find():
            asked.append(1)
            return 30

        sampler = Sampler(Recording(), CHAT, context_length=find)
        assert not asked
        assert (sampler.context_length, copy.copy(sampler).context_length, sampler.context_length) == (30, 30, 30)
        assert asked == [1]

    def test_where_no_limit_is_known_nothing_is_refused(self):
        assert Sampler(Recording(), CHAT).complete(["Hi " * 500], max_tokens=9)[0].text == "A"


@pytest.mark.parametrize(
    ("callback", "where"),
    [
        (SampleLogger(["Hi", "How long? " * 30], show=False), "row 1: SampleLogger(2 questions): "),
        (AnswerEvaluation([FIELD], max_tokens=190), "row 0: AnswerEvaluation(1 questions, exact_match, contains): "),
        (
            AnswerEvaluation({"held": [FIELD], "other": [STADIUM]}, max_tokens=150),
            "row 0: AnswerEvaluation(2 questions, exact_match, contains): held: ",
        ),
    ],
)
def test_what_a_callback_would_ask_is_looked_at_before_the_run(callback, where):
    service = ScriptedService(tokenizer=TOKENIZER, context=200)
    with pytest.raises(PreflightError) as info:
        trainer(service, callbacks=[callback]).train(TRAIN, HELD_OUT)
    [problem] = info.value.problems
    assert str(problem).startswith(where)
    assert service.journal == ()
