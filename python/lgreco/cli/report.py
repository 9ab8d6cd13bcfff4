"""`lgreco report`: an HTML page from runs' logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lgreco.cli.output import AsJson, print_json, show
from lgreco.errors import ConfigError
from lgreco.report import summaries, write_report
from lgreco.run_log import read_run_log


def report(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG...", help="Logs of runs (lgreco.RunLog).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("report.html"),
    json: AsJson = False,
) -> None:
    """Compare runs: one HTML page with tables and plots, which needs no network."""
    if output.resolve() in [log.resolve() for log in logs]:
        raise ConfigError(f"[cli] the report would take the place of the log {output}")
    runs = [read_run_log(log) for log in logs]
    path = write_report(runs, output)
    if json:
        print_json({"report": str(path), "runs": [vars(s) for s in summaries(runs)]})
    else:
        show(f"wrote {path}")
