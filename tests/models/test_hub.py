"""The door to `transformers`: what is refused before anything is asked of the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from glowgenius.errors import ModelNotFoundError
from glowgenius.models import hub

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("load", [hub.load_tokenizer, hub.load_config])
def test_a_misspelt_short_name_is_refused_before_the_hub_is_asked(load: Callable[[str], object]) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        load("smollm2-135m-instuct")
    assert str(caught.value) == (
        "no base model 'smollm2-135m-instuct' (did you mean 'smollm2-135m-instruct'?): it is neither a folder nor a "
        "hub name. Accepted: a local directory, a hub name such as 'Qwen/Qwen3-0.6B', or 'smollm2-135m-instruct'."
    )


@pytest.mark.parametrize("load", [hub.load_tokenizer, hub.load_config])
def test_a_hub_that_does_not_answer_is_asked_once(
    load: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not again for the next file, where each question would wait and be repeated."""
    asked: list[str] = []

    def refuse(url: str, **_: object) -> None:
        asked.append(url)
        raise httpx.ConnectError("no network")

    monkeypatch.setattr(httpx, "head", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_SILENT", {})
    for _ in range(3):
        with pytest.raises(ModelNotFoundError, match="could not be loaded"):
            load("somebody/nothing-of-this-name")
    assert asked == ["https://huggingface.co"]
