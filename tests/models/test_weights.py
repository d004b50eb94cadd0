"""The fingerprint of weights: another one for other weights, whatever kind of file they are in."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from glowgenius.models.weight_files import weights_fingerprint


def write(folder, *, seed=0, names=("a", "b"), scale=1.0):
    generator = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    tensors = {name: (generator.normal(size=(40, 30)) * scale).astype(np.float32) for name in names}
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_the_same_weights_have_the_same_fingerprint_wherever_they_lie(tmp_path):
    folder = write(tmp_path / "here")
    copy = shutil.copytree(folder, tmp_path / "there")
    assert weights_fingerprint(folder) == weights_fingerprint(copy)


@pytest.mark.parametrize("change", [{"seed": 1}, {"names": ("a", "c")}, {"names": ("a",)}, {"scale": 1.001}])
def test_other_weights_have_another(tmp_path, change):
    assert weights_fingerprint(write(tmp_path / "a")) != weights_fingerprint(write(tmp_path / "b", **change))


@pytest.mark.parametrize("name", ["a", "b"])
def test_one_tensor_that_was_trained_further_has_another(tmp_path, name):
    folder = write(tmp_path / "a")
    before = weights_fingerprint(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, name: tensors[name] + np.float32(1e-3)}, folder / "model.safetensors")
    assert weights_fingerprint(folder) != before


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\xff" * 100, bytes(1000), (20).to_bytes(8, "little") + b"{" * 20]
)
def test_a_damaged_file_has_one_as_well(tmp_path, content):
    folder = write(tmp_path / "a")
    whole = weights_fingerprint(folder)
    (folder / "model.safetensors").write_bytes(content)
    assert weights_fingerprint(folder) not in (None, whole)


def test_a_folder_without_weights_has_none(tmp_path):
    assert weights_fingerprint(tmp_path) is None
