"""Use the installed wheel as someone does who asked for no extra: render, validate, and be told what is missing.

Run by `.ci/run` with an interpreter that has the wheel and its core dependencies, and nothing else.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import glowgenius as gg
from glowgenius.errors import ConfigError, MissingDependencyError
from glowgenius.testing import ByteTokenizer


def require(fact: object, what: str) -> None:
    """End with a failure unless *fact*."""
    if not fact:
        sys.exit(f"check_wheel: failed: {what}")
    print(f"  {what}")


def message_of(kind: type[Exception], action: object) -> str:
    """What *action* says when it raises *kind*; an empty string when it raises nothing."""
    try:
        action()  # type: ignore[operator]
    except kind as error:
        return str(error)
    return ""


def main() -> None:
    """Check everything that must work without an extra."""
    package = Path(gg.__file__).parent
    require(package.is_relative_to(sys.prefix), f"the package comes from the wheel, at {package}")
    require(
        gg.__version__ == importlib.metadata.version("glowgenius"), f"its version is {gg.__version__} in both places"
    )
    require((package / "py.typed").is_file(), "py.typed is installed")
    require(importlib.util.find_spec("torch") is None, "torch is not installed")
    require(importlib.util.find_spec("gguf") is None, "gguf is not installed")
    for name in gg.__all__:
        getattr(gg, name)
    require(gg.__all__, f"all {len(gg.__all__)} public names can be imported")

    dataset = gg.Dataset.from_records([{"question": "Which borough is Yankee Stadium in?", "answer": "The Bronx."}])
    example = gg.QuestionAnswerRenderer(ByteTokenizer()).render(dataset[0])
    require(0 < example.num_trained < len(example.tokens), f"a row renders to {len(example.tokens)} tokens")

    refused = message_of(ConfigError, lambda: gg.LoRAConfig(rank=0))
    require(refused == "LoRAConfig.rank must be an integer ≥ 1, got 0 (int)", f"a wrong rank is refused: {refused}")
    missing = message_of(MissingDependencyError, lambda: gg.connect(engine="local"))
    require("pip install 'glowgenius[local]'" in missing, f"the local engine says what it needs: {missing}")


if __name__ == "__main__":
    main()
