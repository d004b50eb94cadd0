"""Checkpoints: whole or not there, opened by PEFT as they are, and refused with reasons."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch

from glowgenius.engines.tinker_types import AdamParams, ModelInput
from glowgenius.errors import CheckpointError, RequestRejectedError
from glowgenius.local import checkpoint
from tests.support.local_engine import data, plain_model, stir, tiny_rows
from tests.support.tiny_models import ARCHITECTURES, write_tiny_model

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_peft_opens_the_weights_for_sampling(train_on, service, tiny, architecture):
    from peft import PeftModel

    client = train_on(architecture, rank=3, alpha=7.5)
    stir(client)
    client.forward_backward(data(tiny_rows(1)), "cross_entropy")
    client.optim_step(AdamParams(learning_rate=1e-2))
    path = client.save_weights_for_sampler("final").result().path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied embeddings, which is what is tested
        theirs = PeftModel.from_pretrained(plain_model(tiny(architecture)), path).eval()
    ids = torch.tensor([PROMPT])
    with torch.no_grad(), client._model.using(client._adapter) as network:
        ours, base = network(ids).logits, plain_model(tiny(architecture))(ids).logits
        assert torch.allclose(theirs(input_ids=ids).logits, ours, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(base, ours, atol=1e-2)
    restored = service.create_sampling_client(model_path=path).result()
    live = client.save_weights_and_get_sampling_client().result()
    prompt = ModelInput.from_ints(PROMPT)
    assert restored.compute_logprobs(prompt).result() == live.compute_logprobs(prompt).result()


def test_a_checkpoint_is_safetensors_and_json(train_on):
    client = train_on()
    state, weights = (
        Path(saved.result().path)
        for saved in (client.save_state("a", user_metadata={"step": "3"}), client.save_weights_for_sampler("a"))
    )
    files = ["adapter_config.json", "adapter_model.safetensors", "glowgenius.json"]
    assert sorted(path.name for path in weights.iterdir()) == files
    assert sorted(path.name for path in state.iterdir()) == [*files, "optimizer.safetensors"]
    assert (state.parent.name, weights.parent.name) == ("weights", "sampler_weights")
    saved = checkpoint.read(str(state))
    assert (saved.metadata, saved.updates, saved.spec.rank) == ({"step": "3"}, 0, 4)
    config = json.loads((state / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 32.0, "LORA")
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "lm_head", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip


def test_a_name_is_used_once_unless_overwriting_is_asked_for(train_on):
    client = train_on()
    path = Path(client.save_state("latest").result().path)
    client.save_weights_for_sampler("latest").result()
    for save in (client.save_state, client.save_weights_for_sampler):
        with pytest.raises(RequestRejectedError) as caught:
            save("latest").result()
        folder = path.parent if save == client.save_state else path.parent.with_name("sampler_weights")
        assert str(caught.value) == (
            f"there is a checkpoint named 'latest' in {folder}; choose another name or pass overwrite=True to "
            "save_state()"
        )
    client.forward_backward(data(tiny_rows(1)), "cross_entropy")
    client.optim_step(AdamParams())
    client.save_state("latest", overwrite=True).result()
    assert checkpoint.read(str(path)).updates == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["latest"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a:b"])
def test_a_name_that_is_no_word_is_refused(train_on, name):
    client = train_on()
    for save in (client.save_state, client.save_weights_for_sampler):
        with pytest.raises(RequestRejectedError) as caught:
            save(name)
        assert str(caught.value) == f"a checkpoint's name is one word without '/', '\\' or ':', got {name!r}"


def test_a_write_that_fails_leaves_the_old_checkpoint(train_on, monkeypatch):
    client = train_on()
    path = Path(client.save_state("latest").result().path)

    def broken(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_write_json", broken)
    with pytest.raises(OSError, match="No space left on device"):
        client.save_state("latest", overwrite=True).result()
    with pytest.raises(OSError, match="No space left on device"):
        client.save_state("other").result()
    assert [entry.name for entry in path.parent.iterdir()] == ["latest"]
    assert checkpoint.read(str(path)).updates == 0


def test_an_overwrite_that_fails_at_the_last_moment_brings_the_old_one_back(train_on, monkeypatch):
    client = train_on()
    path = Path(client.save_state("latest").result().path)
    replace = Path.replace

    def stubborn(self, target):
        if Path(target) == path and not self.name.endswith(".old"):
            raise OSError("not now")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stubborn)
    for name in ("latest", "other"):
        path = path.with_name(name)
        with pytest.raises(OSError, match="not now"):
            client.save_state(name, overwrite=True).result()
    assert [entry.name for entry in path.parent.iterdir()] == ["latest"]
    assert checkpoint.read(str(path.with_name("latest"))).updates == 0


def test_a_path_without_a_checkpoint_is_refused(service, tmp_path):
    path = str(tmp_path / "nothing")
    message = (
        f"no checkpoint at {path!r}. Accepted: the `.path` that save_state() or save_weights_for_sampler() of the "
        "local engine returned, a folder with glowgenius.json and adapter_model.safetensors."
    )
    for create in (
        lambda: service.create_sampling_client(model_path=path),
        lambda: service.create_training_client_from_state(path),
        lambda: service.create_training_client_from_state_with_optimizer(path),
    ):
        with pytest.raises(CheckpointError) as caught:
            create().result()
        assert str(caught.value) == message


def test_weights_for_sampling_are_not_trained_on(train_on, service):
    path = train_on().save_weights_for_sampler("final").result().path
    for create in (
        service.create_training_client_from_state,
        service.create_training_client_from_state_with_optimizer,
    ):
        with pytest.raises(CheckpointError) as caught:
            create(path).result()
        assert str(caught.value) == (
            f"{path!r} was written by save_weights_for_sampler(): it holds no optimizer state and is for sampling. "
            "Train on from the path of a save_state()."
        )


def truncated(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.torch.load_file(str(file))
    return f"ValueError: adapter_model.safetensors: {caught.value}"


def no_json(folder):
    (folder / "glowgenius.json").write_text("")
    return "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"


def no_base_model(folder):
    state = json.loads((folder / "glowgenius.json").read_text())
    del state["base_model"]
    (folder / "glowgenius.json").write_text(json.dumps(state))
    return "KeyError: 'base_model'"


def no_mapping(folder):
    (folder / "glowgenius.json").write_text("[]")
    return "TypeError: list indices must be integers or slices, not str"


def no_matrices(folder):
    (folder / "adapter_model.safetensors").unlink()
    return f"FileNotFoundError: No such file or directory: {folder / 'adapter_model.safetensors'}"


@pytest.mark.parametrize("damage", [truncated, no_json, no_base_model, no_mapping, no_matrices])
def test_a_damaged_checkpoint_is_refused(train_on, service, damage):
    path = train_on().save_state("here").result().path
    reason = damage(Path(path))
    with pytest.raises(CheckpointError) as caught:
        service.create_training_client_from_state_with_optimizer(path).result()
    assert str(caught.value) == (
        f"the checkpoint at {path!r} cannot be read: {reason}. Its files are incomplete or damaged; use another "
        "checkpoint of the run."
    )


def test_a_checkpoint_of_a_later_version_is_refused(train_on):
    path = train_on().save_state("here").result().path
    state = json.loads((Path(path) / "glowgenius.json").read_text())
    (Path(path) / "glowgenius.json").write_text(json.dumps({**state, "format": 9}))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    assert str(caught.value) == f"the checkpoint at {path!r} has format 9, this version reads 1: update glowgenius"


def wider(tmp_path):
    return write_tiny_model(tmp_path / "wider", vocab_size=300), (
        "its matrices for 'lm_head' have the shapes [[4, 32], [259, 4]], the layer takes [[4, 32], [300, 4]]"
    )


def shorter(tmp_path):
    return write_tiny_model(tmp_path / "shorter", num_hidden_layers=1), (
        "it holds matrices for 'model.layers.1.mlp.down_proj', no layer of the model"
    )


def longer(tmp_path):
    return write_tiny_model(tmp_path / "longer", num_hidden_layers=3), (
        "it holds no matrices for 'model.layers.2.self_attn.q_proj'"
    )


@pytest.mark.parametrize("other", [wider, shorter, longer])
def test_a_checkpoint_of_another_model_is_refused(train_on, service, tiny, tmp_path, other):
    client = train_on()
    state, weights = client.save_state("s").result().path, client.save_weights_for_sampler("w").result().path
    directory, reason = other(tmp_path)
    for path, create in (
        (state, service.create_training_client_from_state),
        (weights, service.create_sampling_client),
    ):
        with pytest.raises(CheckpointError) as caught:
            create(path, str(directory)).result()
        assert str(caught.value) == (
            f"the checkpoint at {path!r}, trained on {str(tiny())!r}, does not fit {str(directory)!r}: {reason}. "
            "Open it on the base model that it was trained on."
        )


def test_a_copy_of_the_base_model_will_do(train_on, service, tmp_path):
    client = train_on()
    stir(client)
    path = client.save_weights_for_sampler("w").result().path
    copy = write_tiny_model(tmp_path / "copy")
    prompt = ModelInput.from_ints(PROMPT)
    moved = service.create_sampling_client(model_path=path, base_model=str(copy)).result()
    assert moved.get_base_model() == str(copy)
    stayed = client.create_sampling_client(path).result()
    assert moved.compute_logprobs(prompt).result() == stayed.compute_logprobs(prompt).result()
