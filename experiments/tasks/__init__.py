"""All tasks, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.common.images import load_digits, load_images, shrunk
from experiments.common.task import Task
from experiments.common.text import load_text
from experiments.models.resnet import ResNet18, resnet10
from experiments.tasks.images import ImageTask
from experiments.tasks.text import TextTask

WIDTH = 16  # of the ResNets

_resnet18 = partial(
    ImageTask, network=partial(ResNet18, width=WIDTH), batch=32, peak_rate=0.02, flip=True
)
_resnet10 = partial(ImageTask, network=partial(resnet10, width=WIDTH), batch=16, peak_rate=0.03)


def _digits(data: Path | None) -> Task:
    if data is not None:
        raise ValueError(f"[task] digits come with scikit-learn; nothing is read from {data}")
    return _resnet10("digits", shrunk(load_digits(), 2), steps=300)


# Given the folder of the data, or None: see load_images and load_text. Raises ValueError.
TASKS: dict[str, Callable[[Path | None], Task]] = {
    # Images of half the height and width: a step takes a third of the time, and as error feedback
    # delivers late, many steps show more of it than large images do.
    "resnet18": lambda data: _resnet18("resnet18", shrunk(load_images(data), 2), steps=1600),
    "resnet18-large": lambda data: _resnet18("resnet18-large", load_images(data), steps=1000),
    "resnet": lambda data: _resnet10("resnet", shrunk(load_images(data), 2), steps=600),
    "digits": _digits,
    "transformer": lambda data: TextTask("transformer", load_text(data), steps=600, batch=8),
}
