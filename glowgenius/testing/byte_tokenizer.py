"""A byte tokenizer and a bigram model for tests."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import numpy as np
from attrs import evolve, frozen

from glowgenius._lazy import require
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from glowgenius.engines.tinker_types import AdamParams
    from glowgenius.typing import TokenArray, WeightArray

    Table: TypeAlias = npt.NDArray[np.float64]
    """A number for each pair of last and next token, `[V, V]`."""

CHATML_TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of a `ByteTokenizer`, in the form that SmolLM2 and Qwen have; it is rendered without jinja2."""

NUM_BYTES: Final = 256
"""Ids below this are bytes, ids from here on are special tokens."""


@final
class ByteTokenizer:
    """Satisfies `glowgenius.models.tokenizer.Tokenizer`, and encodes a text as its UTF-8 bytes.

    Token `t` below 256 is the byte `t`; the special tokens follow from 256 on, in the order given.
    As in a Hugging Face tokenizer, a special token written out in a text is encoded as that token.
    A chat template other than `CHATML_TEMPLATE` is rendered by jinja2, sandboxed.
    """

    def __init__(
        self,
        *,
        chat_template: str | None = CHATML_TEMPLATE,
        special_tokens: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos_token: str | None = None,
        eos_token: str | None = "<|im_end|>",  # noqa: S107 - a control token
        add_bos_token: bool = False,
    ) -> None:
        """Lay out the vocabulary.

        Args:
            chat_template: None for the tokenizer of a base model.
            special_tokens: Their ids are 256, 257 and so on.
            bos_token: One of *special_tokens*, or None.
            eos_token: One of *special_tokens*, or None.
            add_bos_token: Whether `encode` begins with BOS unless told otherwise.

        Raises:
            ConfigError: The special tokens are not distinct non-empty strings, or BOS or EOS is not among them.
        """
        if len(set(special_tokens)) != len(special_tokens) or "" in special_tokens:
            raise ConfigError(f"special_tokens must be distinct and not empty, got {list(special_tokens)}")
        for name, token in (("bos_token", bos_token), ("eos_token", eos_token)):
            if token is not None and token not in special_tokens:
                raise ConfigError(f"{name} must be None or one of {list(special_tokens)}, got {token!r}")
        if add_bos_token and bos_token is None:
            raise ConfigError("add_bos_token=True needs a bos_token")
        self.chat_template: Any = chat_template
        self.bos_token = bos_token
        self.eos_token = eos_token
        self._special = {text: NUM_BYTES + at for at, text in enumerate(special_tokens)}
        self._names = {token: text for text, token in self._special.items()}
        self._add_bos = add_bos_token
        # The longest first, so that of two that begin alike the longer one is found; the group keeps them in the split.
        longest = sorted(special_tokens, key=lambda text: -len(text))
        self._split = re.compile(f"({'|'.join(map(re.escape, longest))})") if longest else None

    @property
    def bos_token_id(self) -> int | None:
        """The id of `bos_token`."""
        return None if self.bos_token is None else self._special[self.bos_token]

    @property
    def eos_token_id(self) -> int | None:
        """The id of `eos_token`."""
        return None if self.eos_token is None else self._special[self.eos_token]

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, in the order of their ids."""
        return list(self._special)

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return list(self._special.values())

    def encode(self, text: str, *, add_special_tokens: bool = True, split_special_tokens: bool = False) -> list[int]:
        """The bytes of *text*, with special tokens as their ids, and BOS in front where the tokenizer adds it.

        Args:
            text: Any text.
            add_special_tokens: False leaves BOS out.
            split_special_tokens: True takes special tokens in *text* for text.
        """
        bos = self.bos_token_id
        tokens = [bos] if add_special_tokens and self._add_bos and bos is not None else []
        if split_special_tokens:
            return [*tokens, *text.encode()]
        for part in [text] if self._split is None else self._split.split(text):
            tokens.extend([self._special[part]] if part in self._special else part.encode())
        return tokens

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """The text of *token_ids*; bytes that are no UTF-8 become U+FFFD, and spaces are never tidied."""
        del clean_up_tokenization_spaces  # there is nothing to tidy; the argument is part of the interface
        pieces = (self._bytes_of(int(token), skip_special=skip_special_tokens) for token in token_ids)
        return b"".join(pieces).decode(errors="replace")

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The name of each special token; a byte as `<0x41>`."""
        return [self._names.get(int(token), f"<0x{int(token):02X}>") for token in ids]

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """The id of a special token, or of a byte written `<0x41>`; None for anything else."""
        return self.get_vocab().get(tokens)

    def get_vocab(self) -> dict[str, int]:
        """The 256 bytes as `<0x00>` … `<0xFF>`, and the special tokens."""
        return {f"<0x{byte:02X}>": byte for byte in range(NUM_BYTES)} | self._special

    def get_added_vocab(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return dict(self._special)

    def apply_chat_template(
        self,
        conversation: Iterable[Mapping[str, Any]],
        *,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The conversation as the template writes it: text, or a list of token ids with *tokenize*.

        Raises:
            ConfigError: There is no template, or *kwargs* ask for what only Hugging Face tokenizers give.
        """
        unknown = {"return_dict", "return_assistant_tokens_mask", "return_tensors"} & {
            k for k, v in kwargs.items() if v
        }
        if unknown:
            raise ConfigError(f"ByteTokenizer.apply_chat_template does not know {', '.join(sorted(unknown))}")
        if self.chat_template is None:
            raise ConfigError("this ByteTokenizer has no chat template; build it with chat_template=")
        messages = [dict(message) for message in conversation]
        text = (
            _chatml(messages, add_generation_prompt=add_generation_prompt)
            if self.chat_template == CHATML_TEMPLATE
            else self._jinja(messages, add_generation_prompt=add_generation_prompt, **kwargs)
        )
        return self.encode(text, add_special_tokens=False) if tokenize else text

    def __len__(self) -> int:
        return NUM_BYTES + len(self._special)

    def _bytes_of(self, token: int, *, skip_special: bool) -> bytes:
        if token in self._names:
            return b"" if skip_special else self._names[token].encode()
        if not 0 <= token < NUM_BYTES:
            raise ConfigError(f"token ids are 0 … {len(self) - 1}, got {token}")
        return bytes([token])

    def _jinja(self, messages: list[dict[str, Any]], **variables: Any) -> str:
        """The template rendered with the settings that Hugging Face uses."""
        sandbox: Any = require("jinja2.sandbox", extra="local", purpose="a chat template other than ChatML")
        environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise_exception
        template = environment.from_string(self.chat_template)
        specials = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        text: str = template.render(messages=messages, **specials, **variables)
        return text


def _chatml(messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
    """What `CHATML_TEMPLATE` writes."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join([*turns, "<|im_start|>assistant\n" if add_generation_prompt else ""])


def _raise_exception(message: str) -> None:
    """What templates call to refuse a conversation."""
    raise ValueError(message)


CLASSES = 256
"""Tokens are told apart modulo this number, V; whatever is drawn is a byte, which every tokenizer of bytes can read."""

LOGIT_PER_UNIT = 1000.0
"""How far one unit of parameter moves a logit: at a learning rate of 1e-4, Adam's first step moves it by about 0.1."""


@cache
def _base_logits(base_model: str) -> Table:
    """What a base model of that name knows, `[V, V]`: noise of its own."""
    seed = int.from_bytes(hashlib.sha256(base_model.encode()).digest()[:8], "little")
    logits = np.random.default_rng(seed).normal(0.0, 0.5, (CLASSES, CLASSES))
    logits.setflags(write=False)
    return logits


@cache
def _gains(seed: int) -> Table:
    """How fast each parameter learns, `[V, V]`: the part of the adapter that a seed decides."""
    gains = np.random.default_rng(seed).uniform(0.5, 1.5, (CLASSES, CLASSES)) * LOGIT_PER_UNIT
    gains.setflags(write=False)
    return gains


@final
@frozen(kw_only=True, eq=False)
class Bigram:
    """A base model, an adapter that starts at zero, and the state of its optimizer."""

    base_model: str
    """The name of the base model, which decides what is known before training."""

    seed: int
    """What decides the fixed half of the adapter."""

    parameters: Table
    """The trained half of the adapter, `[V, V]`; zero before the first update."""

    mean: Table
    """Adam's running mean of the gradient, `[V, V]`."""

    square: Table
    """Adam's running mean of the squared gradient, `[V, V]`."""

    updates: int = 0
    """How many updates the weights have had."""

    optimizer_steps: int = 0
    """How many updates the optimizer remembers: fewer than `updates` after a resume without its state."""

    @staticmethod
    def fresh(base_model: str, seed: int) -> Bigram:
        """An adapter that changes nothing yet."""
        zero: Table = np.zeros((CLASSES, CLASSES))
        return Bigram(base_model=base_model, seed=seed, parameters=zero, mean=zero, square=zero)

    def without_optimizer_state(self) -> Bigram:
        """The same weights, with an optimizer that has seen nothing."""
        zero: Table = np.zeros((CLASSES, CLASSES))
        return evolve(self, mean=zero, square=zero, optimizer_steps=0)

    def next_logprobs(self, last: TokenArray) -> Table:
        """The natural-log probability of every class after each token of *last*, `[T, V]`."""
        rows = np.asarray(last) % CLASSES
        logits = _base_logits(self.base_model)[rows] + _gains(self.seed)[rows] * self.parameters[rows]
        logits = logits - logits.max(axis=1, keepdims=True)
        normalised: Table = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return normalised

    def logprobs(self, inputs: TokenArray, targets: TokenArray) -> npt.NDArray[np.float64]:
        """The natural-log probability of each target after its input, `[T]`."""
        return self.next_logprobs(inputs)[np.arange(len(inputs)), np.asarray(targets) % CLASSES]

    def gradient(self, inputs: TokenArray, targets: TokenArray, weights: WeightArray) -> Table:
        """The gradient of Σ −logprob · weight, `[V, V]`."""
        errors = np.exp(self.next_logprobs(inputs))
        errors[np.arange(len(inputs)), targets % CLASSES] -= 1.0
        gradient: Table = np.zeros((CLASSES, CLASSES))
        np.add.at(gradient, inputs % CLASSES, errors * weights[:, None].astype(np.float64))
        return gradient * _gains(self.seed)

    def step(self, gradient: Table, params: AdamParams) -> Bigram:
        """One AdamW update, with the SDK's meaning of every field of *params*.

        Decoupled weight decay and bias correction: Loshchilov & Hutter 2019, algorithm 2.
        The gradient is clipped to a global norm first; 0 means no clipping.
        """
        norm = float(np.sqrt((gradient**2).sum()))
        if 0 < params.grad_clip_norm < norm:
            gradient = gradient * (params.grad_clip_norm / norm)
        count = self.optimizer_steps + 1
        mean = params.beta1 * self.mean + (1 - params.beta1) * gradient
        square = params.beta2 * self.square + (1 - params.beta2) * gradient**2
        direction = (mean / (1 - params.beta1**count)) / (np.sqrt(square / (1 - params.beta2**count)) + params.eps)
        decay = params.weight_decay * self.parameters
        return evolve(
            self,
            parameters=self.parameters - params.learning_rate * (direction + decay),
            mean=mean,
            square=square,
            updates=self.updates + 1,
            optimizer_steps=count,
        )
