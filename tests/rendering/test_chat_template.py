"""Chat templates: every token is the tokenizer's own, and whole masks are written out."""

from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.rendering import ChatTemplateRenderer, TrainOn
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import (
    CHATML,
    FAMILIES,
    MARKED,
    MARKED_WITH_NEWLINE,
    THINKING,
    bpe_tokenizer,
    family_tokenizer,
    reference_tokens,
)

TWO_TURNS = (
    Message("user", "In which borough is it?"),
    Message("assistant", "The Bronx."),
    Message("user", "And the café?\n"),
    Message("assistant", "a  b"),
)


def runs(renderer, messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE, weight=1.0):
    """The example as text, cut where the weight changes; checked on the way to have the tokenizer's own tokens."""
    example = renderer.render(Conversation(messages=messages, weight=weight), train_on)
    if not isinstance(renderer.tokenizer, ByteTokenizer):
        assert example.tokens.tolist() == reference_tokens(renderer.tokenizer, messages)
    pieces = []
    for token, loss in zip(example.tokens.tolist(), example.weights.tolist(), strict=True):
        if not pieces or pieces[-1][1] != loss:
            pieces.append(([], loss))
        pieces[-1][0].append(token)
    return [(renderer.tokenizer.decode(tokens), loss) for tokens, loss in pieces]


SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

