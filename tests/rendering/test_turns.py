"""Templates that rewrite earlier turns: one conversation becomes several examples, each as sampling sees it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import NothingToTrainError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer, TrainOn
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import FAMILIES, bpe_tokenizer, family_tokenizer

THINKING = ChatTemplateRenderer(family_tokenizer("thinking"))

TALK = (
    Message("user", "one"),
    Message("assistant", "two", reasoning_content="hm"),
    Message("user", "three"),
    Message("assistant", "call", reasoning_content="tool?"),
    Message("tool", "result"),
    Message("assistant", "four", reasoning_content="done"),
)
ASKED = "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
FIRST = "<think>\nhm\n</think>\n\ntwo<|im_end|>"
AGAIN = "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
CALL = "<think>\ntool?\n</think>\n\ncall<|im_end|>"
TOOL = "\n<|im_start|>tool\nresult<|im_end|>\n<|im_start|>assistant\n"
LAST = "<think>\ndone\n</think>\n\nfour<|im_end|>"


def runs(example, renderer=THINKING):
    """The example as text, cut where the weight changes."""
    pieces = []
    for token, weight in zip(example.tokens.tolist(), example.weights.tolist(), strict=True):
        if not pieces or pieces[-1][1] != weight:
            pieces.append(([], weight))
        pieces[-1][0].append(token)
    return [(renderer.tokenizer.decode(tokens), weight) for tokens, weight in pieces]


def examples(train_on, messages=TALK, **row):
    return [runs(example) for example in THINKING.render_examples(Conversation(messages=messages, **row), train_on)]


WHOLE = [(f"{ASKED}two<|im_end|>\n{AGAIN}", 0), (CALL, 1), (TOOL, 0), (LAST, 1), ("\n", 0)]

EXPECTED = {
    TrainOn.LAST_ASSISTANT_MESSAGE: [[(f"{ASKED}two<|im_end|>\n{AGAIN}{CALL}{TOOL}", 0), (LAST, 1), ("\n", 0)]],
    TrainOn.LAST_ASSISTANT_TURN: [WHOLE],
    TrainOn.ALL_ASSISTANT_MESSAGES: [[(ASKED, 0), (FIRST, 1), ("\n", 0)], WHOLE],
    TrainOn.ALL_MESSAGES: [
        [(ASKED, 0), (FIRST, 1), ("\n", 0)],
        [
            ("<|im_start|>user\n", 0),
            ("one<|im_end|>", 1),
            ("\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\n", 0),
            ("three<|im_end|>", 1),
            ("\n<|im_start|>assistant\n", 0),
            (CALL, 1),
            ("\n<|im_start|>tool\n", 0),
            ("result<|im_end|>", 1),
            ("\n<|im_start|>assistant\n", 0),
            (LAST, 1),
            ("\n", 0),
        ],
    ],
    TrainOn.ALL_TOKENS: [
        [(ASKED, 0), (FIRST, 1), ("\n", 0)],
        [
            ("<|im_start|>", 0),
            (ASKED.removeprefix("<|im_start|>"), 1),
            ("two<|im_end|>", 0),
            (f"\n{AGAIN}{CALL}{TOOL}{LAST}\n", 1),
        ],
    ],
    TrainOn.ALL_USER_AND_SYSTEM_MESSAGES: [
        [
            ("<|im_start|>user\n", 0),
            ("one<|im_end|>", 1),
            ("\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\n", 0),
            ("three<|im_end|>", 1),
            (f"\n<|im_start|>assistant\n{CALL}{TOOL}{LAST}\n", 0),
        ]
    ],
}


@pytest.mark.parametrize("train_on", EXPECTED)
def test_every_turn_is_trained_once_in_the_form_in_which_it_is_sampled(train_on):
    assert examples(train_on) == EXPECTED[train_on]


def test_own_weights_and_the_weight_of_the_row_are_kept():
    messages = [
        Message("user", "one", weight=1),
        Message("assistant", "two", weight=0.5),
        Message("user", "three"),
        Message("assistant", "four", weight=2),
    ]
    past = "\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
    assert examples(TrainOn.CUSTOMIZED, messages, weight=0.5) == [
        [(ASKED, 0), ("<think>\n\n</think>\n\ntwo<|im_end|>", 0.25), ("\n", 0)],
        [
            ("<|im_start|>user\n", 0),
            ("one<|im_end|>", 0.5),
            (past, 0),
            ("<think>\n\n</think>\n\nfour<|im_end|>", 1),
            ("\n", 0),
        ],
    ]


def test_a_conversation_whose_last_turn_is_not_trained_ends_with_the_one_that_is():
    messages = [*TALK[:2], Message("user", "three")]
    assert examples(TrainOn.ALL_ASSISTANT_MESSAGES, messages) == [[(ASKED, 0), (FIRST, 1), ("\n", 0)]]


def test_render_gives_one_example_or_says_how_to_get_several():
    with pytest.raises(RenderingError) as caught:
        THINKING.render(Conversation(messages=TALK, source=Source("nyc.jsonl", 3, 2)), TrainOn.ALL_ASSISTANT_MESSAGES)
    assert str(caught.value) == (
        "the conversation cannot be rendered\n"
        "  nyc.jsonl:3: messages[1]: the chat template rewrites it once later messages follow: "
        "'<think>\\nhm\\n</think>\\n\\ntwo' becomes 'two<|im_end|>\\n<|im_start' "
        "→ each turn as an example of its own, as render_examples() makes them"
    )


def test_all_tokens_with_different_weights_cannot_be_divided():
    """A header would belong to no turn."""
    messages = [Message("user", "one"), Message("assistant", "two", weight=0.5), *TALK[2:3], Message("assistant", "x")]
    with pytest.raises(RenderingError, match="the chat template rewrites it once later messages follow"):
        examples(TrainOn.ALL_TOKENS, messages)


def test_what_no_shorter_example_would_mend_is_refused():
    """The prompt of this template closes the thinking, and an answer that thinks does not follow from it."""
    renderer = ChatTemplateRenderer(family_tokenizer("thinking"), chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(RenderingError, match="sampling starts from"):
        renderer.render_examples(Conversation(messages=TALK), TrainOn.ALL_ASSISTANT_MESSAGES)


def test_the_header_says_that_history_is_rewritten():
    assert THINKING.description == (
        "chat template of the tokenizer (masks from prefix differences, stop token <|im_end|>, earlier turns rewritten)"
    )


PLAIN = {family: ChatTemplateRenderer(family_tokenizer(family)) for family in FAMILIES if family != "thinking"}
PLAIN["question and answer"] = QuestionAnswerRenderer(bpe_tokenizer(None, eos="</s>"))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("train_on", [value for value in TrainOn if value is not TrainOn.CUSTOMIZED])
def test_where_nothing_is_rewritten_there_is_one_example(name, train_on):
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    row = Conversation(messages=turns)
    assert PLAIN[name].render_examples(row, train_on) == (PLAIN[name].render(row, train_on),)


def test_rows_are_rendered_in_order_and_errors_are_values():
    renderer = ChatTemplateRenderer(ByteTokenizer())
    good = Conversation.from_question("Where?", "Queens.")
    first = Conversation(messages=[Message("assistant", "hello")], id="x")
    idle = Conversation(messages=[Message("user", "hello")])
    # More rows than are encoded at once, from an iterator.
    found = list(renderer.render_rows(iter([good, first, idle, *[good] * 300])))
    assert [type(item) for item in found[:4]] == [tuple, RenderingError, NothingToTrainError, tuple]
    assert len(found) == 303
    assert {item for item in found if isinstance(item, tuple)} == {(renderer.render(good),)}
    assert str(found[1]) == (
        "the conversation cannot be rendered\n  (id 'x'): messages[0]: nothing comes before the assistant's first "
        "message, and a chat template cannot render nothing → begin with a system or user message, or do not train the "
        "assistant's first message"
    )


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def talks(draw):
    messages = [Message("system", draw(words))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages.append(Message("user", draw(words)))
        for _ in range(draw(st.integers(0, 2))):
            messages += [
                Message("assistant", draw(words), reasoning_content=draw(st.none() | words)),
                Message("tool", draw(words)),
            ]
        messages.append(Message("assistant", draw(words), reasoning_content=draw(st.none() | words)))
    return messages


@settings(max_examples=150)
@given(messages=talks(), train_on=st.sampled_from([TrainOn.ALL_ASSISTANT_MESSAGES, TrainOn.LAST_ASSISTANT_TURN]))
def test_each_trained_stretch_follows_its_generation_prompt_and_each_message_is_trained_once(messages, train_on):
    try:
        rendered = THINKING.render_examples(Conversation(messages=messages), train_on)
    except RenderingError:
        return  # such as white space that merges with the prompt
    stretches = []
    for example in rendered:
        edges = [0, *(at for at in range(1, len(example)) if example.weights[at] != example.weights[at - 1])]
        for start, end in zip(edges, [*edges[1:], len(example)], strict=True):
            if example.weights[start]:
                stretches.append((example.tokens[:start].tolist(), example.tokens[start:end].tolist()))
    last_user = max(at for at, message in enumerate(messages) if message.role == "user")
    first = 0 if train_on is TrainOn.ALL_ASSISTANT_MESSAGES else last_user
    expected = []
    for at, message in enumerate(messages):
        if message.role == "assistant" and at >= first:
            prompt = THINKING.render_prompt(messages[:at]).tolist()
            alone = THINKING.render(Conversation(messages=messages[: at + 1]))
            expected.append((prompt, alone.tokens[alone.weights > 0].tolist()))
    assert stretches == expected
