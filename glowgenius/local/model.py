"""A base model in memory: frozen, with a place for an adapter beside each linear layer."""

from __future__ import annotations

import functools
import hashlib
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, final

import torch
from torch import nn
from torch.utils import checkpoint as checkpointing

from glowgenius.errors import EngineError, ModelNotFoundError
from glowgenius.local.adapter import Active, Adapter, AdapterSpec, LoraLinear, fresh, kind_of
from glowgenius.local.native.llama import Llama, unsuitable
from glowgenius.local.native.plain_model import Layout
from glowgenius.local.native.plain_model import read as plain_read
from glowgenius.models.catalog import model_directory
from glowgenius.models.hub import load_causal_lm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import numpy as np

    from glowgenius.local.native.plain_model import PlainModel, Rotary


_ATTENTION_KINDS = {"full_attention", "sliding_attention"}
"""Kinds of layers that a mask can keep apart: others carry a state over from one packed sequence to the next."""

_ACCEPTED = (
    "Accepted: dense models whose attention, MLP and unembedding are standard linear layers "
    "(Llama, SmolLM2, Qwen2, Qwen3, Mistral, Gemma 3). Larger and mixture-of-experts models train on Tinker."
)


@final
class BaseModel:
    """One set of frozen weights, shared by every adapter on it.

    Only one adapter is applied at a time; `using` chooses it and keeps others waiting.
    """

    def __init__(self, name: str, directory: Path, device: str, dtype: torch.dtype) -> None:
        self.name = name
        """The name that the user gave."""
        self.directory = directory
        self.device = torch.device(device)
        self.dtype = dtype
        """Of the frozen weights and the activations; adapters and their optimizer are always fp32."""
        self._active = Active()
        self._lock = threading.RLock()
        self._ready: weakref.WeakKeyDictionary[object, tuple[Layout, Llama]] = weakref.WeakKeyDictionary()
        self._kinds: dict[str, str] = {}
        self.kept: dict[AdapterSpec, np.polynomial.Polynomial] = {}
        """How many bytes the modules save for the backward pass, by the number of tokens, as far as it was measured."""
        self._layers: dict[str, LoraLinear] = {}
        self._others: dict[str, torch.Tensor] = {}
        """Frozen numbers outside of the layers, where they were read without `transformers`."""
        read = plain_read(directory, self.device, dtype)
        self.config: Any = self.network.config.get_text_config() if read is None else read.config
        """What `config.json` says, as attributes."""
        self.architecture: str = type(self.network).__name__ if read is None else read.architecture
        """The class that `transformers` has for it."""
        self.slow_because = unsuitable(self.network.config) if read is None else None
        """Why the model is computed by the modules of `transformers`; None where the native engine computes it."""
        if read is None:
            self._wrap()
        else:
            self._place(read)
        self.llama: Llama | None = None
        """The native engine, where it supports the model."""
        self.proved = False
        """Whether the native engine was compared with `transformers` on this device."""
        if self.slow_because is None:
            weights = dict(self.network.named_parameters()) if read is None else read.weights
            rotary = _rotary(self.network) if read is None else read.rotary
            self.llama = Llama(self.config, weights, self._layers, rotary)

    def use_transformers(self, reason: str) -> None:
        """Compute the model by the modules of `transformers` from now on."""
        self.llama, self.slow_because = None, reason

    @contextmanager
    def through_transformers(self) -> Generator[None]:
        """Compute the model by the modules of `transformers` meanwhile."""
        with self._lock:
            native, self.llama = self.llama, None
            try:
                yield
            finally:
                self.llama = native

    @functools.cached_property
    def network(self) -> Any:
        """The modules of `transformers`, with a place for an adapter in each linear layer.

        A model that was read without them gets them when they are asked for, on the same frozen numbers.
        """
        loaded = load_causal_lm(
            self.directory, attention=_attention(self.device, self.dtype), dtype=str(self.dtype).removeprefix("torch.")
        )
        network: Any = loaded.to(self.device)
        for name, value in self._others.items():
            _put(network, name, nn.Parameter(value, requires_grad=False))
        for name, part in self._layers.items():
            _put(network, name, part)
        network.requires_grad_(requires_grad=False)
        lists = [one for one in network.modules() if isinstance(one, nn.ModuleList)]
        decoder = next((one for one in lists if len(one) == network.config.get_text_config().num_hidden_layers), ())
        for index, layer in enumerate(decoder):
            layer.forward = functools.partial(_checkpointed, layer.forward, self._active, index)
        return network

    @property
    def vocabulary_size(self) -> int:
        """How many token ids the model knows."""
        return int(self.config.vocab_size)

    @property
    def max_length(self) -> int | None:
        """The longest sequence the model was made for, in tokens, where its config says so."""
        return cast("int | None", getattr(self.config, "max_position_embeddings", None))

    @property
    def sliding_window(self) -> int | None:
        """The attention window of layers that see only the latest tokens, where the model has such layers."""
        if self._layer_types and "sliding_attention" not in self._layer_types:
            return None
        return cast("int | None", getattr(self.config, "sliding_window", None))

    @property
    def mixes_attention(self) -> bool:
        """Whether some layers see everything and others only a window (Gemma 3)."""
        return len(self._layer_types) > 1

    @property
    def _layer_types(self) -> set[str]:
        return set(cast("list[str]", getattr(self.config, "layer_types", None) or []))

    def fresh_adapter(self, spec: AdapterSpec) -> Adapter:
        """A new adapter on the layers that *spec* names."""
        return fresh(spec, self.adapted_layers(spec))

    def adapted_layers(self, spec: AdapterSpec) -> dict[str, LoraLinear]:
        """The layers that *spec* trains, by name, in the model's order."""
        wanted = {"mlp": spec.train_mlp, "attn": spec.train_attn, "unembed": spec.train_unembed}
        return {name: layer for name, layer in self._layers.items() if wanted[self._kinds[name]]}

    def ready(self, owner: object, adapter: Adapter | None, layout: Layout) -> Llama:
        """The native engine with *adapter* in its weights, in the *layout* of sampling.

        It is kept until there is another *owner*, or none: it takes as much memory as the weights themselves.
        """
        if self.llama is None:
            raise EngineError(f"{self.name!r} is not computed by the native engine: {self.slow_because}")
        with self._lock:
            kept = self._ready.get(owner)
            if kept is None or (kept[0] is Layout.ONE and layout is not Layout.ONE):
                kept = None
                self._ready.clear()
                kept = self._ready[owner] = layout, self.llama.ready(adapter, layout)
            return kept[1]

    @contextmanager
    def using(self, adapter: Adapter | None, *, again: int = 0) -> Generator[Any]:
        """The network with *adapter* applied; None is the base model, bit for bit.

        The lowest *again* decoder layers keep their input alone, and are computed again in the backward pass.
        """
        with self._lock:
            self._active.adapter, self._active.again = adapter, again
            try:
                yield self.network
            finally:
                self._active.adapter, self._active.again = None, 0

    def weights_hash(self) -> str:
        """sha256 over every frozen weight, to prove that training left them alone."""
        digest = hashlib.sha256()
        for name, value in sorted(self._state().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _state(self) -> dict[str, torch.Tensor]:
        if "network" in vars(self):
            state: dict[str, torch.Tensor] = self.network.state_dict()
            return state
        layers = {
            f"{name}.{part}": value for name, one in self._layers.items() for part, value in one.state_dict().items()
        }
        return {**self._others, **layers}

    def _wrap(self) -> None:
        """Put a `LoraLinear` in the place of every linear layer that can carry an adapter."""
        head = self.network.get_output_embeddings()
        for name, module in list(self.network.named_modules()):
            kind = "unembed" if module is head else kind_of(name)
            if kind is None or not isinstance(module, nn.Linear):
                continue
            self._layers[name], self._kinds[name] = LoraLinear(name, module.weight, module.bias, self._active), kind
            _put(self.network, name, self._layers[name])
        if reason := self._untrainable():
            raise ModelNotFoundError(
                f"the local engine cannot train {self.name!r} ({self.architecture}): {reason}. {_ACCEPTED}"
            )

    def _place(self, read: PlainModel) -> None:
        """Make a `LoraLinear` of every linear layer that was *read*."""
        self._others = dict(read.weights)
        for name in read.linear:
            weight, bias = self._others.pop(f"{name}.weight"), self._others.pop(f"{name}.bias", None)
            self._layers[name] = LoraLinear(name, weight, bias, self._active)
            self._kinds[name] = kind_of(name) or "unembed"

    def _untrainable(self) -> str | None:
        """Why the model cannot be packed and adapted here, if it cannot."""
        if any(".experts." in name for name, _ in self.network.named_parameters()):
            return "it routes tokens to experts"
        if other := sorted(self._layer_types - _ATTENTION_KINDS):
            return f"it has layers of kind {', '.join(map(repr, other))}"
        if any(isinstance(module, nn.Conv1d) for module in self.network.modules()):
            return "it has convolutions over the sequence"
        if missing := sorted({"attn", "mlp", "unembed"} - set(self._kinds.values())):
            return f"no linear layers of kind {', '.join(map(repr, missing))} were found"
        return None


def _put(network: Any, name: str, part: object) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, part)


