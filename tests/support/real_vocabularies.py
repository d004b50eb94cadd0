"""The real vocabulary of Qwen 3, from the package tml-renderers, whose tokenizer is written independently of ours."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

QWEN3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def theirs() -> Any:
    """Their tokenizer of Qwen 3."""
    import tml_renderers.tokenizers

    return tml_renderers.tokenizers.Qwen3Tokenizer()


def qwen3(oracle: Any) -> Any:
    """The tokenizer of Qwen 3 as its `tokenizer.json` has it, rebuilt from the 151,643 tokens of *oracle*."""
    letters = _letters()
    ranks = {oracle.decode_bytes([token]).decode("latin-1").translate(letters): token for token in range(151_643)}
    made = Tokenizer(models.BPE(vocab=ranks, merges=_merges(ranks)))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    control = sorted(
        (oracle.encode_special(name), name if name.startswith("<") else f"<|{name}|>")
        for name in oracle.special_tokens()
    )
    plain = {"<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"}
    for number, text in control:
        made.add_tokens([AddedToken(text, special=text not in plain, normalized=False)])
        assert made.token_to_id(text) == number
    return made


def _letters() -> dict[int, str]:
    """The printable letter that stands for each byte in a byte-level vocabulary."""
    plain = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(256 + at) for at, byte in enumerate(rest)}


def _merges(ranks: dict[str, int]) -> list[tuple[str, str]]:
    """Every pair of tokens that makes a third, in the order of what they make."""
    merges: list[tuple[str, str]] = []
    for text in ranks:
        pairs = [(text[:at], text[at:]) for at in range(1, len(text))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]])) if len(known) > 1 else known
    return merges
