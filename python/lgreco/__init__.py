"""Layer-adaptive gradient compression for data-parallel training.

    ddp = DistributedDataParallel(model)
    compression = lgreco.compress(ddp, lgreco.PowerSGD(rank=4), policy=lgreco.LGreCo(every=1000))

Everything but `compress`, `compress_replicas`, `Compression`, `DistributedState`, `Aggregator` and
`OuterStep` works without torch, which is loaded when one of those is first used. Where torch is
missing they are no attributes: `hasattr(lgreco, "compress")` is False, `lgreco.compress` raises a
ConfigError that is an AttributeError, and says what to install, and `from lgreco import compress`
is an ImportError.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lgreco._core import __version__
from lgreco.codec import decode, encode
from lgreco.cost_table import CostTable, cost_table
from lgreco.errors import (
    ConfigError,
    Error,
    MismatchError,
    PeerError,
    ProtocolError,
    StateError,
)
from lgreco.methods import Cast, Dense, Entropy, Method, PowerSGD, Quantize, TopK, method
from lgreco.plan import Plan
from lgreco.planner import Solution, solve
from lgreco.policies import Accordion, Fixed, LGreCo, Policy, Uniform
from lgreco.run_log import RunLog

if TYPE_CHECKING:
    from lgreco.aggregator import Aggregator
    from lgreco.compression import Compression
    from lgreco.distributed_state import DistributedState
    from lgreco.frontends.ddp import compress
    from lgreco.frontends.fsdp import compress_replicas
    from lgreco.outer_step import OuterStep

_NEEDS_TORCH = {
    "compress": "lgreco.frontends.ddp",
    "compress_replicas": "lgreco.frontends.fsdp",
    "Aggregator": "lgreco.aggregator",
    "Compression": "lgreco.compression",
    "DistributedState": "lgreco.distributed_state",
    "OuterStep": "lgreco.outer_step",
}

__all__ = [
    "Accordion",
    "Aggregator",
    "Cast",
    "Compression",
    "ConfigError",
    "CostTable",
    "Dense",
    "DistributedState",
    "Entropy",
    "Error",
    "Fixed",
    "LGreCo",
    "Method",
    "MismatchError",
    "OuterStep",
    "PeerError",
    "Plan",
    "Policy",
    "PowerSGD",
    "ProtocolError",
    "Quantize",
    "RunLog",
    "Solution",
    "StateError",
    "TopK",
    "Uniform",
    "__version__",
    "compress",
    "compress_replicas",
    "cost_table",
    "decode",
    "encode",
    "method",
    "solve",
]


class _NeedsTorch(ConfigError, AttributeError):
    """Of a name that is not there without torch."""


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'lgreco' has no attribute {name!r}")
    try:
        module = importlib.import_module(_NEEDS_TORCH[name])
    except ImportError as error:
        raise _NeedsTorch(
            f"[lgreco] '{name}' needs PyTorch, and lgreco built with the same release of it: "
            f"pip install torch==2.13.0, then install lgreco again ({error})"
        ) from error
    return getattr(module, name)
