"""A GGUF file becomes the model that it was made from: once, and whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from glowgenius.errors import ModelNotFoundError, StorageError
from glowgenius.models import weight_files
from glowgenius.models.hub import load_causal_lm, load_config, load_tokenizer
from tests.support import tiny_gguf
from tests.support.disk import files_end_at
from tests.support.tiny_gguf import tokens, write_tiny_gguf
from tests.support.tiny_models import CHAT_TEMPLATE

torch = pytest.importorskip("torch")
pytest.importorskip("gguf")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_the_converted_model_is_the_one_it_was_made_from(tmp_path, tied):
    original = write_tiny_gguf(tmp_path / "tiny.gguf", tied=tied)
    folder = weight_files.converted(tmp_path / "tiny.gguf", tmp_path / "converted")
    model = load_causal_lm(folder)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, original(ids).logits)
    config = load_config(str(folder))
    assert (config["tie_word_embeddings"], config["rms_norm_eps"], config["bos_token_id"]) == (tied, 1e-5, 1)


def test_the_tokenizer_is_that_of_the_file(tmp_path, file):
    tokenizer = load_tokenizer(str(weight_files.converted(file, tmp_path / "converted")))
    vocabulary = tokens()
    assert [vocabulary[i] for i in tokenizer.encode("the the 34")] == ["t", "he", "Ġthe", "Ġ", "3", "4"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.encode("<|im_start|>a") == [1, vocabulary.index("a")]
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert len(tokenizer) == len(vocabulary)
    text = "Ämter & \n 34 St–Penn Station\t✓  <|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_are_split_where_the_file_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_gguf, "MERGES", ("1 8",))
    for name, expected in (("smollm", ["1", "8", "8", "3"]), ("gpt-2", ["18", "8", "3"])):
        write_tiny_gguf(tmp_path / f"{name}.gguf", splitting=name)
        tokenizer = load_tokenizer(str(weight_files.converted(tmp_path / f"{name}.gguf", tmp_path / name)))
        assert tokenizer.convert_ids_to_tokens(tokenizer.encode("1883")) == expected


def test_conversion_happens_once(tmp_path, file):
    folder = weight_files.converted(file, tmp_path / "models" / "tiny")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert weight_files.converted(file, folder) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert sorted(before) == [
        "config.json", "converted_from.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_another_file_or_converter_is_converted_anew(tmp_path, file, monkeypatch):
    folder = weight_files.converted(file, tmp_path / "models" / "tiny")
    (folder / "config.json").unlink()
    monkeypatch.setattr(weight_files, "_CONVERTER", weight_files._CONVERTER + 1)
    weight_files.converted(file, folder)
    assert (folder / "config.json").is_file()
    assert json.loads((folder / "converted_from.json").read_text()) == {
        "converter": weight_files._CONVERTER,
        "file": "tiny.gguf",
        "bytes": file.stat().st_size,
    }
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_an_interrupted_conversion_leaves_nothing_half_made(tmp_path, file, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(weight_files, "_write_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weight_files.converted(file, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []
    monkeypatch.undo()
    assert weight_files.converted(file, tmp_path / "models" / "tiny").is_dir()


def test_who_converts_second_keeps_what_the_first_has_made(tmp_path, file, monkeypatch):
    folder = tmp_path / "models" / "tiny"
    convert, made = weight_files._convert, []

    def overtaken(source, working):
        convert(source, working)
        monkeypatch.setattr(weight_files, "_convert", convert)
        made.append((weight_files.converted(file, folder) / "config.json").stat().st_ino)

    monkeypatch.setattr(weight_files, "_convert", overtaken)
    assert weight_files.converted(file, folder) == folder
    assert [(folder / "config.json").stat().st_ino] == made
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_folder_that_cannot_be_replaced_is_an_error(tmp_path, file):
    folder = tmp_path / "models" / "tiny"
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    with pytest.raises(StorageError, match="models/tiny' cannot be written: Not a directory; choose another path"):
        weight_files.converted(file, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("size", [0, 500, 5000])
def test_a_disk_that_takes_no_more_is_an_error_of_ours_and_leaves_nothing(tmp_path, file, size):
    with files_end_at(size), pytest.raises(StorageError, match="models/tiny' cannot be written: File too large"):
        weight_files.converted(file, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_losing_the_race_to_rename_is_no_error(tmp_path, file, monkeypatch):
    def overtaken(working, folder):
        shutil.copytree(working, folder)
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(Path, "replace", overtaken)
    folder = weight_files.converted(file, tmp_path / "models" / "tiny")
    assert (folder / "converted_from.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_stamp_that_cannot_be_read_is_no_stamp(tmp_path, file):
    folder = weight_files.converted(file, tmp_path / "tiny")
    (folder / "converted_from.json").write_text("")
    (folder / "config.json").unlink()
    assert (weight_files.converted(file, folder) / "config.json").is_file()


def test_an_architecture_that_is_not_llama_is_refused(tmp_path):
    write_tiny_gguf(tmp_path / "other.gguf", architecture="phi3")
    with pytest.raises(ModelNotFoundError) as caught:
        weight_files.converted(tmp_path / "other.gguf", tmp_path / "converted")
    assert str(caught.value) == (
        "other.gguf: architecture 'phi3' with tokenizer 'gpt2' cannot be converted; accepted: architecture 'llama' "
        "with tokenizer 'gpt2' (byte-level BPE). Convert other models to Hugging Face layout and pass the folder."
    )


@pytest.mark.parametrize("extra", ["rope_freqs.weight", "blk.0.ffn_gate_exps.weight"])
def test_a_tensor_without_a_place_is_refused(tmp_path, extra):
    write_tiny_gguf(tmp_path / "tiny.gguf", extra=extra)
    with pytest.raises(ModelNotFoundError) as caught:
        weight_files.converted(tmp_path / "tiny.gguf", tmp_path / "converted")
    assert str(caught.value) == (
        f"the GGUF file holds a tensor {extra!r}, which a llama-shaped model does not have. Convert the model to "
        "Hugging Face layout and pass the folder."
    )
    assert not (tmp_path / "converted").exists()
