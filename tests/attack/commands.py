"""Hostile files for the commands: valid ones with something changed, and what is no file."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

import lgreco
from lgreco.cli import app
from tests.attack.outcomes import Call

TEXTS = (
    "", "a", "[q]", "[/x]", "\x1b[31m", "a\nb", "\0", "$\\frac{$", "</script>", "x" * 10_000,
    "low_rank:4", "dense", "quantize:4:bucket=7", "\ud800", "nan", "1e999", "2026-01-01", "-",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"))
OTHERS = (None, True, False, [], {}, [[]], [[[]]], [None], {"a": None}, [1, 2], {"": {}})


RATES = [
    *("--level", "quantize:4", "--rate", "quantize:4=2GB"),
    *("--rate", "dense=8GB", "--rate", "cast:fp16=4GB"),
]


def valid_files() -> dict[str, tuple[str, list[str]]]:
    """Content by name, and the command that reads it."""
    estimate = {"bytes": 8.0, "error": 0.5, "seconds": 0.0}
    plan = lgreco.Plan({"a": lgreco.Quantize(4), "b.1": lgreco.Dense()})
    planned = plan.to_dict() | {
        "format": "lgreco-plan-1",
        "hash": plan.hash,
        "estimates": {
            "a": {
                "reason": "the reference",
                "chosen": estimate,
                "reference": estimate,
                "dense": estimate,
            }
        },
    }
    table = {
        "names": ["a", "b"],
        "levels": ["low_rank:4", "low_rank:2", "dense"],
        "costs": [[4.0, 2.0, 9.0], [4.0, 2.0, 9.0]],
        "errors": [[0.5, 0.9, 0.0], [0.5, 0.9, 0.0]],
        "norms": [1.0, 2.0],
    }
    shapes = {"a": [8, 8], "b.weight": [16, 4, 3], "c": [5]}
    return {
        "plan.json": (json.dumps(planned), ["inspect", "FILE"]),
        "table.json": (json.dumps(table), ["plan", "FILE", "--reference", "low_rank:4"]),
        "shapes.json": (json.dumps(shapes), ["ratio", "FILE", "--method", "quantize:4"]),
        "model.json": (json.dumps(shapes), ["simulate", "FILE", "--compute", "1ms", *RATES]),
        "run.jsonl": (_run_log(), ["report", "FILE", "-o", "report.html"]),
        "seen.jsonl": (_run_log(), ["inspect", "FILE"]),
    }


def _run_log() -> str:
    path = Path("log-of-the-attack.jsonl")
    with lgreco.RunLog(path, name="run", layers={"a": [4, 4]}, ranks=2) as log:
        log.plan(lgreco.Plan({"a": lgreco.PowerSGD(2)}))
        for step in range(1, 5):
            log.step(1 / step, seconds=step / 10)
        log.evaluate(accuracy=50.0, loss=1.0)
    text = path.read_text()
    path.unlink()
    return text


def commands(count: int, random_numbers: random.Random) -> Iterator[Call]:
    """`count` commands, each with a file that is not what it claims to be. Writes the files into
    the current folder."""
    files = valid_files()
    for index in range(count):
        name, (content, command) = random_numbers.choice(list(files.items()))
        path = f"{index}-{name}"
        what = _write_hostile(path, content, random_numbers)
        arguments = [path if part == "FILE" else part for part in command]
        if random_numbers.random() < 0.3 and "report" not in arguments:
            arguments.append("--json")
        yield Call(f"lgreco {' '.join(arguments)}  ({what})", lambda a=arguments: run(a))


def run(arguments: list[str]) -> None:
    CliRunner().invoke(app, arguments, catch_exceptions=False)


def _write_hostile(path: str, content: str, random_numbers: random.Random) -> str:
    kind = random_numbers.random()
    if kind < 0.04:
        os.mkfifo(path)
        return "a pipe"
    if kind < 0.06:
        os.symlink("/dev/zero", path)
        return "/dev/zero"
    if kind < 0.08:
        Path(path).mkdir()
        return "a folder"
    raw = _changed(content, random_numbers, kind)
    Path(path).write_bytes(raw)
    return repr(raw[:300])


def _changed(content: str, random_numbers: random.Random, kind: float) -> bytes:
    if kind < 0.12:
        return random_numbers.choice((b"", b"\xff\xfe", b"{" * 10_000, b"[" * 100_000, b"null"))
    if kind < 0.25:
        raw = bytearray(content.encode())
        for _ in range(random_numbers.randrange(1, 4)):
            raw[random_numbers.randrange(len(raw))] = random_numbers.randrange(256)
        return bytes(raw[: random_numbers.randrange(1, len(raw) + 1)] if kind < 0.18 else raw)
    lines = content.splitlines()
    place = random_numbers.randrange(len(lines))
    value = json.loads(lines[place])
    for _ in range(random_numbers.choice((1, 1, 1, 2, 3))):
        value = _mutated(value, random_numbers)
    lines[place] = json.dumps(value)
    return ("\n".join(lines) + "\n").encode()


def _mutated(value: Any, random_numbers: random.Random) -> Any:
    """One value in it, at any depth, replaced, left out, or doubled."""
    inside = bool(value) and isinstance(value, dict | list) and random_numbers.random() < 0.85
    if not inside:
        return random_numbers.choice(random_numbers.choice((TEXTS, NUMBERS, OTHERS)))
    if isinstance(value, list):
        place = random_numbers.randrange(len(value))
        changed = [*value]
        if random_numbers.random() < 0.2:
            del changed[place]
        else:
            changed[place] = _mutated(value[place], random_numbers)
        return changed
    key = random_numbers.choice(list(value))
    action = random_numbers.random()
    if action < 0.2:
        return {k: v for k, v in value.items() if k != key}
    if action < 0.35:
        new = random_numbers.choice(TEXTS)
        return {(new if k == key else k): v for k, v in value.items()}
    return {k: _mutated(v, random_numbers) if k == key else v for k, v in value.items()}


def archives(count: int, random_numbers: random.Random) -> Iterator[Call]:
    """`lgreco plan` of archives of arrays that were damaged."""
    good = io.BytesIO()
    np.savez(good, a=np.ones((8, 8), np.float32), b=np.ones(4, np.float32))
    for index in range(count):
        raw = bytearray(good.getvalue())
        for _ in range(random_numbers.randrange(1, 6)):
            raw[random_numbers.randrange(len(raw))] = random_numbers.randrange(256)
        path = f"{index}.npz"
        Path(path).write_bytes(raw)
        arguments = ["plan", path, "--reference", "low_rank:1"]
        yield Call(f"lgreco {' '.join(arguments)}", lambda a=arguments: run(a))
