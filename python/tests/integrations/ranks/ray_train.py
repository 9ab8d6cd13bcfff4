"""Ray Train, of which this starts the ranks: a run that is resumed is the uninterrupted one."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from task import LEVEL, POLICY, examples, network, weights_of


def train(config):
    import lgreco

    model = prepare_model(network())
    compression = lgreco.compress(model, LEVEL, POLICY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    first = 0
    if ray.train.get_checkpoint():
        with ray.train.get_checkpoint().as_directory() as folder:
            states = [
                torch.load(file, weights_only=True)
                for file in sorted(Path(folder).glob("lgreco*.pt"))
            ]
            saved = torch.load(Path(folder) / "training.pt", weights_only=True)
        compression.load_state_dict(states, world_size_change="mean")
        model.module.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"]
    data = prepare_data_loader(DataLoader(examples(), batch_size=8, shuffle=False))
    for epoch in range(first, config["epochs"]):
        for x, y in data:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        with tempfile.TemporaryDirectory() as folder:
            rank = ray.train.get_context().get_world_rank()
            torch.save(compression.state_dict(), f"{folder}/lgreco{rank}.pt")
            if rank == 0:
                saved = {
                    "model": model.module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "epoch": epoch + 1,
                }
                torch.save(saved, f"{folder}/training.pt")
            ray.train.report(
                {"ratio": compression.stats()["ratio"], "epoch": epoch},
                checkpoint=ray.train.Checkpoint.from_directory(folder),
            )


def run(name: str, epochs: int) -> tuple[dict, dict]:
    """Weights and metrics after so many epochs; goes on where a run of this name ended."""
    result = TorchTrainer(
        train,
        train_loop_config={"epochs": epochs},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(name=name, storage_path=sys.argv[1]),
    ).fit()
    with result.checkpoint.as_directory() as folder:
        saved = torch.load(Path(folder) / "training.pt", weights_only=True)
    assert saved["epoch"] == epochs
    return saved["model"], result.metrics


ray.init(
    num_cpus=3,
    include_dashboard=False,
    runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
)
whole, metrics = run("whole", 4)
assert metrics["ratio"] > 1.5 and metrics["epoch"] == 3, metrics
run("resumed", 2)
resumed, _ = run("resumed", 4)
assert all(torch.equal(tensor, whole[name]) for name, tensor in resumed.items())
assert not all(torch.equal(t, whole[n]) for n, t in weights_of(network()).items())
ray.shutdown()
print("the same bits")