def _rotary(network: Any) -> Rotary:
    """The rotary embedding of a Llama-shaped *network*, which repeats every angle for the other half of the head."""

    def rotary(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = network.model.rotary_emb(network.model.embed_tokens.weight, positions[None])
        half = cos.shape[-1] // 2
        return cos[0, :, :half], sin[0, :, :half]

    return rotary


def _checkpointed(forward: Callable[..., Any], active: Active, index: int, *inputs: Any, **named: Any) -> Any:
    """*forward*, of which autograd keeps the inputs alone where the layer is one that is computed again.

    Not by `gradient_checkpointing_enable()` of `transformers`, which asks for the training mode, and so for dropout.
    """
    if index >= active.again or not torch.is_grad_enabled():
        return forward(*inputs, **named)
    again = cast("Any", checkpointing).checkpoint  # torch leaves it untyped
    return again(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)


_loaded: weakref.WeakValueDictionary[tuple[str, str, torch.dtype], BaseModel] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def base_model(name: str, device: str, dtype: torch.dtype) -> BaseModel:
    """The base model *name* on *device*; loaded once per process while anybody holds it.

    Raises:
        ModelNotFoundError: There is no such model, or its architecture cannot be trained here.
    """
    directory = model_directory(name)
    key = (str(directory), device, dtype)
    with _loading:
        model = _loaded.get(key)
        if model is None:
            model = BaseModel(name, directory, device, dtype)
            _loaded[key] = model
        return model


def _attention(device: torch.device, dtype: torch.dtype) -> str:
    """Torch's fused attention, except in bf16 on a CPU, where plain products took 0.8 of its time (SmolLM2, packed)."""
    return "eager" if device.type == "cpu" and dtype == torch.bfloat16 else "sdpa"
