"""Compress or not? A short probe of a training script or a model, and what it says.

    lgreco advise train.py -- --its --arguments          two ranks on this machine
    torchrun ... -m lgreco.advise train.py --arguments   the job as it will run
    lgreco advise module:factory --bandwidth 1Gbit       a model, and a network that is not here

The probe times some steps with plain DDP and some without communication, the network of the job,
and every level on the gradients of the last step; `lgreco.step_time` makes step times of them.
"""

from __future__ import annotations

from lgreco.advise.advice import Advice, Measurements, NetworkTiming, Prediction, advice_from
from lgreco.advise.levels import DEFAULT_LEVELS, LevelTiming

__all__ = [
    "DEFAULT_LEVELS",
    "Advice",
    "LevelTiming",
    "Measurements",
    "NetworkTiming",
    "Prediction",
    "advice_from",
]
