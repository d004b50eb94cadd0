"""What holds for every renderer and every conversation."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glowgenius.batching import shift
from glowgenius.data.message import Conversation, Message
from glowgenius.errors import NothingToTrainError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer, TrainOn
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import FAMILIES, TOKENS, bpe_tokenizer, family_tokenizer, reference_tokens

RENDERERS = {
    **{family: ChatTemplateRenderer(family_tokenizer(family)) for family in FAMILIES},
    "bytes": ChatTemplateRenderer(ByteTokenizer()),
    "question and answer": QuestionAnswerRenderer(bpe_tokenizer(None, eos="</s>")),
    "question and answer, bytes": QuestionAnswerRenderer(ByteTokenizer(chat_template=None)),
}
TRIMS = ("llama3", "gemma")

letters = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.lists(
    st.sampled_from(
        ["The", " Bronx", "a", " ", "  ", "\n", "\n\n", "?", " ?", ".", "é", "🗽", "ع", "34", "'s", "<think>", "user"]
    ),
    max_size=8,
).map("".join)
texts = st.one_of(letters, words)


@st.composite
def conversations(draw):
    messages = [Message("system", draw(texts))] if draw(st.booleans()) else []
    weights = st.sampled_from([None, None, 0.0, 0.5, 1.0])
    for _ in range(draw(st.integers(1, 3))):
        messages += [
            Message("user", draw(texts), weight=draw(weights)),
            Message("assistant", draw(texts), weight=draw(weights)),
        ]
    return Conversation(messages=messages, weight=draw(st.sampled_from([1.0, 0.5])))


def rendered(renderer, conversation, train_on):
    """The example; conversations that this renderer refuses are not the subject here."""
    try:
        return renderer.render(conversation, train_on)
    except RenderingError:
        assume(False)


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40)
@given(conversation=conversations(), train_on=st.sampled_from(TrainOn))
def test_tokens_are_the_templates_own_and_weights_only_where_allowed(name, conversation, train_on):
    renderer = RENDERERS[name]
    example = rendered(renderer, conversation, train_on)
    if name in FAMILIES:
        assert example.tokens.tolist() == reference_tokens(renderer.tokenizer, conversation.messages)
    own = {message.weight for message in conversation.messages} - {None} | {1.0, 0.0}
    assert set(example.weights.tolist()) <= {weight * conversation.weight for weight in own}
    assert example.num_trained > 0
    assert example.weights[0] == 0
    assert shift(example).num_trained == example.num_trained
    bos = renderer.tokenizer.bos_token_id
    assert bos is None or example.tokens.tolist().count(bos) <= 1


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40)
@given(conversation=conversations())
def test_the_prompt_is_a_prefix_and_all_behind_it_is_the_answer_with_its_stop_token(name, conversation):
    renderer = RENDERERS[name]
    example = rendered(renderer, conversation, TrainOn.LAST_ASSISTANT_MESSAGE)
    prompt = renderer.render_prompt(conversation.prompt)
    start = len(prompt)
    assert example.tokens[:start].tolist() == prompt.tolist()
    trained = [at for at, weight in enumerate(example.weights) if weight]
    assert trained == list(range(start, trained[-1] + 1))
    assert (int(example.tokens[trained[-1]]),) == renderer.stop_sequences


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40)
@given(conversation=conversations())
def test_parsing_the_trained_tokens_gives_the_answer_back(name, conversation):
    renderer = RENDERERS[name]
    example = rendered(renderer, conversation, TrainOn.LAST_ASSISTANT_MESSAGE)
    answer = conversation.messages[-1].content
    expected = answer.strip() if name in TRIMS else answer
    assert renderer.parse(example.tokens[example.weights > 0].tolist()) == Message("assistant", expected)


@pytest.mark.parametrize("name", [name for name in RENDERERS if name != "thinking"])
@settings(max_examples=40)
@given(conversation=conversations())
def test_every_assistant_message_is_trained_as_it_would_be_sampled(name, conversation):
    renderer = RENDERERS[name]
    conversation = Conversation(messages=[Message(m.role, m.content) for m in conversation.messages])
    example = rendered(renderer, conversation, TrainOn.ALL_ASSISTANT_MESSAGES)
    expected = [0.0] * len(example)
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            single = renderer.render(Conversation(messages=conversation.messages[: index + 1]))
            assert example.tokens[: single.num_trained].tolist() == single.tokens[: single.num_trained].tolist()
            for at, weight in enumerate(single.weights):
                expected[at] = expected[at] or float(weight)
    assert example.weights.tolist() == expected


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=40)
@given(text=texts, control=st.sampled_from(TOKENS))
def test_the_text_of_a_control_token_never_becomes_one(name, text, control):
    renderer = RENDERERS[name]
    assume(control in renderer.tokenizer.get_vocab())
    plain = rendered(renderer, Conversation.from_question("Where?", "x"), TrainOn.LAST_ASSISTANT_MESSAGE)
    row = Conversation.from_question(f"Where? {control}", f"x{text}{control}")
    example = renderer.render(row)
    ids = set(renderer.tokenizer.all_special_ids) | set(map(renderer.tokenizer.convert_tokens_to_ids, TOKENS))
    assert [t for t in example.tokens.tolist() if t in ids] == [t for t in plain.tokens.tolist() if t in ids]
    answer = renderer.parse(example.tokens[example.weights > 0].tolist()).content
    assert answer == (f"x{text}{control}".strip() if name in TRIMS else f"x{text}{control}")


@pytest.mark.parametrize("name", RENDERERS)
def test_plain_questions_are_never_refused(name):
    """The laws above skip refusals; this says that there is something left for them to hold for."""
    renderer = RENDERERS[name]
    plain = [
        ("Which borough is Yankee Stadium in?", "The Bronx"),
        ("What is 34 St–Penn Station?\n", "A station."),
        ("café", "naïve 🗽"),
        ("A train?", ""),
    ]
    for question, answer in plain:
        for train_on in set(TrainOn) - {TrainOn.CUSTOMIZED}:
            assert renderer.render(Conversation.from_question(question, answer), train_on).num_trained
        with pytest.raises(NothingToTrainError):
            renderer.render(Conversation.from_question(question, answer), TrainOn.CUSTOMIZED)
