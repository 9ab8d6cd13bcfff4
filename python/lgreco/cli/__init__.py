"""The command line `lgreco`: one module per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lgreco._core import __version__
from lgreco.arguments import printable
from lgreco.cli.advise import advise
from lgreco.cli.inspect import inspect
from lgreco.cli.plan import plan
from lgreco.cli.ratio import ratio
from lgreco.cli.report import report
from lgreco.cli.simulate import simulate
from lgreco.errors import Error

app = typer.Typer(
    help="Layer-adaptive gradient compression.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lgreco {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command()(ratio)
app.command()(plan)
app.command()(inspect)
app.command()(report)
app.command()(simulate)
# What is no option of ours belongs to the script.
app.command(context_settings={"ignore_unknown_options": True})(advise)


def main() -> None:
    """Entry point: errors of the library are one line and exit status 2."""
    try:
        app()
    except Error as error:
        print(f"lgreco: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
