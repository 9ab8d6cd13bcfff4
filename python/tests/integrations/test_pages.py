"""The pages on frameworks: their programs run on two ranks, and add at most two lines."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools.ranks import on_loopback, run, torchrun

PAGES = Path(__file__).parents[3] / "docs/frameworks"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_ADDED = 2


@dataclass
class Program:
    """A script of which a page shows what lgreco adds, with what the page goes on to do in it."""

    added: list[str]
    lines: list[str]
    command: list[str] = field(default_factory=list)


def programs_of(page: Path) -> list[Program]:
    programs: list[Program] = []
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = block.splitlines()
        if kind == "diff":
            added = [line[2:] for line in lines if line.startswith("+")]
            programs.append(Program(added, [x[2:] for x in lines if not x.startswith("-")]))
        elif kind == "python":
            programs[-1].lines += lines
        elif kind == "sh" and not programs[-1].command:
            programs[-1].command = block.split()
    return programs


CASES = {
    f"{page.stem}-{number}": program
    for page in sorted(PAGES.glob("*.md"))
    for number, program in enumerate(programs_of(page))
}


@pytest.mark.parametrize("name", CASES)
def test_at_most_two_lines_are_added(name: str):
    assert 0 < len(CASES[name].added) <= MOST_ADDED, CASES[name].added


@pytest.mark.parametrize("name", CASES)
def test_what_pages_show(name: str, tmp_path: Path):
    program = CASES[name]
    script = tmp_path / program.command[-1]
    script.write_text("\n".join(program.lines) + "\n")
    if program.command[0] == "torchrun":
        command = torchrun(int(program.command[2]), script)
    else:
        command = [sys.executable, str(script)]
    result = run(command, timeout=300, env=on_loopback(), cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (ratio, *_) = re.findall(r"([\d.]+) times fewer bytes", result.stdout)
    assert float(ratio) > 1, result.stdout
