"""The tiny models that engines are tested with are models: they load, answer, and round-trip text."""

from __future__ import annotations

import pytest

from tests.support.tiny_models import ARCHITECTURES, VOCABULARY_SIZE, read_config, write_tiny_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tiny_model_loads_and_depends_on_its_input_and_seed(tmp_path, architecture):
    import torch
    from transformers import AutoModelForCausalLM

    logits = []
    for seed in (0, 0, 1):
        directory = write_tiny_model(tmp_path / str(seed), architecture, seed=seed)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        logits.append(model(torch.tensor([[5, 6, 7], [6, 6, 7]])).logits)
    assert logits[0].shape == (2, 3, VOCABULARY_SIZE)
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=0.1)
    assert not torch.allclose(logits[0][0, -1], logits[0][1, -1], atol=0.01)


def test_the_tokenizer_of_a_tiny_model_round_trips_every_text(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(write_tiny_model(tmp_path))
    text = "Ämter & \n 34 St–Penn Station\t✓"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer) == VOCABULARY_SIZE == read_config(tmp_path)["vocab_size"]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.encode(chat)[:1] == [1]


def test_an_unknown_architecture_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no tiny 'bert'; there are: llama, qwen3, gemma3"):
        write_tiny_model(tmp_path, "bert")
