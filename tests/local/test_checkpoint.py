"""Checkpoints: whole or not there, opened by PEFT as they are, and refused with reasons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch

from glowgenius.engines.offered import StoredCheckpoint, stored_checkpoint
from glowgenius.engines.tinker_types import AdamParams, ModelInput
from glowgenius.errors import CheckpointError, RequestRejectedError
from glowgenius.local import checkpoint
from tests.support.disk import files_end_at
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

    monkeypatch.setattr(checkpoint, "seal", broken)
    with pytest.raises(CheckpointError, match="No space left on device"):
        client.save_state("latest", overwrite=True).result()
    with pytest.raises(CheckpointError, match="No space left on device"):
        client.save_state("other").result()
    assert [entry.name for entry in path.parent.iterdir()] == ["latest"]
    assert checkpoint.read(str(path)).updates == 0


@pytest.mark.parametrize("size", [0, 200, 3000])
def test_a_disk_that_takes_no_more_is_an_error_of_ours_and_leaves_nothing(train_on, size):
    client = train_on()
    path = Path(client.save_state("latest").result().path)
    with files_end_at(size), pytest.raises(CheckpointError, match=r"could not be written: .*(File too large|os error)"):
        client.save_state("other").result()
    assert [entry.name for entry in path.parent.iterdir()] == ["latest"]


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
        with pytest.raises(CheckpointError, match="not now"):
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


def state_of(path):
    return json.loads((Path(path) / "glowgenius.json").read_text())


def put_state(path, **changes):
    (Path(path) / "glowgenius.json").write_text(json.dumps({**state_of(path), **changes}))


def put_tensors(file, change):
    tensors = safetensors.torch.load_file(str(file))
    change(tensors)
    safetensors.torch.save_file(tensors, str(file))


def truncated(folder):
    file = folder / "adapter_model.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:100])
    return f"adapter_model.safetensors has 100 bytes where {size:,} were written"


def flipped(name, place):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)
        return f"{name} is not what was written, as its SHA-256 shows"

    return damage


def no_json(folder):
    (folder / "glowgenius.json").write_text("")
    return "glowgenius.json is not JSON: Expecting value: line 1 column 1 (char 0)"


def no_mapping(folder):
    (folder / "glowgenius.json").write_text("[]")
    return "glowgenius.json has None for 'format'"


def no_base_model(folder):
    state = state_of(folder)
    del state["base_model"]
    (folder / "glowgenius.json").write_text(json.dumps(state))
    return "glowgenius.json has None for 'base_model'"


def deep(folder):
    (folder / "glowgenius.json").write_text("[" * 100_000)
    with pytest.raises(RecursionError) as caught:
        json.loads("[" * 100_000)
    return f"RecursionError: {caught.value}"


def another_step(folder):
    put_state(folder, updates=2)
    return "glowgenius.json is not what was written, as its digest shows"


def no_matrices(folder):
    (folder / "adapter_model.safetensors").unlink()
    return "adapter_model.safetensors is missing"


def no_optimizer(folder):
    (folder / "optimizer.safetensors").unlink()
    return "optimizer.safetensors is missing"


DAMAGES = [
    truncated,
    flipped("adapter_model.safetensors", 20),
    flipped("adapter_model.safetensors", -1),
    flipped("optimizer.safetensors", -1),
    flipped("adapter_config.json", 5),
    no_json,
    no_mapping,
    no_base_model,
    deep,
    another_step,
    no_matrices,
    no_optimizer,
]


@pytest.fixture
def trained(train_on):
    """The path of a state with one update."""

    def make():
        client = train_on()
        client.forward_backward(data(tiny_rows(1)), "cross_entropy")
        client.optim_step(AdamParams(learning_rate=1e-2))
        return client.save_state("here").result().path

    return make


def refusal(read, path):
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return str(caught.value)


def as_damaged(path, reason):
    return (
        f"the checkpoint at {path!r} cannot be read: {reason}. Its files are incomplete or damaged; use another "
        "checkpoint of the run."
    )


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(trained, service, damage):
    path = trained()
    expected = as_damaged(path, damage(Path(path)))
    assert refusal(stored_checkpoint, path) == expected
    assert (
        refusal(lambda path: service.create_training_client_from_state_with_optimizer(path).result(), path) == expected
    )


def test_no_bit_of_a_checkpoint_can_change(trained):
    """One bit of every file, at places all over it: each is noticed."""
    path = trained()
    for file in sorted(Path(path).iterdir()):
        content = file.read_bytes()
        for place in range(0, len(content), max(1, len(content) // 12)):
            changed = bytearray(content)
            changed[place] ^= 1 << place % 8
            file.write_bytes(changed)
            with pytest.raises(CheckpointError):
                stored_checkpoint(path)
        file.write_bytes(content)
    assert stored_checkpoint(path).updates == 1


def of_an_earlier_version(path):
    """As it was written before there were digests."""
    state = {name: value for name, value in state_of(path).items() if name not in {"files", "digest"}}
    (Path(path) / "glowgenius.json").write_text(json.dumps(state))
    return path


A = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
MOMENT = "model.layers.0.mlp.down_proj.lora_A"


def test_a_state_of_an_earlier_version_is_read(trained, service):
    new = trained()
    told = stored_checkpoint(new)
    path = of_an_earlier_version(new)
    assert stored_checkpoint(path) == StoredCheckpoint(path=path, updates=1, resumable=True, digest=None)
    assert told == StoredCheckpoint(path=path, updates=1, resumable=True, digest=told.digest)
    assert service.create_training_client_from_state_with_optimizer(path).result()._updates == 1


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("adapter_model", lambda t: t[A].zero_(), f"adapter_model.safetensors: {A!r} is zero throughout"),
        ("adapter_model", lambda t: t.pop(A), f"adapter_model.safetensors lacks 1 of 30 tensors, such as {A!r}"),
        ("adapter_model", lambda t: t.clear(), "adapter_model.safetensors holds no tensors"),
        (
            "adapter_model",
            lambda t: t.update(other=torch.ones(2)),
            "adapter_model.safetensors lacks 2 of 32 tensors, such as 'base_model.model..lora_A.weight'",
        ),
        (
            "adapter_model",
            lambda t: t.update({A: torch.ones(3, 48)}),
            f"adapter_model.safetensors: {MOMENT!r} has the shape [3, 48], which is not of rank 4",
        ),
        (
            "adapter_model",
            lambda t: t.update({A: t[A].half()}),
            f"adapter_model.safetensors: {A!r} is of the type F16 where float32 was written",
        ),
        (
            "optimizer",
            lambda t: t.clear(),
            "optimizer.safetensors lacks 90 of 90 tensors, such as 'lm_head.lora_A.exp_avg'",
        ),
        (
            "optimizer",
            lambda t: [t.pop(f"{MOMENT}.{which}") for which in ("step", "exp_avg", "exp_avg_sq")],
            f"optimizer.safetensors lacks 3 of 90 tensors, such as '{MOMENT}.exp_avg'",
        ),
        (
            "optimizer",
            lambda t: t.update({f"{MOMENT}.more": torch.ones(1)}),
            f"optimizer.safetensors holds '{MOMENT}.more', which belongs to no matrix of the adapter",
        ),
        (
            "optimizer",
            lambda t: t.update({f"{MOMENT}.exp_avg": torch.ones(4, 3)}),
            f"optimizer.safetensors: '{MOMENT}.exp_avg' has the shape [4, 3] where its matrix needs [4, 48]",
        ),
        (
            "optimizer",
            lambda t: t.update({f"{MOMENT}.step": torch.tensor(7.0)}),
            f"optimizer.safetensors: '{MOMENT}.step' is 7 where glowgenius.json says 1 updates",
        ),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused_without_digests_too(trained, service, file, change, reason):
    path = of_an_earlier_version(trained())
    put_tensors(Path(path) / f"{file}.safetensors", change)
    assert refusal(stored_checkpoint, path) == as_damaged(path, reason)
    resume = service.create_training_client_from_state_with_optimizer
    assert refusal(lambda path: resume(path).result(), path) == as_damaged(path, reason)


def test_bytes_that_are_no_tensors_are_refused_without_digests_too(trained):
    path = of_an_earlier_version(trained())
    for file in ("adapter_model.safetensors", "optimizer.safetensors"):
        content = (Path(path) / file).read_bytes()
        for damaged in (content[:100], bytes(len(content)), b""):
            (Path(path) / file).write_bytes(damaged)
            with pytest.raises(safetensors.SafetensorError) as theirs:
                safetensors.torch.load_file(str(Path(path) / file))
            assert refusal(stored_checkpoint, path) == as_damaged(path, f"{file}: {theirs.value}")
        (Path(path) / file).write_bytes(content)


def test_a_checkpoint_can_be_told_without_torch(trained, train_on):
    path = trained()
    weights = train_on().save_weights_for_sampler("here").result().path
    script = (
        "import sys\n"
        "from glowgenius.engines.offered import stored_checkpoint\n"
        "for path in sys.argv[1:]:\n"
        "    found = stored_checkpoint(path)\n"
        "    print(found and (found.updates, found.resumable, len(found.digest)))\n"
        "assert 'torch' not in sys.modules\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, path, weights, "tinker://run/weights/1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == ["(1, True, 64)", "(0, False, 64)", "None"]


def test_everything_is_on_the_disk_before_the_checkpoint_can_be_seen(train_on, monkeypatch):
    client = train_on()
    client.save_state("first").result()
    calls, sync, replace = [], os.fsync, Path.replace

    def fsync(descriptor):
        calls.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        sync(descriptor)

    def rename(self, target):
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    path = Path(client.save_state("second").result().path)
    before, after = calls[: calls.index("rename")], calls[calls.index("rename") + 1 :]
    assert sorted(before[:-1]) == sorted(one.name for one in path.iterdir())
    assert before[-1].startswith(".second-")
    assert after == [above.name for above in path.parents[:4]]


def test_others_may_read_a_checkpoint_as_they_may_read_any_file(train_on):
    path = Path(train_on().save_state("here").result().path)
    (path.parent / "any").write_text("")
    (path.parent / "folder").mkdir()
    assert {one.stat().st_mode for one in path.iterdir()} == {(path.parent / "any").stat().st_mode}
    assert path.stat().st_mode == (path.parent / "folder").stat().st_mode


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
