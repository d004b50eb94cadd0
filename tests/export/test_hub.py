"""Uploads to a hub on the loopback that speaks the commit API, by the hub's own library."""

from __future__ import annotations

import pytest

from glowgenius.errors import AuthenticationError, ConfigError, EngineError, ServiceUnavailableError
from tests.support.hub_double import hub_double

constants = pytest.importorskip("huggingface_hub").constants

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the library to its own client


@pytest.fixture
def hub(monkeypatch):
    # The double takes files as Git LFS does, and not as Xet.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_double() as hub:
        yield hub


def push(run, hub, name="ada/nyc", **settings):
    return run.push_to_hub(name, **{"token": hub.token, "endpoint": hub.address, **settings})


ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors"}


def uploaded(hub, name="ada/nyc"):
    return {path.removeprefix(f"{name}/"): content for path, content in hub.files.items()}


def test_the_adapter_and_its_card_are_uploaded_and_nothing_else_of_the_run(hub, tuned, tmp_path):
    run, base = tuned()
    done = push(run, hub)
    assert hub.repositories == {"ada/nyc": True}
    found = uploaded(hub)
    assert set(found) == {name for name, _ in done.files} == ADAPTER
    adapter = run.save_adapter(tmp_path / "adapter")
    same = ("adapter_config.json", "adapter_model.safetensors")
    assert {name: (adapter / name).read_bytes() for name in same} == {name: found[name] for name in same}
    # The base model is a folder of this machine, which the hub refuses as a name.
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert found["README.md"].decode() == card.replace(f"base_model: {base}\n", "")
    assert f"base_model: {base}\n" in card
    assert (done.url, done.private) == (f"{hub.address}/ada/nyc", True)
    assert hub.messages == ["adapter of step 4, by glowgenius"]


def test_a_dry_run_sends_nothing_and_lists_what_would_be_sent(hub, tuned):
    run, _ = tuned()
    told = push(run, hub, dry_run=True)
    assert (hub.repositories, hub.files) == ({}, {})
    assert {name for name, _ in told.files} == ADAPTER
    assert str(told).splitlines()[0] == "would upload to ada/nyc (private):"
    assert any(line.startswith("  adapter_model.safetensors  ") for line in str(told).splitlines())


def test_a_merged_model_is_uploaded_whole(hub, tuned):
    run, _ = tuned()
    push(run, hub, format="merged", private=False)
    assert hub.repositories == {"ada/nyc": False}
    assert set(uploaded(hub)) >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not set(uploaded(hub)) & {"metrics.jsonl", "checkpoints.jsonl", "held_out.jsonl", "glowgenius.json"}


def test_a_name_without_an_owner_is_ones_own(hub, tuned):
    run, _ = tuned()
    assert push(run, hub, name="nyc").repository == "ada/nyc"


def test_a_repository_that_is_there_gets_another_commit_and_a_public_one_is_refused(hub, tuned):
    run, _ = tuned()
    push(run, hub)
    push(run, hub)
    assert len(hub.messages) == 2
    hub.repositories["ada/open"] = False
    with pytest.raises(ConfigError, match="'ada/open' exists and is public; name another, or upload with"):
        push(run, hub, name="ada/open")
    assert not any(path.startswith("ada/open/") for path in hub.files)


def test_what_can_go_wrong_is_said(hub, tuned):
    run, _ = tuned()
    with pytest.raises(AuthenticationError, match=r"does not let this token write to 'ada/nyc' \(401\)"):
        push(run, hub, token="hf_other")  # noqa: S106 - of a test
    with pytest.raises(ConfigError, match="is no name of a repository"):
        push(run, hub, name="a b/c")
    hub.refuse = 400
    with pytest.raises(EngineError, match="the hub refused the upload to 'ada/nyc'"):
        push(run, hub)
    with pytest.raises(ServiceUnavailableError, match="the hub does not answer"):
        push(run, hub, endpoint="http://127.0.0.1:9")
    assert hub.files == {}
