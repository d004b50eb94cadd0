"""What glowgenius uses of a Hugging Face tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tokenizer(Protocol):
    """The part of `transformers.PreTrainedTokenizerBase` that the library relies on."""

    chat_template: Any
    """The Jinja text of the chat template, or None for a base model's tokenizer."""

    @property
    def bos_token(self) -> str | None:
        """The token that starts every text, where there is one."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """The id of `bos_token`."""
        ...

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """The id of `eos_token`."""
        ...

    @property
    def all_special_tokens(self) -> list[str]:
        """The texts of the control tokens."""
        ...

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the control tokens."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of *text*; those of Hugging Face also take `split_special_tokens`, and then write it as text."""
        ...

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Text of the token ids; some tokenizers (Llama 3's) tidy the spaces unless told not to."""
        ...

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's own spelling of each id."""
        ...

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """The id of one token of the vocabulary."""
        ...

    def apply_chat_template(self, conversation: list[dict[str, Any]], **kwargs: Any) -> Any:
        """The conversation as the model's own chat template writes it."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens added to the vocabulary and their ids: control tokens, named or not, and added words."""
        ...

    def __len__(self) -> int: ...
