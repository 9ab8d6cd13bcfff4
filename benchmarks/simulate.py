"""Steps of larger jobs on paper: what `lgreco simulate` computes for the models that it knows.

python -m benchmarks.simulate          (make bench-simulate)

Nothing is measured but how fast one thread of this machine encodes and decodes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Grid, publish
from lgreco.cli import units
from lgreco.known_models import KNOWN_MODELS


def simulated(model: str) -> dict:
    command = [Path(sys.executable).with_name("lgreco"), "simulate", model, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def tables(data: list[dict]) -> list[Grid]:
    rates = {level: rate for simulation in data for level, rate in simulation["rates"].items()}
    rows = [
        (level, f"{rate['encode'] / 1e9:.2g}", f"{rate['decode'] / 1e9:.2g}")
        for level, rate in sorted(rates.items())
    ]
    return [
        *(table_of(simulation) for simulation in data),
        Grid(("level", "encode", "decode"), rows, title="Measured here, GB/s of fp32 gradients"),
    ]


def table_of(simulation: dict) -> Grid:
    steps = simulation["steps"]
    ranks = list(dict.fromkeys(step["ranks"] for step in steps))
    rows = []
    for level in dict.fromkeys(step["level"] for step in steps):
        of_level = [step for step in steps if step["level"] == level]
        payload = units.show_bytes(of_level[0]["payload_bytes"])
        codec = units.show_seconds(of_level[0]["codec_s"])
        cells = [f"{units.show_seconds(s['step_s'])} x{s['speedup']:.2f}" for s in of_level]
        rows.append((level, payload, codec, *cells))
    columns = ("level", "payload", "codec", *(f"{count:,} ranks" for count in ranks))
    return Grid(columns, rows, title=f"{simulation['model']}, computed")


def main() -> None:
    publish("simulate", [simulated(model) for model in KNOWN_MODELS], tables)


if __name__ == "__main__":
    main()
