"""What the documentation shows works, and it shows everything that is public."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT
from fenced_blocks import blocks_of

import lgreco

DOCS = ROOT / "docs"
# Of frameworks: make test-integrations. Of measurements: commands that take minutes.
ELSEWHERE = ("frameworks", "benchmarks.md", "budget_study.md")
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted(DOCS.rglob("*.md")) if p.relative_to(DOCS).parts[0] not in ELSEWHERE),
]


def test_examples_run(run_ranks):
    counts = {
        str(page): sum(not block.reason for block in blocks_of(page.read_text())) for page in PAGES
    }
    counts = {page: count for page, count in counts.items() if count}
    printed = run_ranks(2, "pages.py", *counts, timeout=400)
    for page, count in counts.items():
        assert f"{page}: {count} examples ran" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_shell_commands_are_run_or_say_why_not(page: Path):
    for block in blocks_of(page.read_text()):
        if block.language == "sh" and not block.reason:
            assert all(line.startswith("lgreco ") for line in block.text.splitlines()), block


def test_blocks_are_found():
    page = (
        "```python\na = 1\n```\n\n<!-- not run: because -->\n```sh\nrm\n```\n\n"
        "<!-- run\nb = 2\n-->\n```diff\n  c\n- d\n+ e\n```\n````md\n```python\nf\n```\n````\n"
    )
    found = [(b.language, b.text.strip(), b.line, b.reason) for b in blocks_of(page)]
    assert found == [
        ("python", "a = 1", 2, ""),
        ("sh", "rm", 7, "because"),
        ("python", "b = 2", 11, ""),
        ("python", "c\ne", 14, ""),
    ]


def test_python_reference_has_every_public_name():
    shown = re.findall(r":: (?:lgreco\.)?(\w+)$", (DOCS / "reference/python.md").read_text(), re.M)
    assert sorted(set(lgreco.__all__) - set(shown)) == ["__version__"]


def test_cpp_reference_has_every_public_header():
    pages = "".join(page.read_text() for page in (DOCS / "reference/cpp").glob("*.md"))
    shown = re.findall(r"^```\{doxygenfile\} (\S+)$", pages, re.MULTILINE)
    headers = [*ROOT.glob("include/lgreco/*.h"), *ROOT.glob("adaptors/mpi/include/lgreco/*.h")]
    assert sorted(shown) == sorted(header.name for header in headers)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
