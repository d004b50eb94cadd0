"""Continuous batching on the quick path: whatever shares a batch, a beginning or a layout, the answers are the same."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.model import base_model
from glowgenius.local.native import decode, plain_model, stream
from glowgenius.local.native.plain_model import Layout
from tests.support import local_engine
from tests.support.tiny_models import write_tiny_model

KINDS = ("llama", "mistral", "qwen2", "qwen3")
BEGINNING = tuple(range(40, 60))
PROMPTS = [
    (*BEGINNING, 7, 8, 9),
    (*BEGINNING, 7),
    (*BEGINNING, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90, 89),
    BEGINNING,
    (*BEGINNING, 7),
    (*BEGINNING, 99, 98, 97, 3),
    (*BEGINNING, 7, 8, 9, 10, 11),
]
"""One beginning, and beginnings within it; two are alike. Longer than the window of the tiny Mistral."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Untied models: tied, the tiny ones repeat their input with certainty, whatever they look at."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = write_tiny_model(tmp_path_factory.mktemp(kind), kind, tie_word_embeddings=False)
        return made[kind]

    return folder


@pytest.fixture
def model_of(folders):
    return lambda kind="llama", dtype=torch.float32: base_model(str(folders(kind)), "cpu", dtype)


def stirred(model):
    adapter = model.fresh_adapter(AdapterSpec(rank=3, alpha=6, seed=1))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in adapter.b.values():
            value.normal_(0.0, 0.3, generator=generator)
    return adapter


def requests(prompts=PROMPTS, *, lengths=(6, 9, 3, 12, 5, 8, 7), temperature=0.0):
    return local_engine.requests(prompts, lengths=lengths, temperature=temperature)


def generated(model, adapter, asked, **settings):
    return decode.generate(model, adapter, asked, **{"batch_size": 3, "decode": str, "max_tokens": 1024, **settings})


def assert_same(one, other):
    assert [row.tokens for row in one] == [row.tokens for row in other]
    for row, twin in zip(one, other, strict=True):
        assert row.logprobs == pytest.approx(twin.logprobs, rel=1e-4, abs=1e-5)


def through_transformers(monkeypatch, model, adapter, asked):
    with monkeypatch.context() as patch:
        patch.setattr(model, "llama", None)
        return generated(model, adapter, asked)


@pytest.fixture
def read(monkeypatch):
    """How many tokens went through the network in each pass, of prompts and of answers."""
    passes = []
    logits = stream.Reader._logits

    def counted(self, tokens, *arguments):
        passes.append(len(tokens))
        return logits(self, tokens, *arguments)

    monkeypatch.setattr(stream.Reader, "_logits", counted)
    return passes


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_sampled_as_through_transformers(model_of, monkeypatch, kind, copied):
    monkeypatch.setattr(decode, "_WORTH_A_COPY", 0 if copied else 10**9)
    model = model_of(kind)
    adapter = stirred(model)
    asked = requests()
    expected = through_transformers(monkeypatch, model, adapter, asked)
    assert_same(generated(model, adapter, asked), expected)
    [alone] = generated(model, adapter, asked[3:4])
    assert_same([alone], expected[3:4])
    assert [row.tokens for row in expected] != [row.tokens for row in generated(model, None, asked)]


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 64}, {"max_tokens": 1}, {"max_tokens": 9}])
def test_the_sizes_change_nothing(model_of, settings):
    model = model_of("mistral")
    asked = requests(temperature=1.5)
    assert_same(generated(model, None, asked, **settings), generated(model, None, asked))


def test_every_thread_has_a_batch_of_its_own_where_there_are_rows_enough(model_of, monkeypatch):
    monkeypatch.setattr(decode, "_EACH", 2)
    model = model_of()
    sizes = []
    start = stream.Stream.__init__
    monkeypatch.setattr(
        stream.Stream, "__init__", lambda self, *a, size, **k: (sizes.append(size), start(self, *a, size=size, **k))[1]
    )
    asked = requests()
    alone = generated(model, None, asked, batch_size=4)
    assert_same(generated(model, None, asked, batch_size=4, threads=2), alone)
    assert sizes == [4, 2, 2]


def test_fewer_sequences_are_side_by_side_where_they_may_become_long(model_of, monkeypatch, read):
    model = model_of()
    asked = requests([(number, number + 1) for number in range(10, 16)], lengths=(3,))
    generated(model, None, asked, batch_size=6)
    assert read == [12, 6, 6]
    read.clear()
    # Each is of 5 tokens at its end: two fit, and a third does not.
    monkeypatch.setattr(decode, "_MOST_CACHED", 14)
    generated(model, None, asked, batch_size=6)
    assert read == [4, 2, 2] * 3
    read.clear()
    monkeypatch.setattr(decode, "_MOST_CACHED", 4)
    generated(model, None, asked[:1], batch_size=6)
    assert read == [2, 1, 1]


