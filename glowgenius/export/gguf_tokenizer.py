"""A Hugging Face tokenizer as the fields of a GGUF file, and its chat template as Ollama's.

llama.cpp knows two kinds of vocabulary of the families here: byte-level BPE with one of its own pre-tokenizers, and
SentencePiece's BPE with byte fallback. A tokenizer that is neither is refused, since it would give other tokens.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import frozen

from glowgenius.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.models.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""`tokenizer.ggml.token_type` (GGUF specification, tokenizer section)."""

_ENDS: Final = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPLITS: Final[Mapping[str, str]] = {
    rf"{_LETTERS}|\p{{N}}{{1,3}}|{_REST}|{_ENDS}": "llama-bpe",
    rf"{_LETTERS}|\p{{N}}|{_REST}|{_ENDS}": "qwen2",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    rf"\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_ENDS}": "tekken",
}
"""The regular expression by which a tokenizer divides text → llama.cpp's name of the same."""

_NO_MERGE: Final = "Ā Ā"
"""Two zero bytes, in a vocabulary without pairs: llama.cpp asks for one, and takes apart again what is no token."""

_SPACE: Final = "▁"
_BYTE_TOKEN: Final = re.compile(r"<0x[0-9A-F]{2}>")


@final
@frozen(kw_only=True)
class TokenizerFields:
    """What a GGUF file says of its tokenizer."""

    model: str
    """`gpt2` for byte-level BPE, `llama` for SentencePiece's."""

    pre: str
    """llama.cpp's name of the pre-tokenizer."""

    tokens: Sequence[str]
    """The text of each token, by id."""

    types: Sequence[int]
    """The kind of each token."""

    scores: Sequence[float] | None
    """The order in which pairs are joined, of SentencePiece's."""

    merges: Sequence[str] | None
    """The pairs in the order in which they are joined, of byte-level BPE."""

    bos: int | None
    """The token that begins a text."""

    eos: int | None
    """The token that ends an answer."""

    unknown: int | None
    """The token of what has none."""

    pad: int | None
    """The token that fills up."""

    add_bos: bool
    """Whether `bos` goes in front of every text."""

    add_space_prefix: bool
    """Whether a space goes in front of every text."""

    template: str | None
    """The chat template."""


