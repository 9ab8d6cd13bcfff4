"""Calls each function of lgreco.torch_internals on the real thing; names those that fail."""

import inspect
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from common import batch, process_group, small_model
from torch.distributed._composable import replicate
from torch.distributed._composable.replicate_with_fsdp import replicate as replicate_by_fsdp
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from lgreco import _torch, torch_internals
from lgreco.process_groups import own_groups

with process_group() as (rank, size):
    ddp = DistributedDataParallel(small_model())
    sharded = fully_shard(small_model(), mesh=init_device_mesh("cpu", (size,)))

    def group_over():
        (own,) = own_groups(None, 1, 60.0).lanes
        everybody = [torch.zeros(1) for _ in range(size)]
        own.allgather([everybody], [torch.ones(1)]).wait()
        assert torch.cat(everybody).sum() == size

    def sharded_groups():
        (group,) = torch_internals.sharded_groups(sharded)
        assert group.shards == size and group.shard == rank and group.replicate_group is None
        wholes = [p.numel() for p in small_model().parameters()]
        for one, whole in zip(group.parameters, wholes, strict=True):
            assert one.parameter.to_local().shape == one.shape
            assert one.shape.numel() == one.elements_of_shards[rank]
            assert sum(one.elements_of_shards) == whole
        assert group.elements * size >= sum(p.numel() for p in small_model().parameters())
        assert not group.has_hook
        sharded.set_all_reduce_hook(lambda gradients: None)
        assert torch_internals.sharded_groups(sharded)[0].has_hook

    def add_reduced():
        model = fully_shard(small_model(), mesh=init_device_mesh("cpu", (size,)))
        reduced = []

        def hook(gradients):
            reduced.append(gradients.clone())
            gradients.zero_()
            torch_internals.at_end_of_backward_pass(
                lambda: torch_internals.add_reduced(model, group.identity, reduced[0])
            )

        (group,) = torch_internals.sharded_groups(model)
        model.set_all_reduce_hook(hook)
        model(batch(rank, 0)[0]).sum().backward()
        assert all(p.grad.to_local().any() for p in model.parameters() if p.to_local().numel())

    def at_end_of_backward_pass():
        calls = []
        x = torch.ones(1, requires_grad=True)
        x.register_hook(lambda _: torch_internals.at_end_of_backward_pass(lambda: calls.append(1)))
        x.square().backward()
        assert calls == [1]

    def backward_pass():
        numbers = []
        x = torch.ones(1, requires_grad=True)
        x.register_hook(lambda _: numbers.append(torch_internals.backward_pass()))
        for _ in range(2):
            (x * 2).backward()
        assert len(set(numbers)) == 2

    def has_gradient_hook():
        x = torch.nn.Parameter(torch.ones(1))
        assert not torch_internals.has_gradient_hook(x)
        x.register_post_accumulate_grad_hook(lambda _: None)
        assert torch_internals.has_gradient_hook(x)

    def has_hook():
        assert not torch_internals.has_hook(ddp)
        ddp.register_comm_hook(None, lambda state, bucket: bucket.buffer())
        assert torch_internals.has_hook(ddp)

    def reducer_of():
        reducer = torch_internals.reducer_of(ddp)
        assert len(_torch.parameters_of(reducer)) == len(list(ddp.parameters()))

    def backend_of():
        assert torch_internals.backend_of(dist.group.WORLD, "cpu") == "gloo"
        assert torch_internals.backend_of(dist.group.WORLD, "xla") is None

    def is_supported():
        assert torch_internals.is_supported(torch.device("cpu"))
        assert not torch_internals.is_supported(torch.device("meta"))

    def timeout_of():
        assert torch_internals.timeout_of(dist.group.WORLD) == 1800
        short = dist.new_group(timeout=timedelta(seconds=7))
        assert torch_internals.timeout_of(short) == 7

    def ignored_names():
        assert torch_internals.ignored_names(ddp) == set()

    def own_name():
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        model[0] = checkpoint_wrapper(torch.compile(model[0]))
        names = [name for name, _ in torch.compile(model).named_parameters()]
        assert [torch_internals.own_name(name) for name in names] == ["0.weight", "0.bias"], names

    def is_replicated():
        assert torch_internals.is_replicated(replicate(small_model()))
        assert not torch_internals.is_replicated(ddp)

    def ddp_of():
        model = replicate(small_model())
        ddp = torch_internals.ddp_of(model)
        model(batch(rank, 0)[0]).sum().backward()
        assert torch_internals.ddp_of(model) is ddp
        assert len(_torch.parameters_of(ddp.reducer)) == len(list(model.parameters()))

    def leave_replicas_to_the_hook():
        for model in (
            fully_shard(
                small_model(), mesh=init_device_mesh("cpu", (size, 1), mesh_dim_names=("a", "b"))
            ),
            replicate_by_fsdp(small_model(), mesh=init_device_mesh("cpu", (size,))),
        ):
            (group,) = torch_internals.sharded_groups(model)
            assert group.replicate_group.size() == size and group.shards == 1
            torch_internals.leave_replicas_to_the_hook(model)
            seen = []
            model.set_all_reduce_hook(lambda gradients, seen=seen: seen.append(gradients.clone()))
            (group,) = torch_internals.sharded_groups(model)
            assert group.replicate_group is None and group.shards == 1
            model(batch(rank, 0)[0]).sum().backward()
            here = [torch.zeros_like(seen[0]) for _ in range(size)]
            dist.all_gather(here, seen[0])
            assert not torch.equal(*here[:2]), "FSDP averaged itself"

    def meshes_of():
        assert torch_internals.meshes_of(sharded) == 1

    # A row for each of two ranks, one of which has nothing in the checkpoint of the other alone.
    path = sys.argv[1]
    for saves in (range(2), range(1)):
        here = torch_internals.RowOfRanks(torch.full((3,), rank + 1.0), rank)
        members = dist.new_group(list(saves))
        if rank in saves:
            dcp.save({"a": here}, checkpoint_id=f"{path}/{len(saves)}", process_group=members)
        dist.barrier()
        here = torch_internals.RowOfRanks(torch.zeros(3), rank)
        dcp.load({"a": here}, checkpoint_id=f"{path}/{len(saves)}")
        assert here.row.tolist() == [rank + 1.0 if rank in saves else 0.0] * 3

    functions = {
        name
        for name, one in inspect.getmembers(torch_internals, inspect.isfunction)
        if one.__module__ == torch_internals.__name__ and not name.startswith("_")
    }
    failures = []
    for name in sorted(functions):
        try:
            globals()[name]()
        except Exception as error:
            failures.append(f"torch_internals.{name}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
    if rank == 0:
        print(f"{len(functions)} functions reach PyTorch")
