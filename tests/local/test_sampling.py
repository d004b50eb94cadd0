"""Sampling: the tokens of transformers, the distribution asked for, and stops where it was told to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glowgenius.engines.tinker_types import ModelInput, SamplingParams
from glowgenius.errors import RequestRejectedError
from glowgenius.local.loss import _top
from glowgenius.local.native.stream import Generated, Request, _draw
from glowgenius.testing.script import _next_token
from tests.support.local_engine import plain_logprobs, plain_model, stir
from tests.support.tiny_models import ARCHITECTURES, write_tiny_model

PREFIX = [40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51]
PROMPTS = [
    [*PREFIX, 7],
    [*PREFIX, 7, 8, 9, 10],
    [*PREFIX, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90, 89, 88],
    PREFIX,
    [*PREFIX, 7],
]
"""Different lengths, one beginning, two alike; longer than the window of the tiny Gemma."""


def ask(client, prompt, count=1, **settings):
    return client.sample(ModelInput.from_ints(prompt), count, SamplingParams(**settings))


def drawn(client, prompt, count=1, **settings):
    return ask(client, prompt, count, **settings).result(timeout=60).sequences


def generated(directory, prompt, count):
    """The greedy continuation by transformers."""
    model = plain_model(directory)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, eos_token_id=None
        )
    return output[0, len(prompt) :].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_tokens_are_those_of_transformers(service, tmp_path, architecture):
    # Tied, the tiny models repeat their input with certainty, whatever they may look at.
    folder = write_tiny_model(tmp_path, architecture, tie_word_embeddings=False)
    client = service.create_sampling_client(base_model=str(folder)).result()
    client.get_tokenizer()
    futures = [ask(client, prompt, max_tokens=20, temperature=0.0, stop=[]) for prompt in PROMPTS]
    together = [future.result(timeout=60).sequences[0] for future in futures]
    assert [one.tokens for one in together] == [generated(folder, prompt, 20) for prompt in PROMPTS]
    assert {one.stop_reason for one in together} == {"length"}
    assert len({tuple(one.tokens) for one in together}) == len(PROMPTS) - 1
    alone = [drawn(client, prompt, max_tokens=20, temperature=0.0, stop=[])[0] for prompt in PROMPTS]
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == pytest.approx(other.logprobs, rel=1e-3, abs=1e-4)
        assert min(one.logprobs) < -0.1
    assert len({one.sequence_id for one in together + alone}) == 2 * len(PROMPTS)


def test_the_size_of_a_batch_changes_no_token(make_service, tiny):
    answers = []
    for size in (1, 2, 32):
        service = make_service(sampling_batch_size=size)
        client = service.create_sampling_client(base_model=str(tiny())).result()
        futures = [ask(client, p, max_tokens=8 + i, temperature=0.9, seed=3, stop=[]) for i, p in enumerate(PROMPTS)]
        answers.append([future.result(timeout=60).sequences[0].tokens for future in futures])
    assert answers[0] == answers[1] == answers[2]
    assert [len(tokens) for tokens in answers[0]] == [8, 9, 10, 11, 12]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_logprobs_are_those_of_the_model_without_temperature(sample_on, tiny, architecture):
    client = sample_on(architecture)
    plain = plain_model(tiny(architecture))
    for temperature in (0.0, 0.7):
        [one] = drawn(client, PROMPTS[1], max_tokens=12, temperature=temperature, seed=1, stop=[])
        with torch.no_grad():
            expected = plain_logprobs(plain, [*PROMPTS[1], *one.tokens])
        start = len(PROMPTS[1]) - 1
        wanted = [float(expected[start + i, token]) for i, token in enumerate(one.tokens)]
        assert one.logprobs == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        assert one.logprobs_np.dtype == np.float32


def test_a_seed_makes_draws_repeatable_and_each_sample_has_its_own(sample_on):
    client = sample_on()
    settings = {"max_tokens": 16, "temperature": 30.0, "stop": []}  # the tiny model is very sure of itself
    three = [one.tokens for one in drawn(client, PREFIX, 3, seed=5, **settings)]
    assert [one.tokens for one in drawn(client, PREFIX, 3, seed=5, **settings)] == three
    assert drawn(client, PREFIX, seed=6, **settings)[0].tokens == three[1]
    assert len({tuple(tokens) for tokens in three}) == 3
    unseeded = [drawn(client, PREFIX, **settings)[0].tokens for _ in range(2)]
    assert unseeded[0] != unseeded[1]


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}, {"temperature": 1e-300}])
def test_the_narrowest_draw_is_greedy(sample_on, narrow):
    client = sample_on()
    [greedy] = drawn(client, PREFIX, max_tokens=10, temperature=0.0, stop=[])
    [draw] = drawn(client, PREFIX, **{"max_tokens": 10, "temperature": 2.0, "seed": 4, "stop": [], **narrow})
    assert draw.tokens == greedy.tokens


def test_draws_follow_the_distribution_asked_for():
    logits = torch.tensor([1.0, 3.0, 2.0, 0.5, 2.5, -4.0])
    cases = {
        (1.0, -1, 1.0): torch.softmax(logits, -1),
        (2.0, 3, 1.0): torch.softmax(torch.tensor([-torch.inf, 1.5, 1.0, -torch.inf, 1.25, -torch.inf]), -1),
        (1.0, 99, 1.0): torch.softmax(logits, -1),
    }
    # In order the probabilities are 0.43, 0.26, 0.16, …: 0.6 is reached by the second, which still belongs to it.
    nucleus = torch.zeros(6)
    nucleus[[1, 4]] = torch.softmax(logits, -1)[[1, 4]]
    cases[1.0, -1, 0.6] = nucleus / nucleus.sum()
    for (temperature, top_k, top_p), expected in cases.items():
        request = Request(
            prompt=(1,),
            max_tokens=1,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=0,
            stop_tokens=frozenset(),
            stop_texts=(),
        )
        row = Generated(request=request, generator=torch.Generator().manual_seed(0))
        counts = torch.bincount(torch.tensor([_draw(logits, row) for _ in range(4000)]), minlength=6)
        assert (counts / 4000).tolist() == pytest.approx(expected.tolist(), abs=0.03)
        assert (counts[expected == 0] == 0).all()


@pytest.mark.parametrize(
    ("logits", "k", "kept"),
    [
        ([1.0, 1.0, 1.0, 0.0], 2, {0, 1}),
        ([0.0, 1.0, 1.0, 1.0], 2, {1, 2}),
        ([1.0, 3.0, 1.0, 1.0, 2.0], 3, {0, 1, 4}),
        ([5.0, 5.0], 1, {0}),
        ([0.0] * 6, 5, {0, 1, 2, 3, 4}),
    ],
)
def test_of_equal_tokens_exactly_k_are_drawn_from_those_of_lowest_id_on_every_engine(logits, k, kept):
    settings = {"max_tokens": 1, "temperature": 1.0, "top_k": k, "top_p": 1.0, "seed": 0}
    request = Request(prompt=(1,), stop_tokens=frozenset(), stop_texts=(), **settings)
    row = Generated(request=request, generator=torch.Generator().manual_seed(0))
    assert {_draw(torch.tensor(logits), row) for _ in range(200)} == kept
    scripted, generator = np.array(logits), np.random.default_rng(0)
    assert {_next_token(scripted, SamplingParams(**settings), generator) for _ in range(200)} == kept


def test_the_likeliest_of_equal_tokens_are_those_of_lowest_id():
    ids, values = _top(torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 5.0, 2.0], [7.0, 8.0, 9.0, 6.0]]), 2)
    assert ids.tolist() == [[0, 1], [2, 1], [2, 1]]
    assert (values[:, 0] >= values[:, 1]).all()


def test_a_stop_token_ends_the_answer_and_belongs_to_it(sample_on):
    client = sample_on()
    tokens = drawn(client, PREFIX, max_tokens=12, temperature=0.0, stop=[])[0].tokens
    end = tokens.index(tokens[3]) + 1
    [stopped] = drawn(client, PREFIX, max_tokens=12, temperature=0.0, stop=[tokens[3]])
    assert (stopped.tokens, stopped.stop_reason, len(stopped.logprobs)) == (tokens[:end], "stop", end)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_stop_text_ends_the_answer_with_the_token_that_completes_it(sample_on, as_list):
    client = sample_on()
    tokenizer = client.get_tokenizer()
    for prompt in ([first] for first in range(3, 60)):
        tokens = drawn(client, prompt, max_tokens=10, temperature=0.0, stop=[])[0].tokens
        if tokenizer.decode(tokens[4:6]).isprintable() and tokenizer.decode(tokens[4:6]).isascii():
            break
    else:
        pytest.fail("no prompt is answered with two letters")
    text = tokenizer.decode(tokens[4:6])
    end = next(i for i in range(1, 11) if text in tokenizer.decode(tokens[:i]))
    [stopped] = drawn(client, prompt, max_tokens=10, temperature=0.0, stop=[text] if as_list else text)
    assert (stopped.tokens, stopped.stop_reason) == (tokens[:end], "stop")


def test_without_a_stop_the_end_token_ends_the_answer(sample_on):
    client = sample_on()
    settings = {"max_tokens": 200, "temperature": 100.0, "seed": 0}
    sequences = drawn(client, PREFIX, 40, **settings)
    ended = [one for one in sequences if one.stop_reason == "stop"]
    assert ended
    assert all(one.tokens[-1] == 2 and 2 not in one.tokens[:-1] for one in ended)
    unstopped = drawn(client, PREFIX, 40, stop=[], **settings)
    assert {one.stop_reason for one in unstopped} == {"length"}
    assert {len(one.tokens) for one in unstopped} == {200}
    for short, long in zip(sequences, unstopped, strict=True):
        assert long.tokens[: len(short.tokens)] == short.tokens


def test_answers_end_where_the_model_ends(sample_on):
    client = sample_on()
    room = drawn(client, [3] * 250, temperature=0.0, stop=[])
    assert [(len(one.tokens), one.stop_reason) for one in room] == [(6, "length")]
    [nothing] = drawn(client, [3] * 256, max_tokens=5, temperature=0.0, stop=[])
    assert (nothing.tokens, nothing.logprobs, nothing.stop_reason) == ([], [], "length")
    [none_asked] = drawn(client, [3, 4], max_tokens=0)
    assert (none_asked.tokens, none_asked.stop_reason) == ([], "length")


def test_different_settings_share_a_batch(sample_on):
    client = sample_on()
    greedy = {"max_tokens": 9, "temperature": 0.0, "stop": []}
    random = {"max_tokens": 4, "temperature": 1.0, "seed": 8, "stop": []}
    mixed = [ask(client, PREFIX, **settings) for settings in (greedy, random, greedy)]
    first, second, third = (future.result(timeout=60).sequences[0].tokens for future in mixed)
    assert first == third == drawn(client, PREFIX, **greedy)[0].tokens
    assert second == drawn(client, PREFIX, **random)[0].tokens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logprobs_of_a_prompt_are_those_of_a_plain_pass(sample_on, tiny, architecture):
    client = sample_on(architecture)
    plain = plain_model(tiny(architecture))
    futures = [client.compute_logprobs(ModelInput.from_ints(prompt)) for prompt in PROMPTS]
    for prompt, future in zip(PROMPTS, futures, strict=True):
        first, *rest = future.result(timeout=60)
        with torch.no_grad():
            expected = plain_logprobs(plain, prompt)
        assert first is None
        assert rest == pytest.approx([float(expected[i, t]) for i, t in enumerate(prompt[1:])], rel=1e-4, abs=1e-4)
        last = client.compute_logprobs(ModelInput.from_ints(prompt), prompt_logprobs_last_n=3).result()
        assert last[:-3] == [None] * (len(prompt) - 3)
        assert last[-3:] == pytest.approx(rest[-3:], rel=1e-4, abs=1e-4)


def test_one_token_has_no_logprob(sample_on):
    assert sample_on().compute_logprobs(ModelInput.from_ints([5])).result() == [None]


def test_a_snapshot_does_not_follow_the_training(train_on, service, tiny):
    client = train_on()
    prompt = ModelInput.from_ints(PREFIX)
    snapshot = client.save_weights_and_get_sampling_client().result()
    base = service.create_sampling_client(base_model=str(tiny())).result()
    before = snapshot.compute_logprobs(prompt).result()
    assert before == base.compute_logprobs(prompt).result()
    stir(client)
    assert snapshot.compute_logprobs(prompt).result() == before
    moved = client.save_weights_and_get_sampling_client().result()
    assert moved.compute_logprobs(prompt).result() != before
    assert moved.get_base_model() == str(tiny())


def refusals(directory):
    knows = f"{directory!r} knows 0 to 258. Was it encoded with another model's tokenizer?"
    return [
        (([], 1, {}), "the prompt must hold at least one token, got none"),
        (
            ([5, 259, 300], 1, {}),
            f"the prompt holds token id 259; {knows}",
        ),
        (
            ([5, -1], 1, {}),
            f"the prompt holds token id -1; {knows}",
        ),
        (([3] * 257, 1, {}), f"the prompt is 257 tokens long; {directory!r} was made for 256 at most"),
        (([5], 0, {"max_tokens": -1}), "num_samples must be 1 or more, got 0; max_tokens must be 0 or more, got -1"),
        (([5], 1, {"temperature": -0.5}), "temperature must be a finite number ≥ 0, got -0.5"),
        (([5], 1, {"temperature": float("nan")}), "temperature must be a finite number ≥ 0, got nan"),
        (([5], 1, {"temperature": float("inf")}), "temperature must be a finite number ≥ 0, got inf"),
        (([5], 1, {"top_k": -2}), "top_k must be 1 or more, or -1 for no limit, got -2"),
        (([5], 1, {"top_p": 0}), "top_p must be above 0 and at most 1, got 0.0"),
        (([5], 1, {"seed": -1}), "seed must be 0 or more, and below 2**63, got -1"),
        (([5], 2, {"seed": 2**63 - 1}), f"seed must be 0 or more, and below 2**63, got {2**63 - 1}"),
        (([5], 1, {"stop": ["a", ""]}), EMPTY_STOP),
    ]


EMPTY_STOP = "stop must not hold an empty text: every answer would end with its first token"


@pytest.mark.parametrize("case", range(13))
def test_what_cannot_be_sampled_is_refused_at_once(sample_on, tiny, case):
    (prompt, count, settings), message = refusals(str(tiny()))[case]
    with pytest.raises(RequestRejectedError) as caught:
        ask(sample_on(), prompt, count, **settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("last", [-1, 0, 3])
def test_logprobs_of_other_tokens_than_the_prompts_are_refused(sample_on, last):
    with pytest.raises(RequestRejectedError) as caught:
        sample_on().compute_logprobs(ModelInput.from_ints([5, 6, 7]), last)
    assert str(caught.value) == (
        f"prompt_logprobs_last_n must be between 1 and 2, the tokens of the prompt but the first, got {last}"
    )


def test_an_error_of_the_engine_reaches_every_request_of_the_batch(sample_on, monkeypatch):
    client = sample_on()

    def broken(*_, **__):
        raise RuntimeError("out of memory")

    from glowgenius.local import sampling

    monkeypatch.setattr(sampling, "generate", broken)
    monkeypatch.setattr(sampling, "score", broken)
    futures = [ask(client, PREFIX, max_tokens=2) for _ in range(2)]
    futures += [client.compute_logprobs(ModelInput.from_ints(PREFIX)) for _ in range(2)]
    for future in futures:
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(timeout=60)
    monkeypatch.undo()
    assert len(drawn(client, PREFIX, max_tokens=2, stop=[])[0].tokens) == 2


def test_a_prompt_that_is_not_text_is_refused(sample_on):
    from tinker.types import ImageChunk

    prompt = ModelInput(chunks=[ImageChunk(data=b"", format="png", expected_tokens=1)])
    with pytest.raises(RequestRejectedError) as caught:
        sample_on().compute_logprobs(prompt)
    assert str(caught.value) == "the prompt must hold text tokens only, got other chunks"


def test_requests_that_come_while_others_gather_join_their_batch(sample_on, monkeypatch):
    from glowgenius.local import sampling

    client, batches, late = sample_on(), [], []
    client.get_tokenizer()
    generate, sleep = sampling.generate, sampling.time.sleep

    def counted(model, adapter, requests, **settings):
        batches.append(len(requests))
        return generate(model, adapter, requests, **settings)

    def latecomer(seconds):
        if not late:
            late.append(ask(client, PREFIX, max_tokens=2, stop=[]))
        sleep(seconds)

    monkeypatch.setattr(sampling, "generate", counted)
    monkeypatch.setattr(sampling.time, "sleep", latecomer)
    ask(client, PREFIX, max_tokens=2, stop=[]).result(timeout=60)
    late[0].result(timeout=60)
    assert batches == [2]
