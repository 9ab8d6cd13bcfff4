"""Names of layers that fit beside a plot, and still tell the layers apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 34
_KEPT = 3  # letters of a name's beginning


def short_names(names: Sequence[str]) -> list[str]:
    """Each at most `LONGEST` long, with all its numbers, and unlike the others; where no short one
    is, the name itself.

    `encoder.layers.11.self_attn.in_proj_weight` is `enc…11.self_attn.in_proj`.
    """
    short = [_short(name) for name in names]
    for alternatives in ([_short_with_ending(name) for name in names], list(names)):
        counts = Counter(short)
        short = [
            one if counts[one] == 1 else other
            for one, other in zip(short, alternatives, strict=True)
        ]
    return short


def _short(name: str) -> str:
    """Without what most names end in."""
    for ending in (".weight", "_weight"):
        if len(name) > LONGEST and name.endswith(ending):
            name = name.removesuffix(ending)
    return _short_with_ending(name)


def _short_with_ending(name: str) -> str:
    """Words in the middle are left out, from the left, then others are cut; never their digits."""
    if len(name) <= LONGEST:
        return name
    words = name.split(".")
    words[0] = _cut(words[0])
    middle = range(1, len(words) - 1)
    shorter = [(i, "") for i in middle if not re.search(r"\d", words[i])]
    shorter += [(i, _cut(words[i])) for i in middle if re.search(r"\d", words[i])]
    for i, word in shorter:
        words[i] = word
        if len(_joined(words)) <= LONGEST:
            return _joined(words)
    words[-1] = _ending(words[-1], LONGEST - len(_joined([*words[:-1], "x"])))
    return _joined(words)


def _cut(word: str) -> str:
    return re.sub(r"\D+", lambda letters: letters[0][:_KEPT], word)


def _ending(word: str, length: int) -> str:
    """At most so much longer than a letter, where there is room for that."""
    if len(word) <= length + 1:
        return word
    left_out = word[1 : len(word) - max(length - 1, 0)]
    if length < 2 or re.search(r"\d", left_out):
        return _cut(word)
    return word[0] + "…" + word[-length + 1 :]


def _joined(words: Sequence[str]) -> str:
    """With one mark for each run of words that are left out."""
    text = words[0]
    for word, before in zip(words[1:], words, strict=False):
        if word:
            text += f"…{word}" if not before else f".{word}"
    return text
