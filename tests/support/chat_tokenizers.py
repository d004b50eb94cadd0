"""Hugging Face tokenizers, trained in the test on a few sentences, with chat templates in the manner of families."""

from __future__ import annotations

from functools import cache
from typing import Any

CORPUS = (
    "Which borough is Yankee Stadium in? The Bronx. Question: Answer: What colour is the Empire State Building?",
    "user\nassistant\nsystem\n\nYou are a helpful assistant.\n\nThe answer is Queens. a  b   c\n\n\nManhattan? ?\n",
    "Flushing Meadows – Corona Park, café, naïve, 34 St-Penn Station, the A train.",
)
"""Enough for merges across letters, spaces and newlines, so that a boundary in the wrong place shows."""

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As SmolLM2's: a system message of its own where there is none, and a newline after the stop token."""

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""As Llama 3's: BOS, trimmed contents, nothing after the stop token."""

GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
"""As Gemma's: another name for the assistant, and no system message."""

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""As Llama 2's and Mistral's: no generation prompt to add, a space before EOS, and system messages left out."""

THINKING = (
    "{% set last = namespace(user=-1) %}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% set last.user = loop.index0 %}{% endif %}{% endfor %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.index0 > last.user %}"
    "{{ '<think>\n' + (message['reasoning_content'] or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""As Qwen3's: an answer thinks first, and earlier answers lose their thoughts once another question follows."""

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML with generation markers around answer and stop token."""

MARKED_WITHOUT_STOP = MARKED.replace(
    "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
    "{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
)
"""The markers end too early."""

MARKED_WITH_NEWLINE = MARKED.replace("{% endgeneration %}", "{{ '\n' }}{% endgeneration %}").replace(
    "{% endif %}{{ '\n' }}{% endfor %}", "{{ '\n' }}{% endif %}{% endfor %}"
)
"""As LFM2's for training: the newline after the stop token is marked too."""

TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<s>",
    "</s>",
)
"""Every family's control tokens; most without a name, as on the hub."""

NAMED = {
    "chatml": (CHATML, None, "<|im_end|>"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "gemma": (GEMMA, "<bos>", "<end_of_turn>"),
    "mistral": (MISTRAL, "<s>", "</s>"),
    "thinking": (THINKING, None, "<|im_end|>"),
    "marked": (MARKED, None, "<|im_end|>"),
}
"""Family: template, BOS, EOS."""

FAMILIES = tuple(NAMED)


WORDS_OF_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 and Qwen divide text into words; a question mark and the line break after it are one word."""

WORDS_OF_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 and SmolLM2 do; of two line breaks before a word, each is a word of its own."""


@cache
def _trained(pattern: str) -> str:
    """A byte-level BPE with some 400 tokens, as JSON, on words divided by *pattern*."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer.to_str()


def bpe_tokenizer(
    template: str | None,
    *,
    bos: str | None = None,
    eos: str | None = "<|im_end|>",
    words: str = WORDS_OF_LLAMA3,
    **settings: Any,
) -> Any:
    """A fast tokenizer with *template*, on words divided by the regular expression *words*."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(words)), bos_token=bos, eos_token=eos, **settings
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def family_tokenizer(name: str) -> Any:
    """The tokenizer of one of `FAMILIES`; shared, so leave it as it is."""
    template, bos, eos = NAMED[name]
    return bpe_tokenizer(template, bos=bos, eos=eos)


def reference_tokens(tokenizer: Any, messages: Any, **settings: Any) -> list[int]:
    """What the tokenizer itself makes of *messages*."""
    rows = [message.to_dict() for message in messages]
    return tokenizer.apply_chat_template(rows, tokenize=True, return_dict=False, **settings)


def marked(tokenizer: Any, example: Any) -> list[tuple[str, float]]:
    """Every token of *example* as text, with its weight."""
    texts = [tokenizer.decode([token]) for token in example.tokens.tolist()]
    return list(zip(texts, example.weights.tolist(), strict=True))
