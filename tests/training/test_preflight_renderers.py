"""Preflight of renderers: BOS, prompts, stops, and renderers that refuse."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.errors import (
    ConfigError,
    RenderingError,
)
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.rendering.renderer import RenderedExample, Renderer
from glowgenius.testing import ByteTokenizer
from tests.support.preflight import check, refused, warned
from tests.support.training import RENDERER, TOKENIZER, TRAIN, questions, trainer

BOS = "<|endoftext|>"


class Doubled(Renderer):
    """A renderer whose template and tokenizer both add the BOS."""

    tokenizer: ClassVar = ByteTokenizer(bos_token=BOS)
    stop_sequences, fingerprint, description = (256,), "f", "d"

    def render_messages(self, messages, train_on):
        bos = self.tokenizer.bos_token_id
        return RenderedExample([bos, bos, 65, 256], [0, 0, 1, 1])

    def render_prompt(self, messages):
        return np.asarray([self.tokenizer.bos_token_id] * 2, dtype=np.int64)

    def parse(self, tokens):
        raise NotImplementedError


def test_a_doubled_bos(tmp_path):
    found = (
        "begins with the BOS token '<|endoftext|>' twice → one BOS: either the chat template or the tokenizer may add "
        "it, not both"
    )
    assert refused(questions(1), renderer=Doubled()) == [f"row 0: train: {found}"]
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nq,a\n")
    assert refused(Dataset.from_file(path), renderer=Doubled()) == [f"{path}:2: {found}"]


class Elsewhere(Doubled):
    """A renderer whose answers are trained behind other tokens than sampling starts from."""

    def render_messages(self, messages, train_on):
        return RenderedExample([66, 67, 65, 256], [0, 0, 1, 1])

    def render_prompt(self, messages):
        return np.asarray([66, 68, 69], dtype=np.int64)


def test_a_prompt_that_is_not_the_beginning_of_its_example(tmp_path):
    found = (
        "it is trained on 'CA<|endoftext|>' where sampling starts from 'DE' (token 1), so that the answer is learned "
        "in a place where it is never asked for → a renderer whose prompt is the beginning of its example"
    )
    assert refused(questions(1), renderer=Elsewhere()) == [f"row 0: train: {found}"]
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nq,a\n")
    assert refused(Dataset.from_file(path), renderer=Elsewhere()) == [f"{path}:2: {found}"]
    # Where no answer is trained from its beginning, there is nothing to compare.
    assert check(questions(1), renderer=Elsewhere(), train_on="all_tokens").train.used == 1


def test_a_prompt_that_cannot_be_rendered():
    class Speechless(Elsewhere):
        def render_prompt(self, messages):
            raise RenderingError("not today")

    assert refused(questions(1), renderer=Speechless()) == [
        "row 0: train: its prompt cannot be rendered: not today → a renderer that can"
    ]


class Endless(Doubled):
    """A renderer that trains the answer and not its end."""

    stop_sequences = ("STOP",)

    def render_messages(self, messages, train_on):
        return RenderedExample([66, 65, 257], [0, 1, 0])

    def render_prompt(self, messages):
        return np.asarray([66], dtype=np.int64)


def test_an_untrained_stop_is_warned_about():
    warning = (
        "warning: in 2 of 2 train rows the token that ends the answer is not trained, so the model will not learn to "
        "stop"
    )
    endless = Endless()
    assert warning in check(questions(2), renderer=endless).lines()
    endless.stop_sequences = (257,)
    assert warning in check(questions(2), renderer=endless).lines()
    endless.stop_sequences = ("A\n",)
    assert warned(questions(2), renderer=endless) == ()
    endless.stop_sequences = ("STOP",)
    assert warned(questions(2), renderer=endless, train_on="all_messages") == ()


@pytest.mark.parametrize("renderer", [RENDERER, QuestionAnswerRenderer(TOKENIZER)])
def test_our_renderers_train_their_stop(renderer):
    assert warned(renderer=renderer) == ()


def test_a_renderer_that_says_no_more_than_a_sentence_is_located_too():
    class Mute(Doubled):
        def render_messages(self, messages, train_on):
            raise RenderingError("not today")

    assert refused(questions(1), renderer=Mute()) == ["row 0: train: not today → see the message"]


def test_the_renderer_is_checked():
    with pytest.raises(ConfigError):
        trainer(renderer=object()).preflight(TRAIN)
    assert isinstance(trainer().renderer, ChatTemplateRenderer)


TIDES = {"type": "function", "function": {"name": "tides", "description": "High tide.", "parameters": {}}}
WITH_TOOLS = Dataset.from_records([{"question": "When?", "answer": "Now.", "tools": [TIDES]}])


class Tooled(Doubled):
    """A renderer that names the number of tools in its first token, and keeps its law where it is told of them."""

    def render_messages(self, messages, train_on, tools=()):
        return RenderedExample([*self.render_prompt(messages[:-1], tools), 65, 256], [0, 0, 1, 1])

    def render_prompt(self, messages, tools=()):
        return np.asarray([66 + len(tools), 67], dtype=np.int64)


def test_a_prompt_is_compared_with_the_tools_of_its_row():
    assert check(WITH_TOOLS, renderer=Tooled()).train.used == 1


def test_rows_with_tools_of_a_family_whose_template_is_refused_can_be_trained():
    pytest.importorskip("renderers")
    from tests.rendering import test_families

    assert check(WITH_TOOLS, renderer=test_families.renderer("glm-4.5")).train.used == 1
