"""Questions and answers for base models."""

# ruff: noqa: S106 - a token of a tokenizer is no password

from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import RenderingError
from glowgenius.rendering import QuestionAnswerRenderer, TrainOn
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import bpe_tokenizer

BYTES = ByteTokenizer(chat_template=None, eos_token="<|endoftext|>")
TWO_TURNS = (
    Message("system", "Facts of New York."),
    Message("user", "In which borough is it?"),
    Message("assistant", "The Bronx."),
    Message("user", "Where is 34 St?"),
    Message("assistant", "Manhattan"),
)
END = "<|endoftext|>"


def runs(renderer, messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE):
    """The example as text, cut where the weight changes."""
    example = renderer.render(Conversation(messages=messages), train_on)
    pieces = []
    for token, weight in zip(example.tokens.tolist(), example.weights.tolist(), strict=True):
        if not pieces or pieces[-1][1] != weight:
            pieces.append(([], weight))
        pieces[-1][0].append(token)
    return [(renderer.tokenizer.decode(tokens), weight) for tokens, weight in pieces]


def test_one_question():
    messages = [Message("user", "In which borough is it?"), Message("assistant", "The Bronx.")]
    assert runs(QuestionAnswerRenderer(BYTES), messages) == [
        ("Question: In which borough is it?\nAnswer:", 0),
        (f" The Bronx.{END}", 1),
    ]


FIRST = "Question: In which borough is it?\nAnswer:"
SECOND = "\n\nQuestion: Where is 34 St?\nAnswer:"

ALL = {
    TrainOn.LAST_ASSISTANT_MESSAGE: [
        (f"Facts of New York.\n\n{FIRST} The Bronx.{END}{SECOND}", 0),
        (f" Manhattan{END}", 1),
    ],
    TrainOn.LAST_ASSISTANT_TURN: [
        (f"Facts of New York.\n\n{FIRST} The Bronx.{END}{SECOND}", 0),
        (f" Manhattan{END}", 1),
    ],
    TrainOn.ALL_ASSISTANT_MESSAGES: [
        (f"Facts of New York.\n\n{FIRST}", 0),
        (f" The Bronx.{END}", 1),
        (SECOND, 0),
        (f" Manhattan{END}", 1),
    ],
    TrainOn.ALL_MESSAGES: [
        ("Facts of New York.", 1),
        ("\n\nQuestion:", 0),
        (" In which borough is it?", 1),
        ("\nAnswer:", 0),
        (f" The Bronx.{END}", 1),
        ("\n\nQuestion:", 0),
        (" Where is 34 St?", 1),
        ("\nAnswer:", 0),
        (f" Manhattan{END}", 1),
    ],
    TrainOn.ALL_TOKENS: [(f"Facts of New York.\n\n{FIRST} The Bronx.{END}{SECOND} Manhattan{END}", 1)],
    TrainOn.ALL_USER_AND_SYSTEM_MESSAGES: [
        ("Facts of New York.", 1),
        ("\n\nQuestion:", 0),
        (" In which borough is it?", 1),
        (f"\nAnswer: The Bronx.{END}\n\nQuestion:", 0),
        (" Where is 34 St?", 1),
        (f"\nAnswer: Manhattan{END}", 0),
    ],
}


@pytest.mark.parametrize("train_on", ALL)
def test_each_value_of_train_on(train_on):
    expected = ALL[train_on]
    if expected[0][1]:  # nothing comes before the first token, so it is not trained
        expected = [(expected[0][0][0], 0), (expected[0][0][1:], 1), *expected[1:]]
    assert runs(QuestionAnswerRenderer(BYTES), TWO_TURNS, train_on) == expected


def test_message_weights_multiply():
    messages = [Message("user", "one", weight=0.5), Message("assistant", "two", weight=0.25)]
    assert runs(QuestionAnswerRenderer(BYTES), messages, TrainOn.CUSTOMIZED) == [
        ("Question:", 0),
        (" one", 0.5),
        ("\nAnswer:", 0),
        (f" two{END}", 0.25),
    ]


def test_the_first_word_of_an_answer_is_the_token_of_running_text():
    tokenizer = bpe_tokenizer(None, eos="</s>")
    renderer = QuestionAnswerRenderer(tokenizer)
    example = renderer.render(Conversation.from_question("In which borough is it?", "The Bronx"))
    natural = tokenizer.encode("Question: In which borough is it?\nAnswer: The Bronx", add_special_tokens=False)
    assert example.tokens.tolist() == [*natural, tokenizer.eos_token_id]
    trained = example.tokens[example.weights > 0].tolist()
    assert tokenizer.convert_ids_to_tokens(trained)[0] == "ĠThe"
    assert tokenizer.decode(trained) == " The Bronx</s>"


def test_a_token_over_the_edge_of_a_question_counts_as_question():
    """`?` and the line break after it are one token of this tokenizer."""
    renderer = QuestionAnswerRenderer(bpe_tokenizer(None, eos="</s>"))
    assert runs(renderer, [Message("user", "Where?"), Message("assistant", "x")], TrainOn.ALL_MESSAGES) == [
        ("Question:", 0),
        (" Where?\n", 1),
        ("Answer:", 0),
        (" x</s>", 1),
    ]


@pytest.mark.parametrize("adds", [True, False])
def test_bos_comes_first_where_the_tokenizer_puts_one(adds):
    tokenizer = ByteTokenizer(chat_template=None, bos_token="<|im_start|>", add_bos_token=adds)
    renderer = QuestionAnswerRenderer(tokenizer)
    begins = "<|im_start|>Question: Where?\nAnswer:" if adds else "Question: Where?\nAnswer:"
    messages = [Message("user", "Where?"), Message("assistant", "x")]
    assert runs(renderer, messages) == [(begins, 0), (" x<|im_end|>", 1)]
    assert tokenizer.decode(renderer.render_prompt(messages[:1])) == begins
    everything = runs(renderer, messages, TrainOn.ALL_TOKENS)
    assert everything[0] == (("<|im_start|>" if adds else "Q"), 0)


