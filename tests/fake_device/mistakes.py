"""Mistakes that the fake device must find, as they would stand in the adaptor.

The tests' build compiles its files once more with all of them, each behind a question that is
answered while it runs (planted.h): mistakes.py SOURCE PLANTED. What the package is built from has
no trace of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mistake:
    name: str
    file: str
    code: str  # that stands there once
    instead: str  # asks is_planted(NAME)


MISTAKES = [
    Mistake(
        "copies do not wait for the caller's stream",
        "adaptors/torch/host_copy.cc",
        "computed_.block(stream);",
        "if (!is_planted(NAME)) computed_.block(stream);",
    ),
    Mistake(
        "the encoder does not wait for copies",
        "adaptors/torch/host_copy.cc",
        "while (!fetched_.query()) {",
        "while (!is_planted(NAME) && !fetched_.query()) {",
    ),
    Mistake(
        "the allocator is not told of the copies' stream",
        "adaptors/torch/host_copy.cc",
        "device_of(stream).recordDataPtrOnStream(tensor.storage().data_ptr(), stream);",
        "if (!is_planted(NAME)) "
        "device_of(stream).recordDataPtrOnStream(tensor.storage().data_ptr(), stream);",
    ),
    Mistake(
        "the caller's stream does not wait for averages",
        "adaptors/torch/host_copy.cc",
        "copied.block(current);",
        "if (!is_planted(NAME)) copied.block(current);",
    ),
    Mistake(
        "the future does not know its device",
        "adaptors/torch/comm_hook.cc",
        "if (!buffer.is_cpu()) devices",
        "if (!buffer.is_cpu() && !is_planted(NAME)) devices",
    ),
    Mistake(
        "the future is completed on another stream",
        "adaptors/torch/comm_hook.cc",
        "on_streams(staged->streams());",
        "on_streams(is_planted(NAME) ? std::vector<c10::Stream>() : staged->streams());",
    ),
    Mistake(
        "the engine gets a pointer to device memory",
        "adaptors/torch/staged_bucket.cc",
        "if (!channel) return tensor;",
        "if (!channel || is_planted(NAME)) return tensor;",
    ),
]


def plant(file: str, source: str) -> str:
    """`source` with the mistakes of that file."""
    for mistake in MISTAKES:
        if not file.endswith(mistake.file):
            continue
        assert source.count(mistake.code) == 1, f"{mistake.code!r} is not once in {file}"
        source = source.replace(mistake.code, mistake.instead.replace("NAME", f'"{mistake.name}"'))
    return '#include "tests/fake_device/planted.h"\n' + source


if __name__ == "__main__":
    target = Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(plant(sys.argv[1], Path(sys.argv[1]).read_text()))
