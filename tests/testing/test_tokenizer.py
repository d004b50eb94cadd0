"""The tokenizer of bytes."""

# ruff: noqa: S106 - a token of a tokenizer is no password

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.errors import ConfigError
from glowgenius.testing import ByteTokenizer
from glowgenius.testing.byte_tokenizer import CHATML_TEMPLATE
from tests.support.chat_tokenizers import LLAMA3

if TYPE_CHECKING:
    from glowgenius.models.tokenizer import Tokenizer

texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts}), min_size=1
)


@given(texts)
def test_a_text_is_its_bytes_and_comes_back(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_have_ids_of_their_own_and_the_longest_is_found():
    tokenizer = ByteTokenizer(special_tokens=("<a", "<ab>", "<|im_end|>"))
    assert tokenizer.encode("x<ab><a<|im_end|>") == [120, 257, 256, 258]
    assert tokenizer.decode([120, 257, 256]) == "x<ab><a"
    assert tokenizer.decode([120, 257, 256], skip_special_tokens=True) == "x"
    assert tokenizer.convert_ids_to_tokens([120, 257]) == ["<0x78>", "<ab>"]
    assert tokenizer.convert_tokens_to_ids("<ab>") == 257
    assert tokenizer.convert_tokens_to_ids("<0x78>") == 120
    assert tokenizer.convert_tokens_to_ids("nothing") is None
    assert len(tokenizer) == len(tokenizer.get_vocab()) == 259
    assert tokenizer.get_added_vocab() == {"<a": 256, "<ab>": 257, "<|im_end|>": 258}
    assert (tokenizer.all_special_tokens, tokenizer.all_special_ids) == (["<a", "<ab>", "<|im_end|>"], [256, 257, 258])


def test_half_a_letter_is_shown_as_such():
    assert ByteTokenizer().decode([0xC3]) == "\N{REPLACEMENT CHARACTER}"


def test_bos_and_eos():
    tokenizer = ByteTokenizer(bos_token="<|im_start|>", add_bos_token=True)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (257, 258)
    assert tokenizer.encode("a") == [257, 97]
    assert tokenizer.encode("a", add_special_tokens=False) == [97]
    bare = ByteTokenizer(special_tokens=(), eos_token=None)
    assert (bare.bos_token_id, bare.eos_token_id, bare.encode("<|im_end|>")) == (None, None, list(b"<|im_end|>"))


@given(messages, st.booleans())
def test_chatml_without_jinja_is_chatml_with_jinja(conversation, prompt):
    plain = ByteTokenizer()
    jinja = ByteTokenizer(chat_template=CHATML_TEMPLATE + "{# the same, but not recognised #}")
    text = plain.apply_chat_template(conversation, tokenize=False, add_generation_prompt=prompt)
    assert text == jinja.apply_chat_template(conversation, tokenize=False, add_generation_prompt=prompt)
    assert plain.apply_chat_template(conversation, add_generation_prompt=prompt) == plain.encode(text)


def test_another_template():
    tokenizer: Tokenizer = ByteTokenizer(
        chat_template=LLAMA3,
        special_tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
    )
    text = tokenizer.apply_chat_template([{"role": "user", "content": " a "}], tokenize=False)
    assert text == "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"


def test_a_template_can_refuse():
    tokenizer = ByteTokenizer(chat_template="{{ raise_exception('no system') }}")
    with pytest.raises(ValueError, match="no system"):
        tokenizer.apply_chat_template([{"role": "user", "content": ""}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"special_tokens": ("a", "a")}, "special_tokens must be distinct and not empty, got ['a', 'a']"),
        ({"special_tokens": ("", "a")}, "special_tokens must be distinct and not empty, got ['', 'a']"),
        ({"special_tokens": ("a",)}, "eos_token must be None or one of ['a'], got '<|im_end|>'"),
        (
            {"bos_token": "<s>"},
            "bos_token must be None or one of ['<|endoftext|>', '<|im_start|>', '<|im_end|>'], got '<s>'",
        ),
        ({"add_bos_token": True}, "add_bos_token=True needs a bos_token"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError) as caught:
        ByteTokenizer(**settings)
    assert str(caught.value) == message


def test_what_it_cannot_do_it_says():
    with pytest.raises(ConfigError) as caught:
        ByteTokenizer().apply_chat_template([], return_dict=True, return_assistant_tokens_mask=True)
    assert (
        str(caught.value) == "ByteTokenizer.apply_chat_template does not know return_assistant_tokens_mask, return_dict"
    )
    with pytest.raises(ConfigError) as caught:
        ByteTokenizer(chat_template=None).apply_chat_template([])
    assert str(caught.value) == "this ByteTokenizer has no chat template; build it with chat_template="
    with pytest.raises(ConfigError) as caught:
        ByteTokenizer().decode([259])
    assert str(caught.value) == "token ids are 0 … 258, got 259"
