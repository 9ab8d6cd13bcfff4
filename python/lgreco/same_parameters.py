"""Whether the ranks that average a model's layers hold the same parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.distributed as dist

from lgreco.errors import MismatchError, PeerError
from lgreco.process_groups import gathered


def require_same_parameters(
    parameters: Sequence[tuple[str, torch.Tensor]],
    lane: dist.ProcessGroup,
    agreement: dist.ProcessGroup,
) -> None:
    """Raise MismatchError on all ranks of `agreement`, with the same message, unless the ranks of
    each `lane` hold the same bits; PeerError when a rank does not take part.

    Collective. Both groups are of Gloo. As many parameters on every rank, by the same names.
    """
    own = [_hash_of([parameter]) for _, parameter in parameters]
    try:
        lowest = min(rank for (rank,) in gathered([agreement.rank()], lane))
        everybody = gathered([lowest, _hash_of([p for _, p in parameters])], agreement)
        first_of = [everybody[lowest] for lowest, _ in everybody]
        if everybody == first_of:
            return
        hashes = gathered(own, agreement)
    except RuntimeError as error:
        raise PeerError(f"[compress] the ranks' parameters were not compared: {error}") from error
    for rank, (lowest, _) in enumerate(everybody):
        for (name, _), here, there in zip(parameters, hashes[rank], hashes[lowest], strict=True):
            if here != there:
                raise MismatchError(
                    f"[compress] parameter '{name}' of rank {rank} is not that of rank {lowest}, "
                    "whose replica of the model it belongs to; load the same parameters into all "
                    "replicas, or initialise them by the same seed, before compressing"
                )


def _hash_of(tensors: Sequence[torch.Tensor]) -> int:
    state = hashlib.blake2b(digest_size=7)
    for tensor in tensors:
        of_bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        state.update(of_bytes.numpy().data)
    return int.from_bytes(state.digest(), "big")
