"""An accelerator of threads, as torch's device "fake": what a GPU would hide shows on it.

    from building import build; build("_fake_device")  # once, before ranks are started
    import fake_device  # makes it torch's accelerator
    model.to("fake:1")

It has two devices. Each stream is a thread that starts its work after a delay; memory cannot be
touched by the host; what is freed is poisoned and reused at once; and every access of memory that
did not wait for what it conflicts with is a race, however the threads ran: `take_races()`.
Collectives on it are those of the backend "fake_collectives", over Gloo.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

BUILD = Path(__file__).resolve().parents[2] / "build/python/tests/fake_device"


def _load(name: str, folder: Path) -> types.ModuleType:
    (path,) = folder.glob(f"{name.rpartition('.')[2]}*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


device = _load("_fake_device", BUILD)
take_races = device.take_races
set_delays = device.set_delays


def plant_mistakes() -> types.FunctionType:
    """lgreco is to use the adaptor with mistakes: returns what plants one, by its name, or "" for
    none. To be called before lgreco is imported."""
    planted = _load("lgreco._torch", BUILD / "planted")
    library = ctypes.CDLL(planted.__file__)
    return lambda mistake: library.plant(mistake.encode())


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Nothing is done on any stream in the block."""
    device.hold_back()
    try:
        yield
    finally:
        device.resume()


@contextlib.contextmanager
def without_pinned_memory() -> Iterator[None]:
    device.set_pinning_fails(True)
    try:
        yield
    finally:
        device.set_pinning_fails(False)


def _index(device_or_index: object) -> int:
    index = getattr(device_or_index, "index", device_or_index)
    return torch.accelerator.current_device_index() if index is None else int(index)


def _device(device_or_index: object) -> torch.device:
    return torch.device("fake", _index(device_or_index))


class _Stream(torch.Stream):
    def __new__(cls, device: object = None, priority: int = 0, **more: object) -> _Stream:
        return super().__new__(cls, device=_device(device), priority=priority, **more)


@contextlib.contextmanager
def _on(stream: torch.Stream | None) -> Iterator[None]:
    if stream is None:
        yield
        return
    before = torch.accelerator.current_stream(stream.device)
    torch.accelerator.set_stream(stream)
    try:
        yield
    finally:
        torch.accelerator.set_stream(before)


def _device_module() -> types.ModuleType:
    """What torch expects of torch.fake."""
    module = types.ModuleType("torch.fake")
    functions = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: device.DEVICES,
        "current_device": torch.accelerator.current_device_index,
        "set_device": lambda which: torch.accelerator.set_device_index(_index(which)),
        "synchronize": lambda which=None: device.synchronize(_index(which)),
        "manual_seed_all": lambda seed: None,
        "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],
        "mem_get_info": lambda which=None: (1 << 34, 1 << 35),
        "Stream": _Stream,
        "Event": lambda *arguments, **settings: torch.Event("fake"),
        "current_stream": lambda which=None: torch.accelerator.current_stream(_device(which)),
        "set_stream": torch.accelerator.set_stream,
        "stream": _on,
    }
    for name, function in functions.items():
        setattr(module, name, function)
    return module


def _collectives(
    store: dist.Store, rank: int, size: int, timeout: object
) -> dist.distributed_c10d.Backend:
    stores = [dist.PrefixStore(f"fake:{index}", store) for index in range(device.DEVICES)]
    return device.collectives_over(
        [dist.ProcessGroupGloo(one, rank, size, timeout=timeout) for one in stores]
    )


torch.utils.rename_privateuse1_backend("fake")
torch._register_device_module("fake", _device_module())
torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
dist.Backend.register_backend("fake_collectives", _collectives, devices=["fake"])
