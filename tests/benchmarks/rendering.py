"""Rows rendered per CPU second: this library, tinker-cookbook and TRL, on the same conversations in one process.

    python -m tests.benchmarks.rendering [--rows 10000] [--rounds 3]

All three make ChatML tokens on SmolLM2's real vocabulary and train every answer of the same conversations, of one to
three turns, whose words are from Python's reference. Before anything is timed, their tokens are compared. Each is run
as its users run it: the cookbook's `conversation_to_datum` with one shared renderer, TRL's preparation of a data set
with its own training template for Qwen2.5 and `assistant_only_loss`. They take turns, and the best of the rounds
counts, in CPU seconds, so that other programs matter little.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import pydoc_data.topics
import random
import re
import time
import types
import warnings
from typing import TYPE_CHECKING, Any

from glowgenius.data.message import Conversation, Message
from glowgenius.models.hub import load_tokenizer
from glowgenius.rendering import ChatTemplateRenderer, TrainOn
from tests.support import trl_templates

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
BOOK = re.findall(r"\s*\S+", "\n".join(pydoc_data.topics.topics.values()))
"""Words with the white space before them: Python's own reference, 700,000 letters of English, examples and tables."""


def conversations(number: int) -> list[Conversation]:
    """Questions and answers of 10 to 70 words, in one to three turns, after one of two system messages."""
    draw = random.Random(0)

    def text(least: int, most: int) -> str:
        size = draw.randint(least, most)
        start = draw.randrange(len(BOOK) - size)
        return "".join(BOOK[start : start + size]).strip()

    made = []
    for at in range(number):
        # Qwen2.5's template adds a system message of its own where there is none, which the cookbook does not.
        messages = [Message("system", "You are a guide to New York." if at % 3 else "Be brief.")]
        for _ in range(1 + at % 3):
            messages += [Message("user", text(10, 30)), Message("assistant", text(10, 70))]
        made.append(Conversation(messages=messages))
    return made


def prepare() -> Any:
    """SmolLM2's tokenizer with the template of Qwen2.5."""
    tokenizer: Any = load_tokenizer("smollm2-135m-instruct")
    tokenizer.chat_template = trl_templates.source("qwen2_5")
    return tokenizer


def ours(rows: list[Conversation], tokenizer: Any) -> list[list[int]]:
    renderer = ChatTemplateRenderer(tokenizer)
    rendered = renderer.render_rows(rows, TrainOn.ALL_ASSISTANT_MESSAGES)
    return [examples[0].tokens.tolist() for examples in rendered]


def cookbook(rows: list[Conversation], tokenizer: Any) -> list[list[int]]:
    from tinker_cookbook.renderers import TrainOnWhat, get_renderer
    from tinker_cookbook.supervised.data import conversation_to_datum

    renderer = get_renderer("qwen3_instruct", tokenizer, model_name="a benchmark")
    data = [
        conversation_to_datum(
            [message.to_dict() for message in row.messages], renderer, None, TrainOnWhat.ALL_ASSISTANT_MESSAGES
        )
        for row in rows
    ]
    return [datum.model_input.to_ints() for datum in data]


def trl(rows: list[Conversation], tokenizer: Any) -> list[list[int]]:
    import datasets
    from trl import SFTTrainer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    given = datasets.Dataset.from_list([{"messages": [m.to_dict() for m in row.messages]} for row in rows])
    args = types.SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=True,
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        truncation_mode="keep_start",
    )
    holder = types.SimpleNamespace(
        _tokenizer=tokenizer, chat_template=trl_templates.source("qwen2_5_training"), completion_only_loss=False
    )
    made = SFTTrainer._prepare_dataset(holder, given, tokenizer, args, False, None, "train")
    return made["input_ids"]


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    warnings.simplefilter("ignore")
    tokenizer, rows = prepare(), conversations(settings.rows)
    sample = rows[:60]
    tokens = ours(sample, tokenizer)
    # The cookbook ends with the stop token, which is a target only, and leaves out the line break behind it.
    if [row[:-2] for row in tokens] != cookbook(sample, tokenizer):
        raise SystemExit("the cookbook's tokens are others")
    if tokens != [list(row) for row in trl(sample, tokenizer)]:
        raise SystemExit("TRL's tokens are others")
    total = sum(map(len, tokens)) / len(sample)
    print(f"{len(rows):,} conversations, {total:.0f} tokens each; the tokens are equal")
    sides = {"glowgenius": ours, "tinker-cookbook": cookbook, "trl": trl}
    best = dict.fromkeys(sides, math.inf)
    for _ in range(settings.rounds):
        for name, side in sides.items():  # in turns, so that a busy minute of the machine meets all of them
            best[name] = min(best[name], seconds(lambda side=side: side(rows, tokenizer)))
    for name, spent in best.items():
        print(f"{name:16} {spent:7.2f} CPU s {len(rows) / spent:8,.0f} rows per CPU second")
    others = min(spent for name, spent in best.items() if name != "glowgenius")
    print(f"{others / best['glowgenius']:.1f} times the faster of the others")


if __name__ == "__main__":
    main()
