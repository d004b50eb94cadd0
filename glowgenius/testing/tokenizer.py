"""A tokenizer whose tokens are bytes: any text, no download, nothing to train, and every id can be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, final

from glowgenius._lazy import require
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
