"""The neighbours' own training loop, as they ship it: `tinker_cookbook.supervised.train.main`."""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MADE_FOR = "0.6.1"
"""The release that these tests were written against."""


def need_cookbook() -> None:
    """Skip where the cookbook cannot be imported, saying why; it is no dependency of the tests."""
    try:
        importlib.import_module("tinker_cookbook.supervised.train")
    except ImportError as error:
        pytest.skip(
            f"tinker-cookbook cannot be imported ({error}); these tests use {MADE_FOR}: pip install --no-deps "
            f"tinker-cookbook=={MADE_FOR} tml-renderers, and blobfile chz cloudpickle "
            "datasets pillow pyrage termcolor tiktoken",
            allow_module_level=True,
        )


def write_rows(path: Path, count: int) -> Path:
    """*count* conversations, all different."""
    lines = (
        {"messages": [{"role": "user", "content": f"Q{row}?"}, {"role": "assistant", "content": f"A{row}"}]}
        for row in range(count)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def config(folder: Path, model: str, rows: Path, *, batch_size: int = 2, **settings: Any) -> Any:
    """A configuration of the cookbook's; batches come in the order that its own shuffle gives them."""
    from tinker_cookbook.renderers import TrainOnWhat
    from tinker_cookbook.supervised import train
    from tinker_cookbook.supervised.data import FromConversationFileBuilder
    from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig

    common = ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=model,
        renderer_name="role_colon",
        max_length=None,
        batch_size=batch_size,
        train_on_what=TrainOnWhat.ALL_ASSISTANT_MESSAGES,
    )
    chosen = {"learning_rate": 0.02, "num_epochs": 1, "lora_rank": 4, "save_every": 0, "eval_every": 0, **settings}
    return train.Config(
        log_path=str(folder),
        model_name=model,
        recipe_name="glowgenius-tests",
        renderer_name="role_colon",
        dataset_builder=FromConversationFileBuilder(common_config=common, file_path=str(rows)),
        **chosen,
    )


def run(settings: Any) -> list[dict[str, Any]]:
    """Train, and the rows of the cookbook's own `metrics.jsonl`."""
    from pathlib import Path

    from tinker_cookbook.supervised import train

    asyncio.run(train.main(settings))
    lines = (Path(settings.log_path) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
