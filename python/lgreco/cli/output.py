"""What every command prints: JSON for programs, tables for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lgreco.arguments import printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(values: object) -> None:
    print(json.dumps(values, indent=1))


_WIDTH_IN_FILES = 160  # of what is not a terminal; COLUMNS overrides it


def show(text: str = "") -> None:
    """What people read, names from foreign files included."""
    print(printable(text))


def _cell(value: object) -> Text:
    """As it is: names are no markup."""
    return Text(printable(str(value)))


def console() -> Console:
    """What people read: as wide as the terminal, or wide enough for most tables in a file."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console()
    return Console(width=_WIDTH_IN_FILES)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    total: Sequence[object] | None = None,
    text_columns: Sequence[str] = (),
) -> None:
    """The first column and `text_columns` are text, the others are right-aligned.

    `total` is a last row, set apart.
    """
    table = Table(title=Text(printable(title)), title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        is_text = index == 0 or column in text_columns
        table.add_column(
            Text(printable(column)), justify="left" if is_text else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    if total is not None:
        table.add_section()
        table.add_row(*map(_cell, total))
    console().print(table)
