"""What a chat template renderer refuses, and what it then says."""

from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import NothingToTrainError, RenderingError
from glowgenius.rendering import ChatTemplateRenderer, TrainOn, call_markup
from glowgenius.rendering.encoder import ControlTokens, Encoder
from glowgenius.testing import ByteTokenizer
from tests.support.chat_tokenizers import (
    CHATML,
    LLAMA3,
    MARKED,
    MARKED_WITHOUT_STOP,
    THINKING,
    WORDS_OF_GPT2,
    bpe_tokenizer,
    family_tokenizer,
)

ANOTHER = (
    "pass another renderer, for example glowgenius.rendering.FamilyRenderer, written for a family of models, "
    "or one of tinker-cookbook's through glowgenius.rendering.as_renderer"
)
QUESTION = Message("user", "Where?")
ANSWER = Message("assistant", "Queens.")


def refusal(renderer, messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE, **row):
    with pytest.raises(RenderingError) as caught:
        renderer.render(Conversation(messages=messages, **row), train_on)
    headline, _, problem = str(caught.value).partition("\n  ")
    assert headline == "the conversation cannot be rendered"
    assert len(caught.value.problems) == 1
    return problem


BAD_TEMPLATES = {
    "no token after the answer": (
        (
            "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        ),
        "it puts no special token after the assistant's answer, so that the model would never learn to stop",
    ),
    "no generation prompt": (
        CHATML.replace("add_generation_prompt", "false"),
        (
            "add_generation_prompt=True does not begin the assistant's turn, "
            "so that the model would have to write '<|im_start|>assistant\\n' itself"
        ),
    ),
    "another generation prompt": (
        CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>Assistant\n' }}"),
        "its generation prompt is not how an answer begins",
    ),
    "answers rewritten": (
        CHATML.replace("message['content'] +", "message['content'] | upper +"),
        "it changes the text of answers",
    ),
    "double BOS": ("{{ bos_token }}" + LLAMA3, "the tokens begin with '<|begin_of_text|>' twice"),
    "always refuses": ("{{ raise_exception('no') }}", "the chat template refuses it: no"),
}


@pytest.mark.parametrize("case", BAD_TEMPLATES)
def test_a_template_that_cannot_be_trained_with_is_refused_at_once(case):
    template, reason = BAD_TEMPLATES[case]
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(bpe_tokenizer(template, bos="<|begin_of_text|>"))
    assert str(caught.value) == f"this chat template cannot be used: {reason}; {ANOTHER}"


def test_a_base_model_has_no_template():
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(ByteTokenizer(chat_template=None))
    assert str(caught.value) == "the tokenizer has no chat template; use QuestionAnswerRenderer(tokenizer)"


class Unspelt:
    """A tokenizer that cannot write a control token as text, as some older ones cannot."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def encode(self, text, *, add_special_tokens=True):
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize("control", ["<|im_end|>", "<|endoftext|>", "<|eot_id|>"])
def test_control_token_text_is_refused_where_the_tokenizer_cannot_write_it_as_text(control):
    """`<|endoftext|>` and `<|eot_id|>` have no name in this tokenizer: they are merely added as special."""
    renderer = ChatTemplateRenderer(Unspelt(family_tokenizer("chatml")))
    said = (
        f"the text holds {control!r} at character 4, which the tokenizer would encode as a control token "
        "→ write it differently, for example with a space inside"
    )
    assert refusal(renderer, [QUESTION, Message("assistant", f"end {control}")]) == f"messages[1].content: {said}"
    assert refusal(renderer, [Message("user", f"end {control}"), ANSWER]) == f"messages[0].content: {said}"
    call = {"function": {"name": "find", "arguments": {"where": [f"end {control}"]}}}
    caller = Message("assistant", "", tool_calls=(call,))
    assert refusal(renderer, [QUESTION, caller]) == (f"messages[1].tool_calls[0].function.arguments.where[0]: {said}")
    with pytest.raises(RenderingError):
        renderer.render_prompt([Message("user", control)])


def test_text_that_only_resembles_a_control_token_is_text():
    renderer = ChatTemplateRenderer(family_tokenizer("chatml"))
    example = renderer.render(Conversation(messages=[QUESTION, Message("assistant", "<|im_end| > and <think>")]))
    assert renderer.parse(example.tokens[example.weights > 0]).content == "<|im_end| > and <think>"


def test_a_template_that_rewrites_history_trains_no_turn_that_sampling_does_not_produce():
    renderer = ChatTemplateRenderer(family_tokenizer("thinking"))
    assert refusal(renderer, [QUESTION, ANSWER, QUESTION, ANSWER], TrainOn.ALL_ASSISTANT_MESSAGES) == (
        "messages[1]: the chat template rewrites it once later messages follow: "
        "'<think>\\n\\n</think>\\n\\nQueen' becomes 'Queens.<|im_end|>\\n<|im_s' "
        "→ each turn as an example of its own, as render_examples() makes them"
    )


def test_an_answer_that_does_not_continue_its_prompt_is_refused():
    renderer = ChatTemplateRenderer(bpe_tokenizer(THINKING), chat_template_kwargs={"enable_thinking": False})
    thought = Message("assistant", "Queens.", reasoning_content="Hm.")
    assert refusal(renderer, [QUESTION, thought]) == (
        "messages[1]: sampling starts from '\\n</think>\\n\\n' "
        "where this conversation has 'Hm.\\n</think>\\n\\nQueens.<|i' "
        "→ chat_template_kwargs={'enable_thinking': True} for answers with reasoning, or each turn as an example "
        "of its own, as render_examples() makes them"
    )


def test_an_answer_whose_first_letter_merges_with_the_prompt_is_refused():
    """A line break at the start of an answer becomes one token with the line break before it."""
    renderer = ChatTemplateRenderer(family_tokenizer("chatml"))
    assert refusal(renderer, [QUESTION, Message("assistant", "\nQueens.")]) == (
        "messages[1]: the tokenizer divides '>\\n<|im_start|>assistant\\n' otherwise "
        "when '\\nQueens.<|im_end|>\\n' follows, "
        "so that training would not go on from the tokens that sampling starts with "
        "→ no white space at the beginning of the content; "
        "where the template itself writes that white space, another renderer"
    )


def test_a_tokenizer_that_divides_the_end_of_the_prompt_otherwise_is_refused():
    """GPT-2 takes two line breaks as one token at the end of a text, and as two before a word."""
    renderer = ChatTemplateRenderer(
        bpe_tokenizer(LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>", words=WORDS_OF_GPT2)
    )
    assert refusal(renderer, [QUESTION, ANSWER]).startswith(
        "messages[1]: the tokenizer divides 'stant<|end_header_id|>\\n\\n' otherwise when 'Queens.<|eot_id|>' follows"
    )


def test_the_template_refuses():
    renderer = ChatTemplateRenderer(family_tokenizer("gemma"))
    messages = [Message("system", "Be brief."), QUESTION, ANSWER]
    assert refusal(renderer, messages) == (
        "messages: the chat template refuses it: System role not supported → its text in the first user message, "
        "or a model whose chat template takes a system message"
    )


def test_nothing_a_message_says_is_left_out_in_silence():
    mistral = ChatTemplateRenderer(family_tokenizer("mistral"))
    messages = [Message("system", "Be brief."), QUESTION, ANSWER]
    said = (
        "messages[0].content: the chat template does not write it → a role that the template knows, instead of 'system'"
    )
    assert refusal(mistral, messages) == said
    with pytest.raises(RenderingError) as caught:
        mistral.render_prompt(messages[:2])
    assert str(caught.value).endswith(said)
    chatml = ChatTemplateRenderer(family_tokenizer("chatml"))
    calls = [{"function": {"name": "find", "arguments": "{}"}}]
    assert refusal(chatml, [QUESTION, Message("assistant", "", tool_calls=calls)]) == (
        "messages[1].tool_calls[0]: the chat template does not write it → a model whose chat template knows tool calls"
    )
    assert refusal(chatml, [QUESTION, Message("assistant", "Queens.", reasoning_content="Hm.")]) == (
        "messages[1].reasoning_content: the chat template does not write it "
        "→ do not train this message, or use a template that writes it"
    )


def test_generation_markers_that_leave_the_stop_token_out_are_refused():
    renderer = ChatTemplateRenderer(bpe_tokenizer(MARKED_WITHOUT_STOP))
    remedy = "{% endgeneration %} behind the stop token, or ChatTemplateRenderer(…, use_generation_markers=False)"
    assert refusal(renderer, [QUESTION, ANSWER]) == (
        "messages[1]: the chat template's generation markers cover its text but not its stop token, "
        f"so that the model would never learn to stop → {remedy}"
    )
    nothing = MARKED.replace("{% generation %}", "{% generation %}{% endgeneration %}").replace(
        "'<|im_end|>' }}{% endgeneration %}", "'<|im_end|>' }}"
    )
    assert refusal(ChatTemplateRenderer(bpe_tokenizer(nothing)), [QUESTION, ANSWER]) == (
        "messages[1]: the chat template's generation markers cover nothing of it, "
        f"so that the model would never learn to stop → {remedy}"
    )


def test_an_assistant_who_speaks_first_has_no_prompt():
    renderer = ChatTemplateRenderer(family_tokenizer("chatml"))
    said = (
        "messages[0]: nothing comes before the assistant's first message, and a chat template cannot render nothing "
        "→ begin with a system or user message, or do not train the assistant's first message"
    )
    assert refusal(renderer, [ANSWER]) == said
    assert refusal(renderer, [ANSWER, QUESTION, ANSWER], TrainOn.ALL_ASSISTANT_MESSAGES) == said
    renderer.render(Conversation(messages=[ANSWER, QUESTION, ANSWER]))  # untrained, it is no obstacle


def test_a_turn_that_ends_with_another_token_is_refused():
    template = CHATML.replace(
        "message['content'] + '<|im_end|>'",
        "message['content'] + ('<|endoftext|>' if message['content'].startswith('call') else '<|im_end|>')",
    )
    renderer = ChatTemplateRenderer(bpe_tokenizer(template))
    assert refusal(renderer, [QUESTION, Message("assistant", "call it")]) == (
        "messages[1]: the template ends it with 'nt\\ncall it<|endoftext|>\\n' "
        "and not with the stop token '<|im_end|>' "
        "→ messages whose turns end with that token, or do not train this one"
    )


def test_content_that_the_template_rewrites_cannot_be_trained():
    template = CHATML.replace(
        "message['content'] +",
        "(message['content'] if message['role'] == 'assistant' else message['content'] | upper) +",
    )
    renderer = ChatTemplateRenderer(bpe_tokenizer(template))
    assert refusal(renderer, [QUESTION, ANSWER]) == (
        "messages[0].content: the chat template does not write it → a role that the template knows, instead of 'user'"
    )
    constant = CHATML.replace(
        "'\n' + message['content']", "'\n' + (message['content'] if message['role'] != 'tool' else 'result')"
    )
    tool = [QUESTION, ANSWER, Message("tool", "result"), ANSWER]
    assert refusal(ChatTemplateRenderer(bpe_tokenizer(constant)), tool, TrainOn.ALL_MESSAGES) == (
        "messages[2].content: the chat template does not write it → a model whose chat template knows the results of "
        "tools, or their text in a user's message"
    )


def test_the_place_of_the_row_is_in_the_problem():
    renderer = ChatTemplateRenderer(family_tokenizer("gemma"))
    messages = [Message("system", "Be brief."), QUESTION, ANSWER]
    assert refusal(renderer, messages, id="x", source=Source("nyc.jsonl", 12, 11)).startswith(
        "nyc.jsonl:12 (id 'x'): messages: the chat template refuses it"
    )
    assert refusal(renderer, messages, id="x").startswith("(id 'x'): messages: the chat template refuses it")


NOTHING = {
    "last message": (
        [QUESTION, ANSWER, QUESTION],
        TrainOn.LAST_ASSISTANT_MESSAGE,
        "the last message is from 'user' → end with an assistant message, or train_on='all_assistant_messages'",
    ),
    "no weight": (
        [QUESTION, ANSWER],
        TrainOn.CUSTOMIZED,
        "no message has a weight above 0 → give the messages to train a weight",
    ),
    "weight 0": (
        [QUESTION, Message("assistant", "Queens.", weight=0)],
        TrainOn.LAST_ASSISTANT_MESSAGE,
        (
            "train_on='last_assistant_message' and the messages' own weights leave nothing "
            "→ add a message that is trained, or choose another train_on"
        ),
    ),
    "nobody": (
        [QUESTION],
        TrainOn.ALL_ASSISTANT_MESSAGES,
        (
            "train_on='all_assistant_messages' and the messages' own weights leave nothing "
            "→ add a message that is trained, or choose another train_on"
        ),
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_row_with_nothing_to_train_is_an_error(case):
    messages, train_on, reason = NOTHING[case]
    row = Conversation(messages=messages, source=Source("nyc.jsonl", 3, 2))
    with pytest.raises(NothingToTrainError) as caught:
        ChatTemplateRenderer(ByteTokenizer()).render(row, train_on)
    assert str(caught.value) == (f"no token of the conversation would be trained\n  nyc.jsonl:3: messages: {reason}")


def test_a_second_bos_is_refused_wherever_it_comes_from():
    """Only this system message makes the template write BOS again, so the check at the start does not see it."""
    template = "{% if messages[0]['role'] == 'system' %}{{ bos_token }}{% endif %}" + LLAMA3
    renderer = ChatTemplateRenderer(bpe_tokenizer(template, bos="<|begin_of_text|>", eos="<|eot_id|>"))
    messages = [Message("system", "Be brief."), QUESTION, ANSWER]
    said = (
        "the tokens begin with '<|begin_of_text|>' twice "
        "→ a chat template that writes it once, and no BOS in the text of the first message"
    )
    assert refusal(renderer, messages) == said
    with pytest.raises(RenderingError) as caught:
        renderer.render_prompt(messages[:2])
    assert str(caught.value).endswith(said)


class Distorted:
    """A tokenizer that misbehaves in one method."""

    def __init__(self, tokenizer, apply_chat_template):
        self._tokenizer = tokenizer
        self.apply_chat_template = apply_chat_template

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def test_markers_that_come_with_another_text_are_refused():
    tokenizer = bpe_tokenizer(MARKED)

    def another(rows, **settings):
        return tokenizer.apply_chat_template(rows, **settings).replace("Where?", "Where? ")

    assert refusal(ChatTemplateRenderer(Distorted(tokenizer, another)), [QUESTION, ANSWER]) == (
        "messages: the chat template writes another text when it is asked for its generation markers "
        "→ ChatTemplateRenderer(…, use_generation_markers=False)"
    )


def test_a_tokenizer_that_gives_no_text_is_refused():
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(Distorted(ByteTokenizer(), lambda *_, **__: [1, 2]))
    assert str(caught.value) == (
        f"this chat template cannot be used: apply_chat_template(tokenize=False) must return a str, got list; {ANOTHER}"
    )


def test_a_missing_jinja2_is_not_blamed_on_the_template():
    def refuse(*_, **__):
        raise ImportError("apply_chat_template requires jinja2 to be installed.")

    with pytest.raises(ImportError, match="requires jinja2"):
        ChatTemplateRenderer(Distorted(ByteTokenizer(), refuse))


def test_many_forms_of_conversation_are_looked_at_and_few_are_kept(monkeypatch):
    monkeypatch.setattr(call_markup, "_FORMS_KEPT", 3)
    renderer = ChatTemplateRenderer(ByteTokenizer())
    for turns in [*range(6), *range(6)]:
        prompt = renderer.render_prompt([*[QUESTION, ANSWER] * turns, QUESTION])
        assert prompt.tolist().count(257) == 2 * turns + 2
        assert renderer._template._losses.num_forms <= 3


def test_a_tokenizer_without_control_tokens_has_nothing_to_stop_at():
    with pytest.raises(RenderingError) as caught:
        ChatTemplateRenderer(ByteTokenizer(special_tokens=(), eos_token=None))
    assert str(caught.value) == (
        "this chat template cannot be used: it puts no special token after the assistant's answer, "
        f"so that the model would never learn to stop; {ANOTHER}"
    )
    bytes_only = ByteTokenizer(special_tokens=(), eos_token=None)
    encoder = Encoder(bytes_only, ControlTokens(bytes_only))
    assert encoder.rows([Message("user", "<|im_end|>")]) == [{"role": "user", "content": "<|im_end|>"}]
    assert bytes(encoder.encode("<|im_end|>")) == b"<|im_end|>"
