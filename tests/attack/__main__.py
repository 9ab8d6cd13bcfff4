"""`python -m tests.attack`: prints each fault; the exit status is 1 when there are any."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from tests.attack.calls import calls
from tests.attack.commands import archives, commands
from tests.attack.outcomes import Call, faults_of
from tests.attack.training import training_calls


def attack(count: int, random_numbers: random.Random) -> Iterator[Call]:
    """Of all kinds, in the current folder."""
    yield from calls(count // 4, random_numbers)
    yield from training_calls(count // 4, random_numbers)
    yield from archives(count // 10, random_numbers)
    yield from commands(count - 2 * (count // 4) - count // 10, random_numbers)


def main(
    seed: Annotated[int | None, typer.Option(help="Of the random numbers.")] = None,
    count: Annotated[int, typer.Option(help="How many calls.")] = 5000,
) -> None:
    """Hostile calls and files: a result or an lgreco.Error is all that may come of them."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        faults = faults_of(list(attack(count, random.Random(seed))))
    for fault in faults:
        print(f"{fault.call}\n    {fault.what}")
    kinds = Counter("hang" if f.what == "hang" else f.what.split(":")[0] for f in faults)
    print(f"{count} calls, {len(faults)} faults {dict(kinds)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    typer.run(main)
