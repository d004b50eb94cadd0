"""One tokenizer with the control tokens of all families that the packages `renderers` and tinker-cookbook know."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.chat_tokenizers import CHATML, bpe_tokenizer

_CONTROL = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|>|<｜[^<>\s'{}]{1,40}｜>|<(?:start|end)_of_[a-z]+>|<\|[a-z_]+>|<[a-z_]+\|>|<\|\"\|>"
    r"|\[gMASK\]|<sop>|<(?:bos|eos|pad)>|\]~!b\[|\]~b\]|\[e~\[|｜DSML｜|<[a-z_]+:[a-z0-9]+>|<\[end_of_[a-z]+\]>"
)
_PLAIN = re.compile(
    r"</?(?:think|tool_call|tool_response|arg_key|arg_value|assistant|user|system|tools|function|parameter"
    r"|observation|invoke|minimax:tool_call)>"
)
"""Tags that tokenizers have as tokens, though not as special ones."""


def _sources() -> list[str]:
    """The source files of both packages, without importing either."""
    found: list[str] = []
    for package, folder in (("renderers", ""), ("tinker_cookbook", "renderers")):
        spec = find_spec(package)
        if spec is not None and spec.origin:
            paths = sorted((Path(spec.origin).parent / folder).glob("*.py"))
            found += [path.read_text(encoding="utf-8") for path in paths]
    return found


@cache
def tokenizer() -> Any:
    made = bpe_tokenizer(CHATML)
    sources = _sources()
    special, plain = ({text for source in sources for text in kind.findall(source)} for kind in (_CONTROL, _PLAIN))
    made.add_tokens(sorted(special - plain), special_tokens=True)
    made.add_tokens(sorted(plain))
    return made


def cookbook_names() -> list[str]:
    """The renderers that tinker-cookbook lists in the docstring of its factory; none where it is not installed."""
    spec = find_spec("tinker_cookbook")
    if spec is None or not spec.origin:
        return []
    source = (Path(spec.origin).parent / "renderers" / "__init__.py").read_text(encoding="utf-8")
    # gpt-oss with a system prompt and Kimi 3.1 ask for files of a hub.
    return [
        name
        for name in re.findall(r'^ {12}- ``"(\w+)"``', source, re.MULTILINE)
        if not name.startswith(("gpt_oss_low", "gpt_oss_medium", "gpt_oss_high", "kimi_k31"))
    ]
