"""What all renderers have in common, and how one is chosen for a model."""

from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import ConfigError, ModelNotFoundError, RenderingError
from glowgenius.rendering import (
    ChatTemplateRenderer,
    QuestionAnswerRenderer,
    RenderedExample,
    Renderer,
    preview,
    renderer,
)
from glowgenius.testing import ByteTokenizer
from tests.support.tiny_models import write_byte_tokenizer

ROW = Conversation.from_question("Where?", "Queens.")


def test_a_chat_model_is_rendered_by_its_template_and_a_base_model_by_questions_and_answers():
    chat = Renderer.for_model("any", tokenizer=ByteTokenizer())
    base = Renderer.for_model("any", tokenizer=ByteTokenizer(chat_template=None))
    assert (type(chat), type(base)) == (ChatTemplateRenderer, QuestionAnswerRenderer)


def test_the_tokenizer_is_loaded_from_a_directory(tmp_path):
    write_byte_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    found = Renderer.for_model(str(tmp_path))
    assert type(found) is ChatTemplateRenderer
    assert found.tokenizer.decode(found.render_prompt([Message("user", "Where?")])) == (
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_model_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelNotFoundError):
        Renderer.for_model(str(tmp_path / "nothing"))


def test_a_chat_template_that_cannot_be_used_is_not_passed_over_in_silence():
    with pytest.raises(RenderingError):
        Renderer.for_model("any", tokenizer=ByteTokenizer(chat_template="{{ messages }}"))


def test_offers_are_tried_in_their_order(monkeypatch):
    monkeypatch.setattr(renderer, "_FACTORIES", [])
    with pytest.raises(RenderingError) as caught:
        Renderer.for_model("some/model", tokenizer=ByteTokenizer())
    assert str(caught.value) == "no renderer fits the tokenizer of 'some/model'; pass one as renderer="
    renderer.offer(lambda _: None)
    renderer.offer(QuestionAnswerRenderer)
    renderer.offer(ChatTemplateRenderer)
    assert type(Renderer.for_model("some/model", tokenizer=ByteTokenizer())) is QuestionAnswerRenderer


def test_a_conversations_weight_multiplies_and_leaves_the_tokens():
    plain = ChatTemplateRenderer(ByteTokenizer()).render(ROW)
    half = ChatTemplateRenderer(ByteTokenizer()).render(Conversation(messages=ROW.messages, weight=0.5))
    assert half == RenderedExample(plain.tokens, plain.weights * 0.5)


def test_train_on_may_be_a_word_and_a_wrong_word_is_refused():
    chat = ChatTemplateRenderer(ByteTokenizer())
    assert chat.render(ROW, "all_assistant_messages") == chat.render(ROW)
    with pytest.raises(ConfigError):
        chat.render(ROW, "assistants")


class Broken(Renderer):
    """A renderer of a user, with an error of its own."""

    tokenizer = stop_sequences = fingerprint = description = None

    def render_messages(self, messages, train_on):
        raise RenderingError("it does not work") from KeyError("why")

    def render_prompt(self, messages): ...

    def parse(self, tokens): ...


def test_the_error_of_any_renderer_is_located_and_keeps_its_cause():
    row = Conversation(messages=ROW.messages, source=Source("nyc.jsonl", 3, 2))
    with pytest.raises(RenderingError) as caught:
        Broken().render(row)
    assert str(caught.value) == "it does not work\n  nyc.jsonl:3: it does not work → see the message"
    assert str(caught.value.__cause__) == "'why'"


def test_the_package_needs_neither_tinker_nor_torch_nor_transformers():
    import subprocess
    import sys

    code = "import glowgenius.rendering, glowgenius.batching, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"tinker", "torch", "transformers", "jinja2"} & set(loaded) == set()


# --- what people have ---

SPOKEN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.parametrize("given", [SPOKEN, tuple(SPOKEN), {"messages": SPOKEN}, [Message(**each) for each in SPOKEN]])
def test_messages_are_rendered_and_shown_like_the_conversation_of_them(given):
    made = ChatTemplateRenderer(ByteTokenizer())
    conversation = Conversation(messages=SPOKEN)
    assert made.render(given) == made.render(conversation)
    assert made.render_examples(given) == made.render_examples(conversation)
    assert str(preview(given, made)) == str(preview(conversation, made))


def test_a_row_of_columns_is_told_how_it_is_read():
    made, row = ChatTemplateRenderer(ByteTokenizer()), {"question": "Hi", "answer": "Ho"}
    for use in (made.render, made.render_examples, lambda given: preview(given, made)):
        with pytest.raises(ConfigError, match=r"is read by Dataset\.from_records\(\[row\]\)\[0\]$"):
            use(row)
    for wrong in ("Hi", None, 5, [row], ["Hi"]):
        with pytest.raises(ConfigError):
            preview(wrong, made)
        with pytest.raises(ConfigError):
            made.render(wrong)
