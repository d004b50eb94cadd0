"""Rendering: conversations to tokens with loss weights, and sampled tokens back to messages."""

from glowgenius.rendering.chat_template import ChatTemplateRenderer
from glowgenius.rendering.cookbook import CookbookRenderer, as_renderer
from glowgenius.rendering.families import FamilyRenderer, family_names
from glowgenius.rendering.preview import Preview, preview
from glowgenius.rendering.question_answer import QuestionAnswerRenderer
from glowgenius.rendering.renderer import ExampleBuilder, RenderedExample, Renderer, TrainOn, offer

# Renderer.for_model tries the factories in the order of registration.
offer(lambda tokenizer: ChatTemplateRenderer(tokenizer) if tokenizer.chat_template else None)
offer(QuestionAnswerRenderer)

__all__ = [
    "ChatTemplateRenderer",
    "CookbookRenderer",
    "ExampleBuilder",
    "FamilyRenderer",
    "Preview",
    "QuestionAnswerRenderer",
    "RenderedExample",
    "Renderer",
    "TrainOn",
    "as_renderer",
    "family_names",
    "preview",
]
