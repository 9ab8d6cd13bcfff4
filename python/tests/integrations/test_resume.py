"""Each framework trains on two real ranks, saves by its own means, and resumes on two and three:
with clipped and accumulated gradients, bf16 and plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FRAMEWORKS = ["lightning_trainer", "lightning_fabric", "transformers_trainer", "accelerate_loop"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_resumed_runs(run_ranks, tmp_path: Path, framework: str):
    script = f"../integrations/ranks/{framework}.py"
    run_ranks(2, script, "save", str(tmp_path), timeout=300)

    found = found_in(run_ranks(2, script, "resume", str(tmp_path), timeout=300))
    noise = max(found["losses"]) - min(found["losses"])  # of six orders of the examples
    assert found["exact"]["same_bits"], found
    assert abs(found["portable"]["loss"] - found["losses"][-1]) < noise, found

    on_three = found_in(run_ranks(3, script, "resume", str(tmp_path), timeout=300))
    for kind in ("exact", "portable"):  # larger batches, and so fewer steps
        assert 18 < on_three[kind]["step"] < 36, on_three
        assert on_three[kind]["loss"] < on_three["half"], on_three


def found_in(printed: str) -> dict:
    (line,) = (line for line in printed.splitlines() if line.startswith("found "))
    return json.loads(line.removeprefix("found "))
