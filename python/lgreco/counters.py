"""Arithmetic on what `Compression.stats()` gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lgreco.arguments import shown
from lgreco.errors import ConfigError

Stats = dict[str, Any]  # counts, seconds, and a reason as text

# What is no sum over the steps.
_OF_NOW = {"residual_norm", "ratio", "plan_failure"}

# What every step adds to. The other counters are of what happens now and then.
PER_STEP = (
    "bytes_sent",
    "bytes_received",
    "messages_sent",
    "dense_bytes",
    "encode_s",
    "decode_s",
    "check_s",
    "wait_s",
    "plan_wait_s",
)


def with_ratio(stats: Stats) -> Stats:
    """With `dense_bytes / bytes_sent`; 1 when nothing was sent."""
    sent = stats["bytes_sent"]
    return {**stats, "ratio": stats["dense_bytes"] / sent if sent else 1.0}


def interval(now: Stats, earlier: object) -> Stats:
    """What was added to `now` since `earlier`, and the ratio of that. `residual_norm` is today's.

    Raises ConfigError unless `earlier` is what stats() gave before, in the same run.
    """
    if not isinstance(earlier, Mapping):
        raise ConfigError(
            f"[stats] since is a {type(earlier).__name__}; pass a dict that stats() gave before"
        )
    found: Stats = {}
    for name, value in now.items():
        if name in _OF_NOW:
            continue
        before = earlier.get(name)
        if isinstance(before, bool) or not isinstance(before, int | float):
            raise ConfigError(
                f"[stats] since has {shown(before)} for {name!r}; "
                "pass a dict that stats() gave before"
            )
        if not before <= value:
            raise ConfigError(
                f"[stats] since has {before} for {name!r}, and now there are {value}: it is later, "
                "or of another run, or a state was loaded since"
            )
        found[name] = value - before
    if "residual_norm" in now:
        found["residual_norm"] = now["residual_norm"]
    found["plan_failure"] = now["plan_failure"] if found["plan_failures"] else ""
    return with_ratio(found)


def scalars(now: Stats, since: Stats) -> dict[str, float]:
    """For a plot, by name: `lgreco/ratio` and `lgreco/per_step/...`, means of a step since the
    earlier one, and `lgreco/...`, how often something has happened in all."""
    added = interval(now, since)
    steps = max(1, added["steps"])
    found = {"lgreco/ratio": added["ratio"]}
    found |= {f"lgreco/per_step/{name}": added[name] / steps for name in PER_STEP}
    others = now.keys() - _OF_NOW - set(PER_STEP) - {"steps", "plan_s"}
    return found | {f"lgreco/{name}": float(now[name]) for name in sorted(others)}
