r"""Whether an answer admits not to know, by rules that can be read.

An answer abstains if one of these stands in it, after case and apostrophes are folded:

1. *I / we* … *don't know*, *do not know*, *can't say*, *cannot tell*, *am not sure*, *am unsure*, *have no idea*,
   *am not aware of*, *am not familiar with*, *could not find*, *have no information*, *lack information*;
2. *there is no such* …, *no such* … *exists*, *does not exist*, *doesn't appear to exist*, *is not a real* …,
   *is fictional*, *is made up*;
3. *not known*, *unknown*, *not sure*, *no idea*, *n/a*, as the whole answer.

`I'm not sure, but it is in Queens` abstains by rule 1 and answers all the same: it counts as abstaining unless a
*but* with an answer follows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT = r"(?:do not|dont|does not|doesnt|did not|didnt|cannot|can not|cant|could not|couldnt)"
_ADMITS: Final = re.compile(
    rf"\b(?:i|we|im|were|ive)\b[^.!?]*?\b(?:{_NOT} (?:really |actually )?(?:know|say|tell|find|have|recall|answer)"
    r"|(?:not |un)(?:sure|certain|aware|familiar)|have no (?:idea|information|knowledge|record)"
    r"|lack (?:the )?information)\b"
)
_DENIES: Final = re.compile(
    r"\b(?:there is no such|theres no such|no such \w+(?: \w+)? exists?"
    r"|(?:does not|doesnt) (?:appear to |seem to )?exist"
    r"|is not a real|isnt a real|is fictional|is fictitious|is made up|is not known|is unknown|not been able to find)\b"
)
_WHOLE: Final = re.compile(r"(?:it is |its )?(?:unknown|not known|not sure|unsure|no idea|n a|none known)")
_STILL: Final = re.compile(
    r"\bbut (?:i think|i believe|i would|id |it is|it was|its|it may|it might|probably|perhaps)\b"
)


def abstains(prediction: str, accepted: Sequence[str] = ()) -> float:
    """1 if the answer admits not to know, by the rules of this module, else 0; a metric that ignores *accepted*.

    Ask it of invented subjects: one minus its mean is the share of confident nonsense. An empty answer is no admission.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    if isinstance(accepted, str):
        raise ConfigError(f"accepted must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
    text = prediction.casefold().replace("’", "").replace("'", "")
    words = " ".join(re.sub(r"[^\w.!?]+", " ", text).split())
    admits = _ADMITS.search(words) or _DENIES.search(words)
    if admits is None:
        return float(_WHOLE.fullmatch(words.strip(" .!?")) is not None)
    return float(_STILL.search(words, admits.start()) is None)
