"""What the tests of the local engine share: rows, data, and the same model through transformers and PEFT."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from glowgenius.engines.tinker_types import Datum, ModelInput
from tests.support.tiny_models import VOCABULARY_SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.local.native.stream import Request

TinyRow = tuple[list[int], list[int], list[float]]
"""Inputs, targets and weights of one example."""


def tiny_rows(
    seed: int, lengths: Sequence[int] = (5, 21, 12, 30, 9), *, prefix: int = 0, all_tokens: bool = False
) -> list[TinyRow]:
    """Random examples; the first *prefix* tokens are the same in all of them, and few or *all_tokens* are trained."""
    generator = np.random.default_rng(seed)
    common = generator.integers(3, VOCABULARY_SIZE, prefix).tolist()
    rows: list[TinyRow] = []
    for length in lengths:
        tokens = [*common, *generator.integers(3, VOCABULARY_SIZE, length + 1).tolist()]
        total = len(tokens) - 1
        trained = total if all_tokens else max(1, length // 2)
        weights = [0.0] * (total - trained) + generator.uniform(0.25, 2.0, trained).round(3).tolist()
        rows.append((tokens[:-1], tokens[1:], weights))
    return rows


def datum(inputs: Sequence[int], targets: Sequence[int], weights: Sequence[float]) -> Datum:
    """One example as the engine takes it."""
    fields: dict[str, Any] = {"target_tokens": list(targets), "weights": list(weights)}
    return Datum(model_input=ModelInput.from_ints(list(inputs)), loss_fn_inputs=fields)


def data(rows: Sequence[TinyRow]) -> list[Datum]:
    """All examples as the engine takes them."""
    return [datum(*row) for row in rows]


def requests(prompts: Sequence[tuple[int, ...]], *, lengths: Sequence[int], temperature: float = 0.0) -> list[Request]:
    """One request for each prompt, of *lengths* in turn, with its index as its seed and nothing that stops it."""
    from glowgenius.local.native.stream import Request

    return [
        Request(
            prompt=prompt,
            max_tokens=lengths[index % len(lengths)],
            temperature=temperature,
            top_k=-1,
            top_p=1.0,
            seed=index,
            stop_tokens=frozenset(),
            stop_texts=(),
        )
        for index, prompt in enumerate(prompts)
    ]


def plain_model(directory: Any) -> Any:
    """The model through transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def plain_logprobs(model: Any, tokens: Sequence[int]) -> Any:
    """Log-probabilities of every next token, `[T, V]`: one sequence, one plain forward pass."""
    import torch

    return torch.log_softmax(model(input_ids=torch.tensor([list(tokens)])).logits[0], dim=-1)


def plain_loss(model: Any, rows: Sequence[TinyRow]) -> Any:
    """Σ −log p · weight, one sequence after another."""
    import torch

    total: Any = 0.0
    for inputs, targets, weights in rows:
        chosen = plain_logprobs(model, inputs)[torch.arange(len(targets)), torch.tensor(targets)]
        total = total - (chosen * torch.tensor(weights, dtype=chosen.dtype)).sum()
    return total


def stir(client: Any, seed: int = 5) -> None:
    """Give B random numbers: with B = 0 the gradient of A is 0, and nothing is compared."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in client._adapter.b.values():
            value.normal_(0.0, 0.05, generator=generator)


def peft_twin(directory: Any, adapter: Any) -> Any:
    """A PEFT model with the numbers of *adapter*."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=adapter.spec.rank,
        lora_alpha=adapter.spec.alpha,
        lora_dropout=0.0,
        target_modules=list(adapter.a),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied embeddings, which is what is tested
        model = get_peft_model(plain_model(directory), config)
    with torch.no_grad():
        for name, parameter in peft_parameters(model, adapter).items():
            layer, _, which = name.rpartition(".")
            parameter.copy_((adapter.a if which == "lora_A" else adapter.b)[layer])
    return model


def peft_parameters(model: Any, adapter: Any) -> dict[str, Any]:
    """The trained parameters of a PEFT model under the names of *adapter*."""
    found = dict(model.named_parameters())
    return {name: found[f"base_model.model.{name}.default.weight"] for name, _ in adapter.named_parameters()}


def difference(one: Any, other: Any) -> float:
    """How far two tensors are apart, relative to the second."""
    return float((one - other).norm() / other.norm().clamp(min=1e-12))
