"""The state of a compression in checkpoints of `torch.distributed.checkpoint`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from lgreco.compression import Compression
from lgreco.torch_internals import RowOfRanks


class DistributedState:
    """What `torch.distributed.checkpoint` saves and loads of a compression: a `Stateful`::

        state = {"model": model, "lgreco": lgreco.DistributedState(compression)}
        torch.distributed.checkpoint.save(state, checkpoint_id=path)  # or async_save
        torch.distributed.checkpoint.load(state, checkpoint_id=path)

    On as many ranks as saved it, each goes on bit for bit. On another number every rank starts with
    the mean of the residuals, as with `portable_state_dict()`. Saved are the residuals of all ranks
    (each rank writes its own, as a row of a tensor) and one model's size besides: their mean and,
    pickled as one object, all that the ranks have alike.

    Give it alone, as a value of the dict that is saved. `state_dict` and `load_state_dict` are
    for torch.distributed.checkpoint, and collective; a compression itself in that dict would be
    saved for one rank alone.
    """

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    def state_dict(self) -> dict[str, Any]:
        """Where a checkpoint is written from, and read into: the same keys, steps or none.

        Raises what `Compression.portable_state_dict` raises.
        """
        own: dict[str, Any] = self._compression.state_dict()
        common: dict[str, Any] = self._compression.portable_state_dict()
        ranks = self._everybody(own)
        shapes = {name: shape for rank in ranks for name, shape in rank["shapes"].items()}
        filled = {name: shape for name, shape in shapes.items() if 0 not in shape}
        means = {name: layer["residual"] for name, layer in _layers(common)}
        kept = {name: bool(mean.numel()) for name, mean in means.items()}
        layers = {
            name: {key: value for key, value in layer.items() if key != "residual"}
            for name, layer in _layers(common)
        }
        return {
            # A tuple is one object for torch.distributed.checkpoint, whatever is in it.
            "common": (common | {"layers": layers, "kept": kept}, ranks),
            "mean": {name: _full(means[name], shape) for name, shape in filled.items()},
            "residual": {
                name: RowOfRanks(_full(layer["residual"], filled[name]), own["rank"])
                for name, layer in _layers(own)
                if name in filled
            },
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """All or nothing on all ranks, as `Compression.load_state_dict`, whose errors it raises."""
        ranks = self._everybody(self._compression.state_dict())
        (here,) = (i for i, one in enumerate(ranks) if one["process"] == dist.get_rank())
        engine, problem, state = self._compression._engine, "", {}
        try:
            state = _state_in(state_dict, ranks, here)
        except Exception as error:  # whatever is in it came from elsewhere
            problem = f"[state] not what DistributedState.state_dict() gave: {error!r}"
        # Own residuals here and their mean there would have another mean.
        kinds = engine.gather(b"of all ranks" if "portable" in state else b"of each rank")
        if not problem and len(set(kinds)) > 1:
            problem = "[state] the ranks have read different checkpoints; load one on all of them"
        if problem:
            engine.load_state([], "fail", problem)  # the others must know
        else:
            self._compression.load_state_dict(state)

    def _everybody(self, own: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What of each rank's state the others have not, but for its residuals; by rank."""
        about = {key: own[key] for key in ("rank", "size", "fingerprint", "stats", "checksum")} | {
            "process": dist.get_rank(),
            "shapes": {name: list(shape) for name, shape in self._compression._layers.items()},
            "has_residual": {n: bool(layer["residual"].numel()) for n, layer in _layers(own)},
            "window_steps": {n: layer["window_steps"] for n, layer in _layers(own)},
        }
        texts = self._compression._engine.gather(json.dumps(about).encode())
        return [json.loads(text) for text in texts]


def _layers(state: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    layers: dict[str, dict[str, Any]] = state["layers"]
    return layers.items()


def _nothing() -> torch.Tensor:
    return torch.empty(0, dtype=torch.float32, device="cpu")


def _full(values: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Of a residual that may not be there yet."""
    return values if values.numel() else torch.zeros(shape, dtype=torch.float32, device="cpu")


def _state_in(saved: Mapping[str, Any], ranks: Sequence[Any], here: int) -> dict[str, Any]:
    """What the rank at place `here` of `ranks` is to load."""
    common, before = saved["common"]
    if not before:
        raise ValueError("it is of no rank")
    # What a rank had begun to collect for a plan on another number of ranks is in no other state.
    complete = all(
        steps in (0, common["layers"][name]["window_steps"])
        for one in before
        for name, steps in one["window_steps"].items()
    )
    if not complete or [_place(one) for one in before] != [_place(one) for one in ranks]:
        layers = {
            name: layer | {"residual": saved["mean"][name] if common["kept"][name] else _nothing()}
            for name, layer in _layers(common)
        }
        return {key: value for key, value in common.items() if key != "kept"} | {"layers": layers}
    own = before[here]
    layers = {}
    for name in own["shapes"]:
        layers[name] = dict(common["layers"][name])
        has_residual, steps = own["has_residual"][name], own["window_steps"][name]
        layers[name]["residual"] = saved["residual"][name].row if has_residual else _nothing()
        layers[name]["window_steps"] = steps
        if not steps:
            layers[name]["window"] = _nothing()
    plan = common["plan"]
    plan = plan | {
        key: {name: plan[key][name] for name in own["shapes"] if name in plan[key]}
        for key in ("levels", "estimates")
    }
    of_rank = {key: own[key] for key in ("rank", "size", "fingerprint", "stats", "checksum")}
    of_all = {key: value for key, value in common.items() if key not in ("portable", "kept")}
    return of_all | of_rank | {"plan": plan, "layers": layers}


def _place(about: Mapping[str, Any]) -> tuple[object, ...]:
    """Which part of which run a rank is."""
    return about["rank"], about["size"], about["fingerprint"], about["shapes"]
