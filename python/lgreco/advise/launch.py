"""Two ranks on this machine for a probe that was not started under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lgreco.advise.advice import Advice
from lgreco.errors import ConfigError

RANKS = 2
_FOLDER = "LGRECO_ADVISE_FOLDER"  # where the ranks leave what they found


def on_a_rank() -> bool:
    """Whether torchrun, or something like it, started this process."""
    return "RANK" in os.environ


def result_file() -> Path | None:
    """Where this rank leaves its result; None when the user started the ranks."""
    folder = os.environ.get(_FOLDER)
    return None if folder is None else Path(folder, os.environ["RANK"])


def advice_of_own_ranks(arguments: Sequence[str]) -> Advice:
    """Run `lgreco advise` with the same arguments on ranks of its own.

    What the ranks print goes to stderr. Raises ConfigError with the first rank's that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={RANKS}", "-m", "lgreco.advise", *arguments]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ | {_FOLDER: folder}
        if sys.platform == "linux":
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        status = subprocess.run(
            command, env=environment, stdout=sys.stderr.fileno(), check=False
        ).returncode
        results = [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]
    for result in results:
        if "error" in result:
            raise ConfigError(result["error"])
    if status != 0 or not results:
        raise ConfigError("[advise] the probe's ranks failed; what they printed says why")
    return Advice.from_dict(results[0])
