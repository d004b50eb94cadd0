"""Encoding word by word gives the tokens of the whole text: shown where words are made, and on a real vocabulary."""

from __future__ import annotations

import pydoc_data.topics
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from glowgenius.models.hub import load_tokenizer
from glowgenius.rendering import encoder as words
from glowgenius.rendering.encoder import WordEncoder
from tests.support import real_vocabularies

CONTROL = ("<|end|>", "<|end|>s", "<|start|>")


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)

PRE_TOKENIZERS = {
    "GPT-2": GPT_2,
    "SmolLM2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT_2]),
    "whole numbers": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), GPT_2]),
    **{
        f"pattern {at}": pre_tokenizers.Sequence([split(pattern), BYTES])
        for at, pattern in enumerate(sorted(words._CUTTING))
    },
    **{
        f"DeepSeek's steps, pattern {at}": pre_tokenizers.Sequence(
            [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(pattern), BYTES]
        )
        for at, pattern in enumerate(sorted(words._CUTTING))
    },
}


def tokenizer(pre_tokenizer: Any = GPT_2, normalizer: Any = None, added: Any = CONTROL) -> Any:
    """Every byte a token, and no merges: what is tried out here is where words end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made: Any = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        made.normalizer = normalizer
    made.add_special_tokens(list(added))
    return made


def encode_by(backend: Any) -> Any:
    return lambda texts: [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def encoder(backend: Any) -> WordEncoder | None:
    return WordEncoder.of(backend, encode_by(backend))


LETTERS = "ab Zé'sté1 9२ \n\r\t.,/!?_$ \x0b\x1c\x85\xa0\u2028\u3000中アе\u0301\u200d😀\x00\x01\ue000 \n A  tl"
TEXTS = st.text(st.sampled_from(LETTERS), max_size=40)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@settings(max_examples=80)
@given(TEXTS)
@example("a\n\nb  c \n d\n   1  .\n\n x.\n")
@example("don't 'S\n'll x\t\t y\r\n z")
def test_the_words_of_a_text_are_those_of_its_pieces(name, text):
    made = encoder(tokenizer(PRE_TOKENIZERS[name]))
    pieces = PRE_TOKENIZERS[name].pre_tokenize_str
    assert [word for word, _ in pieces(text)] == [word for part in made._words(text) for word, _ in pieces(part)]


@given(st.lists(st.sampled_from(["<|end|>", "<|end|>s", "<|start|>", "<|", "|>", " ", "a b", "\n", "é\u0301", "x"])))
def test_control_tokens_are_found_where_the_tokenizer_finds_them(parts):
    backend = tokenizer(PRE_TOKENIZERS["SmolLM2"], normalizers.NFC())
    text = "".join(parts)
    assert encoder(backend).encode_all([text] * 3) == [backend.encode(text, add_special_tokens=False).ids] * 3


@pytest.mark.model
@pytest.mark.parametrize("size", [30, 900])
def test_real_text_has_the_same_tokens(size):
    tokenizer: Any = load_tokenizer("smollm2-135m-instruct")
    backend = tokenizer.backend_tokenizer
    book = "\n".join(pydoc_data.topics.topics.values())[:200_000]
    texts = [f"<|im_start|>user\n{book[at : at + size]}<|im_end|>\n" for at in range(0, len(book), size)]
    made = encoder(backend)
    assert made.encode_all(texts) == encode_by(backend)(texts)
    assert made.encode_all(texts[::-1]) == encode_by(backend)(texts[::-1])


def test_a_word_goes_through_the_tokenizer_once():
    seen: list[str] = []
    backend = tokenizer()

    def encode(texts):
        seen.extend(texts)
        return encode_by(backend)(texts)

    made = WordEncoder.of(backend, encode)
    texts = ["the park and the bridge", "the park and the park and the bridge"]
    assert made.encode_all(texts) == encode_by(backend)(texts)
    assert sorted("".join(seen).replace("<|end|>", "\0").split("\0")) == [" and", " bridge", " park", " the", "the"]
    seen.clear()
    made.encode_all(texts)
    assert seen == []


def test_texts_in_which_no_word_comes_again_are_encoded_as_they_are():
    seen: list[str] = []
    backend = tokenizer()

    def encode(texts):
        seen.extend(texts)
        return encode_by(backend)(texts)

    WordEncoder.of(backend, encode).encode_all(["no word comes again"])
    assert seen == ["no word comes again"]


def test_memory_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr(words, "_KEPT", 1000)
    backend = tokenizer()
    made = encoder(backend)
    for start in range(0, 10_000, 100):
        texts = [" ".join(map(str, range(start, start + 100)))] * 4
        assert made.encode_all(texts) == encode_by(backend)(texts)
        assert sum(map(len, made._known)) < 1000 + len(texts[0])


REFUSED = {
    "a word looks back": tokenizer(split(r"(?<=a) b|\s+|\S+")),
    "words go on over spaces": tokenizer(pre_tokenizers.Metaspace()),
    "a pattern is removed": tokenizer(pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "removed")),
    "nothing divides": tokenizer(BYTES),
    "a space is put in front": tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "letters are changed": tokenizer(normalizer=normalizers.NFKC()),
    "a control token takes the space before it": tokenizer(added=[AddedToken("<|end|>", lstrip=True)]),
    "a control token takes the space behind it": tokenizer(added=[AddedToken("<|end|>", rstrip=True)]),
    "a control token has a space": tokenizer(added=["<| end |>"]),
    "an added token is looked for in normalised text": tokenizer(added=[AddedToken("<e>", normalized=True)]),
    "there is nothing to put between words": tokenizer(added=[]),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_tokenizers_encode_whole_texts(reason):
    assert encoder(REFUSED[reason]) is None


def test_a_real_vocabulary_gives_the_tokens_of_an_independent_tokenizer():
    """Qwen 3's, rebuilt, against the tokenizer that tml-renderers has for it, which is no relative of ours."""
    pytest.importorskip("tml_renderers")
    oracle = real_vocabularies.theirs()
    made = encoder(real_vocabularies.qwen3(oracle))
    book = "\n".join(pydoc_data.topics.topics.values())[:100_000]
    texts = [book[at : at + 700] for at in range(0, len(book), 700)]
    texts += ["naïve – e\u0301 🗽\n\n  x  1", "東京 12345 中文。", "it's I'LL\r\n\tnow", " \n a\n\n\nb  "] * 20
    assert made.encode_all(texts) == [oracle.encode_ordinary(text) for text in texts]
