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
from lgreco.cli.simulation_view import table
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
        *(Grid(*table(s["steps"]), title=f"{s['model']}, computed") for s in data),
        Grid(("level", "encode", "decode"), rows, title="Measured here, GB/s of fp32 gradients"),
    ]


def main() -> None:
    publish("simulate", [simulated(model) for model in KNOWN_MODELS], tables)


if __name__ == "__main__":
    main()