def test_a_common_beginning_is_read_once_and_so_are_prompts_that_are_alike(model_of, read):
    generated(model_of(), None, requests([PROMPTS[0]] * 5 + [PROMPTS[2]], lengths=(1,)), batch_size=8)
    own = len(PROMPTS[0]) + len(PROMPTS[2]) - 2 * len(BEGINNING)
    assert read == [len(BEGINNING), own]


def test_what_the_last_call_read_is_not_read_again(model_of, read):
    model, memory = model_of(), decode.Memory()
    [answer] = generated(model, None, requests([PROMPTS[0]], lengths=(5,)), memory=memory)
    goes_on = (*PROMPTS[0], *answer.tokens, 3, 4)
    read.clear()
    [second] = generated(model, None, requests([goes_on], lengths=(2,)), memory=memory)
    # The last token of the answer was never read, since nothing was asked behind it.
    assert read == [3, 1]
    assert_same([second], generated(model, None, requests([goes_on], lengths=(2,))))
    several = generated(model, None, requests(), memory=memory)
    assert_same(several, generated(model, None, requests()))
    assert memory.beginning.tokens == BEGINNING[:-1]
    read.clear()
    generated(model, None, requests([PROMPTS[3]], lengths=(1,)), memory=memory)
    assert read == [1]


def test_who_waits_enters_as_soon_as_there_is_room(model_of, read):
    lengths = (2, 20, 2, 2, 2, 2)
    prompts = [(number, number + 1) for number in range(10, 16)]
    generated(model_of(), None, requests(prompts, lengths=lengths), batch_size=2)
    # The long answer takes 19 steps; the five short ones pass by in the other slot, one after another.
    assert read == [4, 2, *[2, 2] * 4, *[1] * 14]


def test_weights_are_laid_out_once_and_let_go_with_their_client(model_of, monkeypatch):
    monkeypatch.setattr(decode, "_WORTH_A_COPY", 40)
    model = model_of()
    made = []
    ready = type(model.llama).ready
    monkeypatch.setattr(
        type(model.llama), "ready", lambda self, adapter, how: (made.append(how), ready(self, adapter, how))[1]
    )
    memory = decode.Memory()
    ask = lambda prompts, memory=memory: generated(  # noqa: E731
        model, None, requests(prompts, lengths=(2,)), memory=memory
    )
    ask(PROMPTS[:1])
    assert made == []
    ask(PROMPTS[:1])
    ask(PROMPTS[:1])
    assert made == [Layout.ONE]
    ask(PROMPTS[:2])
    ask(PROMPTS[:1])
    assert made == [Layout.ONE, Layout.SEVERAL]
    held = weakref.ref(model._ready[memory][1])
    ask(PROMPTS, decode.Memory())
    gc.collect()
    assert held() is None
    assert len(made) == 3
    assert len(model._ready) == 0


@pytest.mark.parametrize("how", list(Layout))
@pytest.mark.parametrize("shape", [(48, 16), (16, 48)])
@pytest.mark.parametrize("biased", [False, True])
def test_every_layout_multiplies_the_same(how, shape, biased):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(shape, generator=generator), torch.randn(shape[0], generator=generator)
    product = plain_model.laid_out(weight, bias if biased else None, how)
    for rows in (1, 2, 33):
        x = torch.randn(rows, shape[1], generator=generator)
        expected = x.double() @ weight.double().t() + (bias if biased else 0)
        assert torch.allclose(product(x).double(), expected, atol=1e-5)


def test_without_onednn_the_weights_stay_as_they_are(monkeypatch):
    def refused(weight):
        raise RuntimeError("no such kernel")

    plain_model.blocks_work.cache_clear()
    monkeypatch.setattr(plain_model, "_blocks", refused)
    weight, x = torch.ones(4, 3), torch.ones(2, 3)
    assert torch.equal(plain_model.laid_out(weight, None, Layout.SEVERAL)(x), torch.full((2, 4), 3.0))
    plain_model.blocks_work.cache_clear()


def test_bfloat16_keeps_the_adapter_apart_and_is_near(model_of, monkeypatch):
    monkeypatch.setattr(decode, "_WORTH_A_COPY", 0)
    model = model_of("qwen3", torch.bfloat16)
    monkeypatch.setattr(model, "ready", None)
    asked = requests(lengths=(1,))
    single = model_of("qwen3")
    rows = [generated(m, stirred(m), asked) for m in (model, single)]
    near = np.array([row.logprobs for row in rows[0]])
    assert near == pytest.approx(np.array([row.logprobs for row in rows[1]]), abs=0.1)
