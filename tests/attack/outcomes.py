"""What came of calls, each made in a process that may die or hang."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import lgreco

SECONDS_PER_CALL = 10.0


@dataclass(frozen=True)
class Fault:
    """A call that ended in none of the ways in which it may.

    Attributes:
        call: what was called, with which arguments.
        what: the exception's last lines, "hang", or the signal.
    """

    call: str
    what: str


@dataclass(frozen=True)
class Call:
    """`run()` is made; `text` says what it is."""

    text: str
    run: Callable[[], object]


def faults_of(calls: Sequence[Call]) -> list[Fault]:
    """Makes the calls one after the other in a forked process, and in another one after each that
    ended or outlived it."""
    faults: list[Fault] = []
    done = 0
    while done < len(calls):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_make, args=(calls[done:], theirs), daemon=True
        )
        process.start()
        theirs.close()
        done = _watch(process, ours, calls, done, faults)
    return faults


def _make(calls: Sequence[Call], pipe: Connection) -> None:
    for call in calls:
        pipe.send(_raw_error(call))


def _raw_error(call: Call) -> str | None:
    try:
        call.run()
    except lgreco.Error:
        return None
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = ", ".join(f"{frame.name}:{frame.lineno}" for frame in frames[-2:])
        return f"{type(error).__name__}: {str(error)[:200]!r} ({where})"
    return None


def _watch(
    process: multiprocessing.process.BaseProcess,
    pipe: Connection,
    calls: Sequence[Call],
    done: int,
    faults: list[Fault],
) -> int:
    """How many calls are done when the process has ended."""
    while done < len(calls):
        deadline = time.monotonic() + SECONDS_PER_CALL
        try:
            answered = pipe.poll(max(0.0, deadline - time.monotonic()))
            error = pipe.recv() if answered else "hang"
        except EOFError:
            process.join()
            error, answered = f"the process ended with {process.exitcode}", False
        if error:
            faults.append(Fault(calls[done].text, error))
        done += 1
        if not answered:
            break
    if process.is_alive():
        process.kill()
    process.join()
    return done