LAST = {
    "chatml": [
        (
            (
                f"{SYSTEM}<|im_start|>user\nIn which borough is it?<|im_end|>\n"
                "<|im_start|>assistant\nThe Bronx.<|im_end|>\n"
                "<|im_start|>user\nAnd the café?\n<|im_end|>\n<|im_start|>assistant\n"
            ),
            0,
        ),
        ("a  b<|im_end|>", 1),
        ("\n", 0),
    ],
    "llama3": [
        (
            (
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nIn which borough is it?<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nThe Bronx.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nAnd the café?<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
            0,
        ),
        ("a  b<|eot_id|>", 1),
    ],
    "gemma": [
        (
            (
                "<bos><start_of_turn>user\nIn which borough is it?<end_of_turn>\n"
                "<start_of_turn>model\nThe Bronx.<end_of_turn>\n"
                "<start_of_turn>user\nAnd the café?<end_of_turn>\n<start_of_turn>model\n"
            ),
            0,
        ),
        ("a  b<end_of_turn>", 1),
        ("\n", 0),
    ],
    "mistral": [
        ("<s>[INST] In which borough is it? [/INST] The Bronx. </s>[INST] And the café?\n [/INST]", 0),
        (" a  b </s>", 1),
    ],
    "thinking": [
        (
            (
                "<|im_start|>user\nIn which borough is it?<|im_end|>\n<|im_start|>assistant\nThe Bronx.<|im_end|>\n"
                "<|im_start|>user\nAnd the café?\n<|im_end|>\n<|im_start|>assistant\n"
            ),
            0,
        ),
        ("<think>\n\n</think>\n\na  b<|im_end|>", 1),
        ("\n", 0),
    ],
    "marked": [
        (
            (
                "<|im_start|>user\nIn which borough is it?<|im_end|>\n<|im_start|>assistant\nThe Bronx.<|im_end|>\n"
                "<|im_start|>user\nAnd the café?\n<|im_end|>\n<|im_start|>assistant\n"
            ),
            0,
        ),
        ("a  b<|im_end|>", 1),
        ("\n", 0),
    ],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_answer_and_its_stop_token_are_trained_and_nothing_else(family):
    assert runs(ChatTemplateRenderer(family_tokenizer(family)), TWO_TURNS) == LAST[family]


ALL_OF_CHATML = {
    TrainOn.LAST_ASSISTANT_MESSAGE: LAST["chatml"],
    TrainOn.LAST_ASSISTANT_TURN: LAST["chatml"],
    TrainOn.ALL_ASSISTANT_MESSAGES: [
        (f"{SYSTEM}<|im_start|>user\nIn which borough is it?<|im_end|>\n<|im_start|>assistant\n", 0),
        ("The Bronx.<|im_end|>", 1),
        ("\n<|im_start|>user\nAnd the café?\n<|im_end|>\n<|im_start|>assistant\n", 0),
        ("a  b<|im_end|>", 1),
        ("\n", 0),
    ],
    TrainOn.ALL_MESSAGES: [
        (f"{SYSTEM}<|im_start|>user\n", 0),
        ("In which borough is it?<|im_end|>", 1),
        ("\n<|im_start|>assistant\n", 0),
        ("The Bronx.<|im_end|>", 1),
        ("\n<|im_start|>user\n", 0),
        ("And the café?\n<|im_end|>", 1),
        ("\n<|im_start|>assistant\n", 0),
        ("a  b<|im_end|>", 1),
        ("\n", 0),
    ],
    TrainOn.ALL_TOKENS: [
        ("<|im_start|>", 0),
        (
            (
                f"{SYSTEM.removeprefix('<|im_start|>')}<|im_start|>user\nIn which borough is it?<|im_end|>\n"
                "<|im_start|>assistant\nThe Bronx.<|im_end|>\n<|im_start|>user\nAnd the café?\n<|im_end|>\n"
                "<|im_start|>assistant\na  b<|im_end|>\n"
            ),
            1,
        ),
    ],
    TrainOn.ALL_USER_AND_SYSTEM_MESSAGES: [
        (f"{SYSTEM}<|im_start|>user\n", 0),
        ("In which borough is it?<|im_end|>", 1),
        ("\n<|im_start|>assistant\nThe Bronx.<|im_end|>\n<|im_start|>user\n", 0),
        ("And the café?\n<|im_end|>", 1),
        ("\n<|im_start|>assistant\na  b<|im_end|>\n", 0),
    ],
}


@pytest.mark.parametrize("train_on", ALL_OF_CHATML)
def test_each_value_of_train_on(train_on):
    assert runs(ChatTemplateRenderer(family_tokenizer("chatml")), TWO_TURNS, train_on) == ALL_OF_CHATML[train_on]


def test_customized_trains_what_has_a_weight_and_weights_multiply():
    messages = [
        Message("user", "one", weight=0.5),
        Message("assistant", "two", weight=0.0),
        Message("user", "three"),
        Message("assistant", "four", weight=2.0),
    ]
    renderer = ChatTemplateRenderer(ByteTokenizer())
    assert runs(renderer, messages, TrainOn.CUSTOMIZED, weight=0.5) == [
        ("<|im_start|>user\n", 0),
        ("one<|im_end|>", 0.25),
        ("\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n", 0),
        ("four<|im_end|>", 1.0),
        ("\n", 0),
    ]
    assert runs(renderer, messages, TrainOn.ALL_ASSISTANT_MESSAGES)[-2:] == [("four<|im_end|>", 2), ("\n", 0)]


def test_all_tokens_with_different_weights_divides_at_the_messages():
    messages = [Message("user", "one"), Message("assistant", "two", weight=0.5), Message("user", "three", weight=0.0)]
    assert runs(ChatTemplateRenderer(ByteTokenizer()), messages, TrainOn.ALL_TOKENS) == [
        ("<|im_start|>", 0),
        ("user\none<|im_end|>\n", 1),
        ("<|im_start|>assistant\ntwo<|im_end|>\n", 0.5),
        ("<|im_start|>user\nthree<|im_end|>\n", 0),
    ]


def test_the_last_turn_of_an_assistant_has_several_messages():
    messages = [
        Message("user", "one"),
        Message("assistant", "two"),
        Message("user", "three"),
        Message("assistant", "four"),
        Message("tool", "five"),
        Message("assistant", "six"),
    ]
    before = "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages[:3])
    assert runs(ChatTemplateRenderer(ByteTokenizer()), messages, TrainOn.LAST_ASSISTANT_TURN) == [
        (f"{before}<|im_start|>assistant\n", 0),
        ("four<|im_end|>", 1),
        ("\n<|im_start|>tool\nfive<|im_end|>\n<|im_start|>assistant\n", 0),
        ("six<|im_end|>", 1),
        ("\n", 0),
    ]


@pytest.mark.parametrize("family", ["llama3", "gemma", "mistral"])
def test_there_is_one_bos_at_most(family):
    tokenizer = family_tokenizer(family)
    renderer = ChatTemplateRenderer(tokenizer)
    example = renderer.render(Conversation(messages=TWO_TURNS))
    assert example.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert renderer.render_prompt(TWO_TURNS[:1]).tolist().count(tokenizer.bos_token_id) == 1


def test_reasoning_is_trained_where_the_template_writes_it_and_read_back():
    renderer = ChatTemplateRenderer(family_tokenizer("thinking"))
    answer = Message("assistant", "Queens.", reasoning_content="Not the Bronx.")
    messages = [Message("user", "Where?"), answer]
    assert runs(renderer, messages) == [
        ("<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n", 0),
        ("<think>\nNot the Bronx.\n</think>\n\nQueens.<|im_end|>", 1),
        ("\n", 0),
    ]
    example = renderer.render(Conversation(messages=messages))
    assert renderer.parse(example.tokens[example.weights > 0]) == answer


def test_tool_calls_are_trained_as_the_template_writes_them():
    written = "{% for call in message['tool_calls'] %}{{ '<tool>' + call['function'] | tojson }}{% endfor %}"
    template = CHATML.replace(
        "message['content'] + '<|im_end|>' + '\n' }}", f"message['content'] }}}}{written}{{{{ '<|im_end|>\n' }}}}"
    )
    call = {"function": {"name": "find", "arguments": {"place": "Citi Field", "zoom": 3}}}
    messages = [
        Message("user", "Where?"),
        Message("assistant", "", tool_calls=[call]),
        Message("tool", "Queens", tool_call_id="1", name="find"),
        Message("assistant", "In Queens."),
    ]
    assert runs(ChatTemplateRenderer(bpe_tokenizer(template)), messages, TrainOn.LAST_ASSISTANT_TURN) == [
        (f"{SYSTEM}<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n", 0),
        ('<tool>{"name": "find", "arguments": {"place": "Citi Field", "zoom": 3}}<|im_end|>', 1),
        ("\n<|im_start|>tool\nQueens<|im_end|>\n<|im_start|>assistant\n", 0),
        ("In Queens.<|im_end|>", 1),
        ("\n", 0),
    ]


def test_a_thought_that_was_not_finished_stays_text():
    tokenizer = family_tokenizer("thinking")
    cut_off = "<think>\nNot the"
    assert ChatTemplateRenderer(tokenizer).parse(tokenizer.encode(cut_off)) == Message("assistant", cut_off)


def test_a_template_that_refuses_reasoning_has_none():
    template = "{% if messages[-1]['reasoning_content'] %}{{ raise_exception('no') }}{% endif %}" + CHATML
    answer = Message("assistant", "Queens.")
    assert runs(ChatTemplateRenderer(bpe_tokenizer(template)), [Message("user", "Where?"), answer])[1:] == [
        ("Queens.<|im_end|>", 1),
        ("\n", 0),
    ]


def test_a_tokenizer_with_several_templates_uses_its_default():
    tokenizer = bpe_tokenizer({"default": MARKED, "tool_use": CHATML})
    assert runs(ChatTemplateRenderer(tokenizer), TWO_TURNS)[-2] == ("a  b<|im_end|>", 1)


def test_variables_of_the_template_are_passed_on():
    tokenizer = bpe_tokenizer(THINKING)
    renderer = ChatTemplateRenderer(tokenizer, chat_template_kwargs={"enable_thinking": False})
    messages = [Message("user", "Where?"), Message("assistant", "Queens.")]
    assert runs(renderer, messages) == [
        ("<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", 0),
        ("Queens.<|im_end|>", 1),
        ("\n", 0),
    ]
    assert renderer.parse(tokenizer.encode("Queens.<|im_end|>")) == Message("assistant", "Queens.")


def test_generation_markers_decide_where_the_template_has_them():
    with_newline = ChatTemplateRenderer(bpe_tokenizer(MARKED_WITH_NEWLINE))
    assert runs(with_newline, TWO_TURNS[:2])[1:] == [("The Bronx.<|im_end|>\n", 1)]
    assert runs(with_newline, TWO_TURNS, TrainOn.ALL_ASSISTANT_MESSAGES)[1] == ("The Bronx.<|im_end|>\n", 1)
    aside = ChatTemplateRenderer(bpe_tokenizer(MARKED_WITH_NEWLINE), use_generation_markers=False)
    assert runs(aside, TWO_TURNS[:2])[1:] == [("The Bronx.<|im_end|>", 1), ("\n", 0)]


@pytest.mark.parametrize("template", [MARKED, MARKED_WITH_NEWLINE])
def test_the_mask_of_generation_markers_is_the_tokenizers_own(template):
    tokenizer = bpe_tokenizer(template)
    encoding = tokenizer.apply_chat_template(
        [message.to_dict() for message in TWO_TURNS], return_dict=True, return_assistant_tokens_mask=True
    )
    example = ChatTemplateRenderer(tokenizer).render(Conversation(messages=TWO_TURNS), TrainOn.ALL_ASSISTANT_MESSAGES)
    assert example.tokens.tolist() == encoding["input_ids"]
    assert example.weights.tolist() == encoding["assistant_masks"]


STOPS = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "mistral": "</s>",
    "thinking": "<|im_end|>",
    "marked": "<|im_end|>",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_stops_at_the_token_that_ends_an_answer(family):
    tokenizer = family_tokenizer(family)
    assert ChatTemplateRenderer(tokenizer).stop_sequences == (tokenizer.convert_tokens_to_ids(STOPS[family]),)


def test_the_stop_token_need_not_be_the_eos_of_the_tokenizer():
    tokenizer = bpe_tokenizer(MARKED, eos="<|endoftext|>")
    assert ChatTemplateRenderer(tokenizer).stop_sequences == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)


def test_padding_that_is_the_stop_token_masks_nothing():
    """TRL issue 976: where pad = eos, a mask by token id hides the stop token."""
    tokenizer = bpe_tokenizer(MARKED, pad_token="<|im_end|>")  # noqa: S106 - a control token
    assert runs(ChatTemplateRenderer(tokenizer), TWO_TURNS)[-2] == ("a  b<|im_end|>", 1)


def test_parse_leaves_out_the_stop_token_and_anything_behind_it():
    tokenizer = family_tokenizer("chatml")
    renderer = ChatTemplateRenderer(tokenizer)
    assert renderer.parse(tokenizer.encode("The Bronx.<|im_end|>\n<|im_start|>user")) == Message(
        "assistant", "The Bronx."
    )
    assert renderer.parse(tokenizer.encode(" cut off ")) == Message("assistant", " cut off ")
    assert renderer.parse([]) == Message("assistant", "")


def test_parse_strips_white_space_exactly_where_the_template_does():
    for family, expected in (("llama3", "x"), ("gemma", "x"), ("chatml", " x\n"), ("marked", " x\n")):
        tokenizer = family_tokenizer(family)
        tokens = [*tokenizer.encode(" x\n", add_special_tokens=False), tokenizer.eos_token_id]
        assert ChatTemplateRenderer(tokenizer).parse(tokens).content == expected


def test_parse_shows_what_a_tokenizer_would_tidy():
    """Llama 3's tokenizer deletes spaces before punctuation when it decodes, unless it is told not to."""
    tokenizer = bpe_tokenizer(MARKED, clean_up_tokenization_spaces=True)
    assert ChatTemplateRenderer(tokenizer).parse(tokenizer.encode("a , b . c n't")).content == "a , b . c n't"


def test_fingerprint_and_description():
    chatml = ChatTemplateRenderer(family_tokenizer("chatml"))
    assert chatml.description == (
        "chat template of the tokenizer (masks from prefix differences, stop token <|im_end|>)"
    )
    marked = ChatTemplateRenderer(bpe_tokenizer(MARKED))
    assert marked.description == (
        "chat template of the tokenizer (masks from generation markers, stop token <|im_end|>)"
    )
    others = [
        chatml,
        marked,
        ChatTemplateRenderer(bpe_tokenizer(MARKED), use_generation_markers=False),
        ChatTemplateRenderer(bpe_tokenizer(MARKED, eos="<|endoftext|>")),
        ChatTemplateRenderer(bpe_tokenizer(MARKED), chat_template_kwargs={"enable_thinking": False}),
        ChatTemplateRenderer(ByteTokenizer()),
    ]
    assert len({renderer.fingerprint for renderer in others}) == len(others)
    assert marked.fingerprint == ChatTemplateRenderer(bpe_tokenizer(MARKED)).fingerprint
    assert ChatTemplateRenderer(ByteTokenizer()).fingerprint == FINGERPRINT_OF_BYTES


FINGERPRINT_OF_BYTES = "6dc2b1c81b21d32b08d215fc7a6c77f5683a55955ba2bdcc617d9d327719062f"
"""Changes only with the meaning of a renderer, since checkpoints hold it."""