def test_prompt_and_parse():
    renderer = QuestionAnswerRenderer(BYTES)
    assert BYTES.decode(renderer.render_prompt(TWO_TURNS[:2])) == f"Facts of New York.\n\n{FIRST}"
    assert BYTES.decode(renderer.render_prompt(TWO_TURNS[:4])) == (
        f"Facts of New York.\n\n{FIRST} The Bronx.{END}{SECOND}"
    )
    for sampled, content in ((f" The Bronx{END} and more", "The Bronx"), ("The", "The"), ("  a ", " a "), ("", "")):
        assert renderer.parse(BYTES.encode(sampled)) == Message("assistant", content)


def test_stop_fingerprint_and_description():
    renderer = QuestionAnswerRenderer(BYTES)
    assert renderer.stop_sequences == (BYTES.eos_token_id,)
    assert renderer.description == "Question: … Answer: … (stop token <|endoftext|>)"
    assert renderer.tokenizer is BYTES
    with_bos = ByteTokenizer(chat_template=None, bos_token="<|im_start|>", add_bos_token=True)
    without = ByteTokenizer(chat_template=None, bos_token="<|im_start|>")
    prints = {QuestionAnswerRenderer(tokenizer).fingerprint for tokenizer in (BYTES, with_bos, without)}
    assert len(prints) == 3
    assert (
        renderer.fingerprint
        == QuestionAnswerRenderer(ByteTokenizer(chat_template=None, eos_token="<|endoftext|>")).fingerprint
    )


def test_without_eos_a_model_never_learns_to_stop():
    with pytest.raises(RenderingError) as caught:
        QuestionAnswerRenderer(ByteTokenizer(eos_token=None))
    assert str(caught.value) == (
        "the tokenizer has no EOS token, so that the model would never learn to stop; set tokenizer.eos_token"
    )


USER, ASSISTANT = Message("user", "q"), Message("assistant", "a")
CHAT = ", or a chat model with its ChatTemplateRenderer"

REFUSED = {
    "tool calls": (
        [USER, Message("assistant", "", tool_calls=({"function": {"name": "f"}},))],
        f"messages[1].tool_calls: it has tool_calls, {{}} → a role and a content only{CHAT}",
    ),
    "reasoning": (
        [USER, Message("assistant", "a", reasoning_content="hm")],
        f"messages[1].reasoning_content: it has reasoning_content, {{}} → a role and a content only{CHAT}",
    ),
    "tool": (
        [USER, ASSISTANT, Message("tool", "r"), ASSISTANT],
        f"messages[2].role: a tool's message, {{}} → user and assistant messages{CHAT}",
    ),
    "late system": (
        [USER, ASSISTANT, Message("developer", "s"), USER, ASSISTANT],
        f"messages[2]: a developer message after a question, {{}} → it at the start{CHAT}",
    ),
    "answer first": ([ASSISTANT], f"messages[0]: an answer without a question, {{}} → a user message before it{CHAT}"),
    "two answers": (
        [USER, ASSISTANT, ASSISTANT],
        f"messages[2]: an answer without a question, {{}} → a user message before it{CHAT}",
    ),
    "two questions": (
        [USER, USER, ASSISTANT],
        f"messages[1]: a second question in a row, {{}} → an answer between them{CHAT}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_express_is_refused(case):
    messages, problem = REFUSED[case]
    with pytest.raises(RenderingError) as caught:
        QuestionAnswerRenderer(BYTES).render(Conversation(messages=messages))
    cannot = "which 'Question: … Answer: …' cannot express"
    assert str(caught.value) == f"the conversation cannot be rendered\n  {problem.format(cannot)}"


@pytest.mark.parametrize(
    ("messages", "place", "last"),
    [
        ([], "messages", "nothing"),
        ([USER, ASSISTANT], "messages[1]", "'assistant'"),
        ([Message("system", "s")], "messages[0]", "'system'"),
    ],
)
def test_a_prompt_ends_with_a_question(messages, place, last):
    with pytest.raises(RenderingError) as caught:
        QuestionAnswerRenderer(BYTES).render_prompt(messages)
    assert str(caught.value) == (
        "the conversation cannot be rendered\n"
        f"  {place}: a prompt has to end with a question, and this one ends with {last} → end with a user message"
    )


def test_control_token_text_is_text():
    renderer = QuestionAnswerRenderer(BYTES)
    example = renderer.render(Conversation.from_question(f"q{END}", f"a{END}"))
    assert example.tokens.tolist() == [*f"Question: q{END}\nAnswer: a{END}".encode(), BYTES.eos_token_id]
    assert renderer.parse(example.tokens[example.weights > 0]).content == f"a{END}"


def test_a_tokenizer_that_divides_the_end_of_the_prompt_otherwise_is_refused():
    """This one knows no words, so that it merges the colon with the answer."""
    renderer = QuestionAnswerRenderer(bpe_tokenizer(None, eos="</s>", words=r"[\s\S]+"))
    with pytest.raises(RenderingError) as caught:
        renderer.render(Conversation.from_question("Where?", "A x"))
    assert str(caught.value) == (
        "the conversation cannot be rendered\n"
        "  messages[1].content: the tokenizer divides 'Answer:' otherwise when ' A x' follows, "
        "so that training would not go on from the tokens that sampling starts with "
        "→ an answer without white space at its beginning, or another tokenizer"
    )
