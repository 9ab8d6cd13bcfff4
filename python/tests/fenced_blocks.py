"""The examples in a page of the documentation.

Blocks of `python` are run; of `diff`, as they are after the change; of `sh`, when they call
`lgreco`. A comment before a block, `<!-- not run: why -->`, keeps it from being run. What stands in
a comment that begins with `<!-- run` is run and not shown: what an example takes for granted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^<!-- run\n(?P<hidden>.*?)^-->$"
    r"|(?:^<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?"
    r"^(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """`line` is that of the text's first line, from 1; `reason` why it is not run, or empty."""

    language: str
    text: str
    line: int
    reason: str = ""


def blocks_of(page: str) -> Iterator[Block]:
    """Of languages that can be run, in their order."""
    for match in _BLOCK.finditer(page):
        kind = "hidden" if match["hidden"] is not None else "text"
        line = page.count("\n", 0, match.start(kind)) + 1
        if kind == "hidden":
            yield Block("python", match["hidden"], line)
        elif match["language"] in ("python", "sh"):
            yield Block(match["language"], match["text"], line, match["reason"] or "")
        elif match["language"] == "diff":
            after = (row[2:] for row in match["text"].splitlines() if not row.startswith("-"))
            yield Block("python", "\n".join(after), line, match["reason"] or "")
