"""What a user sees of a run: figures of intervals, experiment trackers, the log of the run."""

import json
import sys
from pathlib import Path

import torch
from common import batch, process_group, small_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

import lgreco
from lgreco.report import write_report
from lgreco.run_log import read_run_log

EVERY = 2


class WandbRun:
    """The methods of wandb's that we call, as it declares them; it drops what is out of order."""

    def __init__(self):
        self.axes, self.rows = {}, []

    def define_metric(self, name, step_metric=None, step_sync=None, hidden=None, summary=None,
                      goal=None, overwrite=None):  # fmt: skip
        self.axes[name] = step_metric

    def log(self, data, step=None, commit=None):
        assert step is None, "the run's own steps are the user's"
        self.rows.append(dict(data))


class Mlflow:
    """As the module mlflow."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step=None, synchronous=None, run_id=None, timestamp=None):
        assert all(type(value) in (int, float) for value in metrics.values())
        self.rows.append((step, metrics))


class MlflowClient:
    def __init__(self):
        self.rows = []

    def get_run(self, run_id):
        raise NotImplementedError

    def log_metric(self, run_id, key, value, timestamp=None, step=None, synchronous=None):
        self.rows.append((run_id, step, key))


def trainer(policy=None):
    ddp = DistributedDataParallel(small_model(), bucket_cap_mb=0.1)
    compression = lgreco.compress(ddp, lgreco.PowerSGD(2, min_ratio=1), policy)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.05)

    def step(number):
        optimizer.zero_grad()
        x, y = batch(rank, number)
        loss = functional.cross_entropy(ddp(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return compression, step


def refused(call, message):
    try:
        call()
    except lgreco.ConfigError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"not refused: {message}")


def check_intervals():
    compression, step = trainer()
    step(0)
    before = compression.stats()
    for number in (1, 2, 3):
        step(number)
    assert compression.stats(wait=False)["steps"] == 4, "the backward pass has waited already"
    now, added = compression.stats(), compression.stats(before)
    assert added["steps"] == 3
    assert added["bytes_sent"] == now["bytes_sent"] - before["bytes_sent"] > 0
    assert added["ratio"] == added["dense_bytes"] / added["bytes_sent"]
    assert compression.stats(since=compression.stats(wait=False))["steps"] == 0
    refused(lambda: trainer()[0].stats(now), "[stats] since has")
    refused(lambda: compression.stats(4), "[stats] since is a int")


def check_trackers(folder):
    compression, step = trainer()
    summary = SummaryWriter(folder / "tensorboard") if rank == 0 else None
    wandb, mlflow, client = WandbRun(), Mlflow(), MlflowClient()
    compression.log_to(summary, every=EVERY)
    compression.log_to(wandb, every=EVERY)
    compression.log_to(mlflow, every=EVERY)
    compression.log_to(client, every=EVERY, run_id="some run")
    refused(lambda: compression.log_to(client), "needs the run")
    refused(lambda: compression.log_to(print), "cannot write to a builtin_function_or_method")
    refused(lambda: compression.log_to(mlflow, every=0), "[log_to] every must be a whole number")
    waiting = compression.stats
    compression.stats = None  # which waits
    for number in range(2 * EVERY + 1):  # the last pass writes of the steps before it
        step(number)
    compression.stats = waiting

    assert wandb.axes == {"lgreco/step": None, "lgreco/*": "lgreco/step"}
    assert [row["lgreco/step"] for row in wandb.rows] == [EVERY, 2 * EVERY]
    assert [at for at, _ in mlflow.rows] == [EVERY, 2 * EVERY]
    names = mlflow.rows[0][1].keys()
    assert names | {"lgreco/step"} == wandb.rows[0].keys()
    assert [row[:2] for row in client.rows[:: len(names)]] == [("some run", 2), ("some run", 4)]
    assert {key for _, _, key in client.rows} == names
    for _, metrics in mlflow.rows:
        assert metrics["lgreco/ratio"] > 1 and metrics["lgreco/per_step/encode_s"] > 0

    # With the state of another run, which has its own counters, figures begin anew.
    compression.load_state_dict(compression.state_dict())
    step(9)
    step(10)
    assert len(mlflow.rows) == 2
    if rank == 0:
        summary.close()
        events = EventAccumulator(str(folder / "tensorboard")).Reload()
        assert set(events.Tags()["scalars"]) == names
        written = [(event.step, event.value) for event in events.Scalars("lgreco/ratio")]
        assert [at for at, _ in written] == [EVERY, 2 * EVERY]
        assert abs(written[0][1] - mlflow.rows[0][1]["lgreco/ratio"]) < 1e-3


def check_run_log(folder):
    compression, step = trainer(lgreco.LGreCo(every=8, start=4, window=2, levels="mixed"))
    path = folder / "run.jsonl"
    with lgreco.RunLog(path, compression=compression, settings={"lr": 0.05}, data="noise") as log:
        compression.log_to(log, every=4)
        for number in range(21):
            log.step(step(number))
        log.evaluate(accuracy=50.0)
    torch.distributed.barrier()
    run = read_run_log(path)  # each line whole: nobody else has written
    (start,) = run["start"]
    assert start["ranks"] == size and start["versions"]["torch"] == torch.__version__
    assert start["settings"] == {
        "method": str(lgreco.PowerSGD(2, min_ratio=1)), "policy": repr(compression_policy()),
        "seed": 0, "lr": 0.05,
    }  # fmt: skip
    assert [line["step"] for line in run["step"]] == list(range(1, 22))
    versions = [plan["version"] for plan in run["plan"]]
    assert versions == list(range(len(versions))) and len(versions) > 1, versions
    assert run["plan"][-1]["levels"] == compression.plan.to_dict()["levels"]
    assert {line["step"] for line in run["stats"]} == {10, 20} | {4, 8, 12, 16, 20}
    assert run["end"][0]["stats"]["steps"] == 21
    assert run["evaluation"][0]["bytes_sent"] == run["end"][0]["stats"]["bytes_sent"]
    page = write_report([run], folder / f"report-{rank}.html").read_text()
    assert "noise" in page
    json.dumps(run)


def compression_policy():
    return lgreco.LGreCo(every=8, start=4, window=2, levels="mixed")


def check_aggregator():
    aggregator = lgreco.Aggregator({"w": [64, 64]}, lgreco.Quantize(4))
    mlflow = Mlflow()
    aggregator.log_to(mlflow, every=1)
    for _ in range(3):
        aggregator.average_({"w": torch.randn(64, 64)})
    assert [at for at, _ in mlflow.rows] == [1, 2]
    assert repr(aggregator) == (
        f"<lgreco.Aggregator: quantize:4, Uniform(), layers: 1, elements: 4,096, rank {rank} of "
        f"{size}, step 3>"
    ), repr(aggregator)


with process_group() as (rank, size):
    check_intervals()
    check_trackers(Path(sys.argv[1]))
    check_run_log(Path(sys.argv[1]))
    check_aggregator()
    if rank == 0:
        print("seen")
