"""Names of layers that fit beside a plot, and still tell the layers apart."""

from __future__ import annotations

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
    """Words in the middle are left out, from the left; never numbers, and the last only in part."""
    if len(name) <= LONGEST:
        return name
    words = name.split(".")
    words[0] = words[0] if words[0].isdigit() else words[0][:_KEPT]
    candidates = [
        i for i, word in enumerate(words) if 0 < i < len(words) - 1 and not word.isdigit()
    ]
    for i in candidates:
        words[i] = ""
        if len(_joined(words)) <= LONGEST:
            return _joined(words)
    spare = LONGEST - len(_joined([*words[:-1], "x"]))
    words[-1] = words[-1][:1] + "…" + words[-1][-spare + 1 :] if spare > 1 else words[-1]
    return _joined(words)


def _joined(words: Sequence[str]) -> str:
    """With one mark for each run of words that are left out."""
    text = words[0]
    for word, before in zip(words[1:], words, strict=False):
        if word:
            text += f"…{word}" if not before else f".{word}"
    return text
