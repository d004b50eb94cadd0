"""The chat templates that the package trl ships, on a small tokenizer with each family's control tokens.

`python -m tests.support.trl_templates` writes `docs/chat_templates.md`, which `tests/rendering/test_trl_templates.py`
compares.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import evolve

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import RenderingError
from glowgenius.rendering import ChatTemplateRenderer, TrainOn
from tests.support.chat_tokenizers import bpe_tokenizer
from tests.support.source import ROOT

PAGE = ROOT / "docs" / "chat_templates.md"
BOS, EOS = "<|bos|>", "<|eos|>"
_CONTROL = re.compile(
    r"<\|[^|<>\s'\"]{1,40}\|>|<｜[^<>\s']{1,40}｜>|<(?:start|end)_of_[a-z]+>|<\|[a-z_]+>|<[a-z_]+\|>|<\|\"\|>"
)


def folder() -> Path | None:
    """Where trl keeps its templates, without importing it."""
    found = find_spec("trl")
    return None if found is None or not found.origin else Path(found.origin).parent / "chat_templates"


def names() -> list[str]:
    """The original templates."""
    where = folder()
    found = [] if where is None else [path.stem for path in sorted(where.glob("*.jinja"))]
    return [name for name in found if not name.endswith("_training")]


def source(name: str) -> str:
    return (folder() / f"{name}.jinja").read_text(encoding="utf-8")


def marked_name(name: str) -> str | None:
    """The variant of *name* with generation markers: one of its own, itself, or none."""
    if (folder() / f"{name}_training.jinja").is_file():
        return f"{name}_training"
    return name if re.search(r"\{%-?\s*generation", source(name)) else None


@cache
def tokenizer(name: str) -> Any:
    made = bpe_tokenizer(source(name))
    made.add_tokens([*sorted(set(_CONTROL.findall(source(name)))), BOS, EOS], special_tokens=True)
    made.bos_token, made.eos_token = BOS, EOS
    return made


def _talk(*turns: str, system: str | None = None) -> tuple[Message, ...]:
    opening = [] if system is None else [Message("system", system)]
    return (*opening, *(Message(("user", "assistant")[at % 2], text) for at, text in enumerate(turns)))


CALL = {"id": "call00001", "type": "function", "function": {"name": "find", "arguments": {"place": "Citi Field"}}}

TEXTS = (
    *(
        "Where is it?",
        "The Bronx.",
        "naïve – Ωmega",
        "🗽 🚇",
        "中文 عربي",
        "a  b   c",
        "8,804,190",
        "x\n\ny",
        "tab\there",
    ),
    *("```\nprint('a')\n```", '{"a": [1, 2]}', "<b>html</b> & co", "assistant\nsystem", "\u200bzero width"),
    *("line\r\nfeed", "e\u0301 combining"),
)

CONVERSATIONS = {
    **{f"question {at}": _talk(text, "The Bronx.") for at, text in enumerate(TEXTS)},
    **{f"answer {at}": _talk("Where?", text) for at, text in enumerate(TEXTS)},
    "empty answer": _talk("Where?", ""),
    "empty question": _talk("", "Queens."),
    "spaces around the question": _talk("  Where?  \n", "Queens."),
    "spaces behind the answer": _talk("Where?", "Queens. \n"),
    "spaces before the answer": _talk("Where?", " Queens."),
    "line break before the answer": _talk("Where?", "\nQueens."),
    "system": _talk("Where?", "Queens.", system="Be brief."),
    "system, unicode": _talk("Où?", "Là.", system="Réponds – vite 🗽"),
    "two turns": _talk("Where?", "Queens.", "And it?", "The Bronx."),
    "three turns": _talk("One?", "Two.", "Three?", "Four.", "Five?", "Six."),
    "same twice": _talk("Where?", "Queens.", "Where?", "Queens."),
    "system, two turns": _talk("Where?", "Queens.", "And it?", "The Bronx.", system="Be brief."),
    "empty between": _talk("Where?", "", "And it?", "The Bronx."),
    "reasoning": (Message("user", "Where?"), Message("assistant", "Queens.", reasoning_content="Not the Bronx.")),
    "reasoning, two turns": (
        *(Message("user", "Where?"), Message("assistant", "Queens.", reasoning_content="Hm.")),
        *(Message("user", "And it?"), Message("assistant", "The Bronx.", reasoning_content="Ah.")),
    ),
    "tool call": (Message("user", "Where?"), Message("assistant", "", tool_calls=[CALL])),
    "tool call and answer": (
        *(Message("user", "Where?"), Message("assistant", "", tool_calls=[CALL])),
        *(Message("tool", "Queens", tool_call_id="call00001", name="find"), Message("assistant", "In Queens.")),
    ),
}


OPTIONS = {
    "": {},
    "thinking off": {"enable_thinking": False},
    "with reasoning": {},
}
ALWAYS_THINKING = re.compile("qwen3_5_think|qwen3_6|qwen3_8|nemotron")
"""Their prompts open the thinking, which an answer without reasoning does not go on from."""


def modes(name: str) -> list[str]:
    """In which of `OPTIONS` a template is looked at."""
    return ["thinking off", "with reasoning"] if ALWAYS_THINKING.match(name) else [""]


def conversations(mode: str) -> dict[str, tuple[Message, ...]]:
    """`CONVERSATIONS`, with some reasoning in every answer where the mode is so."""
    if mode != "with reasoning":
        return CONVERSATIONS
    return {
        case: tuple(
            evolve(message, reasoning_content="Hm, let me see.") if message.role == "assistant" else message
            for message in messages
        )
        for case, messages in CONVERSATIONS.items()
    }


def renderer(name: str, mode: str) -> ChatTemplateRenderer:
    return ChatTemplateRenderer(tokenizer(name), chat_template_kwargs=OPTIONS[mode])


def reference(name: str, mode: str, messages: Any, **settings: Any) -> Any:
    """What the tokenizer itself makes of *messages*; None where the template refuses them."""
    rows = [message.to_dict() for message in messages]
    options = {**OPTIONS[mode], **settings}
    try:
        return tokenizer(name).apply_chat_template(rows, tokenize=True, return_dict=True, **options)
    except Exception:  # noqa: BLE001 - templates raise what they like
        return None


def expected(name: str, mode: str, messages: Any) -> tuple[list[int], list[int]] | None:
    """Tokens and mask of a template with generation markers, less what the generation prompt already says.

    The markers of some templates begin with the reasoning tag that sampling is given; no model ever has to write it.
    Where a marked text ends with a letter of several tokens, `apply_chat_template` marks the first of them only;
    the others belong to the letter too.
    """
    found = reference(name, mode, messages, return_assistant_tokens_mask=True)
    if found is None:
        return None
    mask = list(found["assistant_masks"])
    decode = tokenizer(name).decode
    for at in range(1, len(mask)):
        if mask[at - 1] and not mask[at]:
            run = at - mask[:at][::-1].index(0)
            mask[at] = int(decode(found["input_ids"][run:at]).endswith("\ufffd"))
    for index, message in enumerate(messages):
        if message.role == "assistant" and index:
            prompt = reference(name, mode, messages[:index], add_generation_prompt=True)["input_ids"]
            before = reference(name, mode, messages[:index])["input_ids"]
            if found["input_ids"][: len(prompt)] == prompt:
                given = len(before) if before == prompt[: len(before)] else len(prompt)
                mask[given : len(prompt)] = [0] * (len(prompt) - given)
    return list(found["input_ids"]), mask


def outcome(name: str, messages: Any, renderer: ChatTemplateRenderer) -> list[Any] | str:
    """The examples of *messages*, or why they are refused."""
    try:
        return list(renderer.render_examples(Conversation(messages=messages), TrainOn.ALL_ASSISTANT_MESSAGES))
    except RenderingError as error:
        return error.problems[0].found


def rows(name: str) -> list[str]:
    """The lines of a template in the table."""
    lines = []
    for mode in modes(name):
        title = f"`{name}`{mode and ', '}{mode}"
        try:
            made = renderer(name, mode)
        except RenderingError as error:
            reason = str(error).partition(": ")[2].partition("; pass another")[0]
            lines.append(f"| {title} | | | refused: {reason} | |")
            continue
        found = [outcome(name, messages, made) for messages in conversations(mode).values()]
        taken = [examples for examples in found if not isinstance(examples, str)]
        decode = made.tokenizer.decode
        stop = "`, `".join(decode([token]) for token in made.stop_sequences).replace("|", "\\|")
        masks = "markers" if "generation markers" in made.description else "prefix differences"
        divided = sum(len(examples) > 1 for examples in taken)
        lines.append(f"| {title} | `{stop}` | {masks} | {len(taken)} of {len(found)} | {divided or ''} |")
    return lines


def page() -> str:
    """The text of the page."""
    lines = [
        "# Chat templates",
        "",
        "`ChatTemplateRenderer` takes any chat template, tries it out when it is made, and refuses those from which no",
        "training example would follow that sampling can produce.",
        "This table is what it makes of the original templates that the package `trl` ships,",
        f"on {len(CONVERSATIONS)} conversations each:",
        "one turn and several, system messages, reasoning, tool calls, Unicode, white space, nothing at all.",
        "`python -m tests.support.trl_templates` writes it, and `tests/rendering/test_trl_templates.py` compares the",
        "tokens with `apply_chat_template`, and the masks with the variants of the templates that have markers.",
        "",
        "A conversation is refused where the template does not write all of it (a system message, a tool call,",
        "reasoning), or where the tokens of the prompt would not be those that sampling starts with.",
        'Models that are made to think first are shown twice: with `chat_template_kwargs={"enable_thinking": False}`,',
        "and with some reasoning in every answer; an answer without it would not go on from their prompt.",
        "It is divided where the template rewrites earlier turns: then every turn has an example of its own.",
        "Where two stop tokens are named, calls end with the second.",
        "",
        "| template | stop token | masks from | conversations taken | of these divided by turn |",
        "| --- | --- | --- | --: | --- |",
        *(line for name in names() for line in rows(name)),
        "",
        "A model whose template is refused can be trained with a renderer of tinker-cookbook, passed as `renderer=`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
