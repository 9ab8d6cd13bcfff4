"""What each framework is asked to do: train, save by its own means, and resume.

SCRIPT save FOLDER     three whole runs, and half of one, saved in two ways
SCRIPT resume FOLDER   the other half, from both; prints what came of it as JSON
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from task import loss_of, weights_of
from torch import nn

import lgreco

FOLDER = Path(sys.argv[2])
EPOCHS = 12
STEPS = 36  # 96 examples in batches of 8 on 2 ranks, of which 2 make a step

# (epochs, seed=, exact=, save=folder or None, resume=folder or None): the network and what
# compressed its gradients.
Fit = Callable[..., tuple[nn.Module, lgreco.Compression]]


def main(fit: Fit) -> None:
    action, folder = sys.argv[1], FOLDER
    leads = os.environ["RANK"] == "0"
    if action == "save":
        # Of the same examples in other orders, last the one that is resumed.
        losses = []
        for seed in (5, 4, 3, 2, 1, 0):
            whole, compression = fit(EPOCHS, seed=seed, exact=False, save=None, resume=None)
            assert compression.state_dict()["step"] == STEPS
            losses.append(loss_of(whole))
        for kind in ("exact", "portable"):
            exact = kind == "exact"
            half, _ = fit(EPOCHS // 2, seed=0, exact=exact, save=folder / kind, resume=None)
        if leads:
            saved = {"weights": weights_of(whole), "losses": losses, "half": loss_of(half)}
            torch.save(saved, folder / "whole.pt")
    else:
        whole = torch.load(folder / "whole.pt", weights_only=True)
        found = {"losses": whole["losses"], "half": whole["half"]}
        for kind in ("exact", "portable"):
            model, compression = fit(
                EPOCHS, seed=0, exact=kind == "exact", save=None, resume=folder / kind
            )
            assert compression.stats()["ratio"] > 1.5, compression.stats()
            weights = weights_of(model)
            found[kind] = {
                "same_bits": all(torch.equal(t, weights[n]) for n, t in whole["weights"].items()),
                "loss": loss_of(model),
                "step": compression.state_dict()["step"],
            }
        if leads:
            print("found", json.dumps(found), flush=True)