def tokenizer_fields(tokenizer: Tokenizer, *, rows: int, stop_tokens: Sequence[int], name: str) -> TokenizerFields:
    """*tokenizer* as GGUF has it.

    Args:
        tokenizer: One of `transformers`, with a backend of `tokenizers`.
        rows: How many rows the embedding has; ids beyond the vocabulary become unused tokens.
        stop_tokens: The tokens that end an answer, the first of which becomes the end of text.
        name: Of the model, for messages.

    Raises:
        ModelNotFoundError: llama.cpp has no tokenizer that gives the same tokens.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused(name, "it has no tokenizer.json")
    found: dict[str, Any] = json.loads(backend.to_str())
    model: dict[str, Any] = found["model"]
    if model.get("type") != "BPE":
        raise _refused(name, f"its model is {model.get('type')!r}, and not BPE")
    sentence_piece = bool(model.get("byte_fallback"))
    pre = "default" if sentence_piece else _pre_tokenizer(found, name)
    tokens, types = _tokens(found, rows, sentence_piece=sentence_piece)
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    template = tokenizer.chat_template
    chat: str | None = template if isinstance(template, str) else None
    if isinstance(template, dict):
        chat = cast("dict[str, str]", template).get("default")
    pad: Any = getattr(tokenizer, "pad_token_id", None)
    unknown: Any = getattr(tokenizer, "unk_token_id", None)
    return TokenizerFields(
        model="llama" if sentence_piece else "gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        scores=_scores(tokens, pairs) if sentence_piece else None,
        merges=None if sentence_piece else [" ".join(pair) for pair in pairs] or [_NO_MERGE],
        bos=tokenizer.bos_token_id,
        eos=stop_tokens[0] if stop_tokens else tokenizer.eos_token_id,
        unknown=unknown,
        pad=pad,
        add_bos=_adds_bos(tokenizer, chat),
        add_space_prefix=sentence_piece and _prepends_space(found),
        template=chat,
    )


def _refused(name: str, because: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"the tokenizer of {name!r} cannot be written as GGUF: {because}, and llama.cpp would give other tokens. "
        "Export the merged model, and serve it with transformers or vLLM"
    )


def _pre_tokenizer(found: Mapping[str, Any], name: str) -> str:
    """llama.cpp's name of how a byte-level tokenizer divides text."""
    top: dict[str, Any] = found.get("pre_tokenizer") or {}
    steps: list[dict[str, Any]] = top.get("pretokenizers", [top]) if top else []
    kinds = [str(step.get("type")) for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        raise _refused(name, "its text is not divided into bytes as llama.cpp does it")
    if found["model"].get("continuing_subword_prefix") or found["model"].get("end_of_word_suffix"):
        raise _refused(name, "it marks the ends of words")
    own = bool(steps[-1].get("use_regex", True))
    if not found["model"]["merges"]:
        return "gpt-2"  # every byte is a token of its own, however text is divided
    if kinds == ["ByteLevel"] and own:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and own and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not own and steps[0].get("behavior") == "Isolated":
        pattern = str(steps[0].get("pattern", {}).get("Regex"))
        if pattern in _SPLITS and not steps[0].get("invert"):
            return _SPLITS[pattern]
    raise _refused(name, f"its text is divided by {', '.join(kinds)} in a way that llama.cpp has no name for")


def _tokens(found: Mapping[str, Any], rows: int, *, sentence_piece: bool) -> tuple[list[str], list[int]]:
    vocabulary: dict[str, int] = found["model"]["vocab"]
    added: list[dict[str, Any]] = found.get("added_tokens") or []
    size = max([rows, *(index + 1 for index in vocabulary.values()), *(int(one["id"]) + 1 for one in added)])
    tokens, types = [f"[PAD{index}]" for index in range(size)], [UNUSED] * size
    unknown = found["model"].get("unk_token")
    for text, index in vocabulary.items():
        tokens[index], types[index] = text, NORMAL
        if sentence_piece and _BYTE_TOKEN.fullmatch(text):
            types[index] = BYTE
    for one in added:
        index, text = int(one["id"]), str(one["content"])
        # Among SentencePiece's, a space is written as its own letter, in added tokens too.
        tokens[index] = text.replace(" ", _SPACE) if sentence_piece and not one["special"] else text
        types[index] = CONTROL if one["special"] else USER_DEFINED
    if sentence_piece and unknown in vocabulary:
        types[vocabulary[unknown]] = UNKNOWN
    return tokens, types


def _scores(tokens: Sequence[str], pairs: Sequence[Sequence[str]]) -> list[float]:
    """Scores by which llama.cpp joins the pairs in the order of *pairs*: the earlier, the higher."""
    first: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        first.setdefault("".join(pair), rank)
    return [-float(first[token]) if token in first else -1e9 if len(token) > 1 else 0.0 for token in tokens]


def _adds_bos(tokenizer: Tokenizer, template: str | None) -> bool:
    """Whether BOS goes in front: as the tokenizer does it, unless a chat template does without."""
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer.encode("a")[:1] != [bos]:
        return False
    if template is None:
        return True
    messages = [{"role": "user", "content": "a"}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return text.startswith(str(tokenizer.bos_token))


def _prepends_space(found: Mapping[str, Any]) -> bool:
    """Whether every stretch of text gets a space in front, those behind control tokens too, as llama.cpp has it.

    A space in front of the first stretch alone is none in a chat, which begins with a control token.
    """
    normalizer: dict[str, Any] = found.get("normalizer") or {}
    steps: list[dict[str, Any]] = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if any(step.get("type") == "Prepend" and step.get("prepend") == _SPACE for step in steps):
        return True
    top: dict[str, Any] = found.get("pre_tokenizer") or {}
    return top.get("type") == "Metaspace" and top.get("prepend_scheme") == "always"


# --- Ollama ---


@final
@frozen(kw_only=True)
class TurnTemplate:
    """A chat template that writes each message by itself: what stands before and behind a message of each role."""

    turns: Mapping[str, tuple[str, str]]
    """Role → what is written before and behind its content."""

    prompt: str
    """What an answer is written behind."""

    system: str | None
    """The system message of a conversation that has none."""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of a conversation, up to where the answer begins."""
        found = list(messages)
        if self.system is not None and found[0]["role"] != "system":
            found.insert(0, {"role": "system", "content": self.system})
        return "".join(self.turns[one["role"]][0] + one["content"] + self.turns[one["role"]][1] for one in found) + (
            self.prompt
        )

    def go(self) -> str:
        """The same in the language of Ollama's templates."""
        cases = [
            f'{{{{- {"if" if at == 0 else "else if"} eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(behind)}'
            for at, (role, (before, behind)) in enumerate(self.turns.items())
        ]
        return f"{{{{- range .Messages }}}}{''.join(cases)}{{{{- end }}}}{{{{- end }}}}{_go(self.prompt)}"


def _go(text: str) -> str:
    """*text* in a template of Go, whose white space the `{{-` of what follows leaves alone."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def turn_template(tokenizer: Tokenizer) -> TurnTemplate | None:
    """How the chat template of *tokenizer* writes each message; None where it does not do that one by one.

    Found by rendering conversations, and compared on others.
    """
    template = tokenizer.chat_template
    # What the server puts in front by itself; a token that begins every turn stays where it is.
    bos = str(tokenizer.bos_token) if _adds_bos(tokenizer, template if isinstance(template, str) else None) else ""
    marks = {"system": "\ue000sys\ue001", "user": "\ue000use\ue001", "assistant": "\ue000ass\ue001"}

    def text(*roles: str, prompt: bool = False) -> str | None:
        messages = [{"role": role, "content": marks[role]} for role in roles]
        try:
            written: Any = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception:  # noqa: BLE001 - templates raise whatever they like for roles that they do not take
            return None
        return str(written).removeprefix(bos)

    one, two, asked = text("user"), text("user", "assistant"), text("user", prompt=True)
    three, several = text("system", "user"), text("user", "assistant", "user")
    if one is None or two is None or asked is None or several is None or not two.startswith(one):
        return None
    # What stands before the second of two users is what stands before every user.
    user = _around(several.removeprefix(two), marks["user"])
    answer = _around(two.removeprefix(one), marks["assistant"])
    if user is None or answer is None or not asked.startswith(one):
        return None
    turns = {"user": user, "assistant": answer}
    said: str | None = None
    whole = user[0] + marks["user"] + user[1]
    if three is not None and three.endswith(whole):
        around = _around(three.removesuffix(whole), marks["system"])
        if around is None:
            return None
        turns = {"system": around, **turns}
        begins = one.removesuffix(whole)
        if begins:
            said = begins.removeprefix(around[0]).removesuffix(around[1])
    made = TurnTemplate(turns=turns, prompt=asked.removeprefix(one), system=said)
    return made if _agrees(made, text, marks) else None


def _around(text: str, mark: str) -> tuple[str, str] | None:
    before, found, behind = text.partition(mark)
    return (before, behind) if found else None


def _agrees(made: TurnTemplate, text: Any, marks: Mapping[str, str]) -> bool:
    """Whether *made* writes several conversations as the chat template does."""
    known: list[tuple[str, ...]] = [("user",), ("user", "assistant", "user"), ("user", "assistant") * 2 + ("user",)]
    if "system" in made.turns:
        known += [("system", *roles) for roles in known]
    return all(
        made.render([{"role": role, "content": marks[role]} for role in roles]) == text(*roles, prompt=True)
        for roles in known
    )
