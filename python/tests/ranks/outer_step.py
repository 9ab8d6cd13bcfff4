"""Local steps and a compressed outer step, by cases. Arguments: the names of the cases."""

import io
import os
import sys
import warnings

import torch
import torch.distributed as dist
from common import METHODS, assert_same_on_all_ranks, batch, process_group, small_model
from torch import nn
from torch.nn import functional

import lgreco

EVERY = 3


def optimizer_of(kind, model):
    if kind == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=2e-3)
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)


class Run:
    """A model in training: `between` is called with the step's number before each outer.step()."""

    def __init__(self, rank, method="dense", kind="sgd", policy=None, **settings):
        self.rank = rank
        self.model = settings.pop("model", None) or small_model()
        self.optimizer = optimizer_of(kind, self.model)
        settings = {"every": EVERY} | settings
        self.outer = lgreco.OuterStep(self.model, lgreco.method(method), policy, **settings)

    def local_step(self, step):
        self.optimizer.zero_grad()
        x, y = batch(self.rank, step)
        functional.cross_entropy(self.model(x.to(dtype_of(self.model))).float(), y).backward()
        self.optimizer.step()

    def train(self, first, last):
        """How often it synchronised."""
        count = 0
        for step in range(first, last):
            self.local_step(step)
            count += self.outer.step()
        return count

    def parameters(self):
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def outer_parameters(self):
        with self.outer.outer_parameters():
            return self.parameters()


def dtype_of(model):
    return next(model.parameters()).dtype


def equal(these, those):
    return all(torch.equal(a, b) for a, b in zip(these, those, strict=True))


def refused(error_type, message, call):
    try:
        call()
    except error_type as error:
        assert message in str(error), f"{message!r} not in {error}"
        return
    raise AssertionError(f"no {error_type.__name__} with {message!r}")


def diloco(rank, size, nesterov, momentum, rounds):
    """As in the paper, with all_reduce. Two means of the same parameters, after as many rounds:
    by the arithmetic of the outer step, and by torch.optim.SGD."""
    results = []
    for by_torch in (False, True):
        model = small_model()
        optimizer = optimizer_of("sgd", model)
        outer = [parameter.detach().clone() for parameter in model.parameters()]
        velocity = [torch.zeros_like(parameter) for parameter in outer]
        sgd = torch.optim.SGD(
            outer, lr=0.7, momentum=momentum, nesterov=nesterov and momentum > 0, foreach=False
        )
        for step in range(rounds * EVERY):
            optimizer.zero_grad()
            x, y = batch(rank, step)
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if (step + 1) % EVERY:
                continue
            with torch.no_grad():
                for i, parameter in enumerate(model.parameters()):
                    mean = outer[i] - parameter
                    dist.all_reduce(mean)
                    mean /= size
                    if by_torch:
                        outer[i].grad = mean
                        continue
                    velocity[i] = velocity[i] * momentum + mean
                    change = velocity[i] * momentum + mean if nesterov else velocity[i]
                    outer[i] -= change * 0.7
                if by_torch:
                    sgd.step()
                for parameter, now in zip(model.parameters(), outer, strict=True):
                    parameter.copy_(now)
        results.append([parameter.detach() for parameter in outer])
    return results


def dense_is_plain_diloco(rank, size):
    for nesterov, momentum in ((True, 0.9), (False, 0.9), (True, 0.0)):
        run = Run(rank, nesterov=nesterov, momentum=momentum)
        assert run.train(0, 4 * EVERY) == 4
        by_hand, by_torch = diloco(rank, size, nesterov, momentum, rounds=4)
        # Two numbers have one sum, whoever adds them.
        assert size > 2 or equal(run.parameters(), by_hand), (nesterov, momentum)
        for expected in (by_hand, by_torch):
            torch.testing.assert_close(run.parameters(), expected)


def every_method_gives_all_ranks_the_same_bits(rank, size):
    for method in [*METHODS, "entropy:0.5", "low_rank:2:min_ratio=1:factors=8"]:
        for kind, every in (("sgd", 2), ("adamw", 1)):
            run = Run(rank, method, kind, every=every)
            start = run.parameters()
            for step in range(4):
                run.local_step(step)
                local = run.parameters()
                synchronised = run.outer.step()
                assert synchronised == ((step + 1) % every == 0)
                now = run.parameters()
                if synchronised:
                    assert_same_on_all_ranks(now, f"{method}, {kind}")
                    assert equal(now, run.outer_parameters())
                assert equal(now, local) != synchronised
            assert not equal(start, run.parameters())
            stats = run.outer.stats()
            assert stats["steps"] == 4 // every and stats["local_steps"] == 4
            if method != "dense":
                assert stats["bytes_sent"] < stats["dense_bytes"], method


def one_local_step_is_data_parallelism(rank, size):
    """Averages of one SGD step each are a step along the average gradient."""
    run = Run(rank, every=1, lr=1.0, momentum=0.0)
    plain = small_model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.05)
    for step in range(3):
        assert run.train(step, step + 1) == 1
        optimizer.zero_grad()
        x, y = batch(rank, step)
        functional.cross_entropy(plain(x), y).backward()
        for parameter in plain.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= size
        optimizer.step()
    torch.testing.assert_close(list(run.model.parameters()), list(plain.parameters()))


def fragments_cover_every_parameter_once(rank, size):
    for every, fragments in ((5, 1), (5, 3), (4, 4), (7, 2), (11, 11)):
        run = Run(rank, "quantize:4", every=every, fragments=fragments)
        names = [name for name, _ in run.model.named_parameters()]
        for interval in range(3):
            changes = dict.fromkeys(names, 0)
            at = []
            for step in range(interval * every, (interval + 1) * every):
                with torch.no_grad():
                    for parameter in run.model.parameters():
                        parameter += torch.randn_like(parameter)
                before = run.parameters()
                sent = run.outer.stats()["dense_bytes"]
                synchronised = run.outer.step()
                changed = [
                    name
                    for name, a, b in zip(names, before, run.model.parameters(), strict=True)
                    if not torch.equal(a, b)
                ]
                assert bool(changed) == synchronised == (run.outer.stats()["dense_bytes"] > sent)
                for name in changed:
                    changes[name] += 1
                if synchronised:
                    at.append(step + 1 - interval * every)
                    named = dict(run.model.named_parameters())
                    assert_same_on_all_ranks([named[name] for name in changed], "a fragment")
            assert set(changes.values()) == {1}, changes
            assert at == [(i + 1) * every // fragments for i in range(fragments)]
        assert run.outer.stats()["steps"] == 3 * fragments


def error_feedback_telescopes(rank, size):
    """What was applied, and what is still owed, is all that the ranks have moved."""
    for method in ("quantize:2", "topk:0.02", "low_rank:2:min_ratio=1"):
        run = Run(rank, method, "adamw", every=2, lr=1.0, momentum=0.0)
        start = run.parameters()
        moved = [torch.zeros_like(p, dtype=torch.float64) for p in start]
        for step in range(8):
            run.local_step(step)
            local, outer = run.parameters(), run.outer_parameters()
            if run.outer.step():
                for total, old, now in zip(moved, outer, local, strict=True):
                    total += old.double() - now.double()
        residuals = run.outer.state_dict()["compression"]["layers"]
        applied = run.outer_parameters()
        for (name, _), total, old, now in zip(
            run.model.named_parameters(), moved, start, applied, strict=True
        ):
            owed = residuals[name]["residual"]
            if owed.numel() == 0:
                owed = torch.zeros_like(old)
            both = torch.stack([total, owed.double()])
            dist.all_reduce(both)
            total, owed = both / size
            torch.testing.assert_close(
                old.double() - now.double() + owed, total, rtol=1e-5, atol=1e-5
            )


def parameters_of_16_bits(rank, size):
    for dtype in (torch.bfloat16, torch.float16):
        model = small_model().to(dtype)
        run = Run(rank, "quantize:4", model=model, every=1, lr=1.0, momentum=0.0)
        run.train(0, 4)
        assert_same_on_all_ranks(run.parameters(), str(dtype))
        assert all(parameter.dtype == dtype for parameter in model.parameters())

        # Whoever stands still moves nothing, although the outer parameters have more digits.
        standing = run.outer.state_dict()["parameters"]
        assert all(outer.dtype == torch.float32 for outer in standing.values())
        assert any(not torch.equal(p, p.to(dtype).float()) for p in standing.values())
        plain = lgreco.OuterStep(model, lgreco.Dense(), every=1, momentum=0.0)
        plain.load_state_dict(
            plain.state_dict() | {"parameters": standing, "is_of_all_ranks": True}
        )
        for _ in range(3):
            assert plain.step()
        now = plain.state_dict()["parameters"]
        assert all(torch.equal(now[name], standing[name]) for name in now), dtype

        # Steps too small for the dtype add up: the ranks move one after another by one unit.
        tensor = torch.ones(4, dtype=dtype)
        unit = torch.finfo(dtype).eps
        summing = lgreco.OuterStep(
            {"a": tensor}, lgreco.Dense(), every=1, lr=1.0, momentum=0.0, fragments=1
        )
        for step in range(2 * size):
            if step % size == rank:
                tensor += unit
            summing.step()
        assert torch.equal(tensor, torch.full_like(tensor, 1 + 2 * unit)), tensor


def starts_alike_and_leaves_the_rest(rank, size):
    """Frozen parameters and buffers are those of rank 0 at the start, and nobody's afterwards."""

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_model(seed=rank)
            self.body[0].requires_grad_(False)
            self.register_buffer("seen", torch.full((3,), float(rank)), persistent=False)
            self.register_buffer("count", torch.tensor(rank))
            self.register_buffer("mask", torch.tensor([rank == 0, True]))
            self.empty = nn.Parameter(torch.zeros(0))

        def forward(self, x):
            return self.body(x)

    run = Run(rank, model=Frozen())
    model = run.model
    compiled = lgreco.OuterStep(torch.compile(model), lgreco.Dense(), every=3)
    assert list(compiled.plan) == list(run.outer.plan), "by the names that they were given"
    everything = [*model.parameters(), *model.buffers()]
    assert_same_on_all_ranks(everything, "the start")
    assert model.count == 0 and model.mask.tolist() == [True, True]
    frozen = model.body[0].weight.clone()
    assert not any("body.0." in name for name in run.outer.plan)
    run.train(0, EVERY - 1)
    model.seen += rank
    run.local_step(EVERY)
    buffers = [buffer.clone() for buffer in model.buffers()]
    assert run.outer.step()
    assert equal(buffers, list(model.buffers())), "buffers are each rank's own"
    assert model.body[1].num_batches_tracked == EVERY
    assert torch.equal(frozen, model.body[0].weight)
    means = [torch.empty(32) for _ in range(size)]
    dist.all_gather(means, model.body[1].running_mean)
    assert not torch.equal(means[0], means[1])
    assert_same_on_all_ranks(run.parameters(), "parameters")


def what_is_not_finite_is_skipped(rank, size):
    for fragments in (1, 3):
        for value in (float("nan"), float("inf")):
            run = Run(rank, "quantize:4", fragments=fragments)
            run.train(0, EVERY)
            run.local_step(EVERY)
            before = run.outer.state_dict()
            with torch.no_grad():
                for name, parameter in run.model.named_parameters():
                    if rank == size - 1 and (fragments > 1 or name == "7.weight"):
                        parameter.view(-1)[0] = value
            own = run.parameters()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                while not run.outer.step():
                    pass
            assert any("not finite" in str(one.message) for one in caught), caught
            assert run.outer.stats()["overflow_steps"] == 1
            after = run.outer.state_dict()
            for what in ("parameters", "momentum"):
                assert equal(before[what].values(), after[what].values()), what
            if fragments == 1 or rank == size - 1:
                assert equal(run.parameters(), run.outer_parameters())
            else:
                assert not equal(run.parameters(), run.outer_parameters())
            assert not equal(run.parameters(), own)
            run.optimizer = optimizer_of("sgd", run.model)
            run.train(EVERY, 3 * EVERY)
            assert run.outer.stats()["overflow_steps"] == 1, "recovers"
            assert all(bool(p.isfinite().all()) for p in run.model.parameters())


def flushes_and_shows_what_is_common(rank, size):
    run = Run(rank, "topk:0.05", every=4, fragments=2)
    run.train(0, 4)
    first = run.outer.stats()
    run.train(4, 9)
    since = run.outer.stats(first)
    assert (since["local_steps"], since["steps"]) == (5, 2), since
    assert since["bytes_sent"] == run.outer.stats(wait=False)["bytes_sent"] - first["bytes_sent"]
    assert "fragments: 2, local step 9" in repr(run.outer), repr(run.outer)
    local = run.parameters()
    with run.outer.outer_parameters():
        assert_same_on_all_ranks(list(run.model.parameters()), "outer parameters")
        assert not equal(local, run.parameters())
    assert equal(local, run.parameters())
    assert run.outer.stats()["steps"] == 4
    assert run.outer.flush() and run.outer.stats()["steps"] == 6
    assert_same_on_all_ranks(run.parameters(), "flushed")
    assert equal(run.parameters(), run.outer_parameters())
    assert not run.outer.flush() and run.outer.stats()["steps"] == 6
    assert [run.train(step, step + 1) for step in range(9, 13)] == [1, 0, 1, 0], "as before"
    assert not run.outer.flush() or run.outer.stats()["steps"] == 10

    # Other weights: on every rank those of rank 0.
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.fill_(1.0 + rank)
    run.outer.reset()
    assert not run.outer.flush()
    state = run.outer.state_dict()
    assert all(bool((p == 1).all()) for p in run.model.parameters())
    assert all(bool((p == 1).all()) for p in state["parameters"].values())
    assert not any(bool(p.any()) for p in state["momentum"].values())
    residuals = [layer["residual"] for layer in state["compression"]["layers"].values()]
    assert not any(bool(residual.any()) for residual in residuals)
    memory = run.outer.memory()
    assert memory["outer_parameters"] == memory["momentum"] == sum(p.nbytes for p in local)


def plans_are_of_pseudo_gradients(rank, size):
    for fragments, policy in (
        (1, lgreco.LGreCo(every=3, start=3, window=2)),
        (3, lgreco.LGreCo(every=9, start=9, window=6, levels="mixed")),
        (1, lgreco.Accordion(lgreco.Quantize(8), lgreco.Quantize(2), every=2)),
    ):
        run = Run(rank, "quantize:4", "adamw", policy, every=3, fragments=fragments)
        assert run.train(0, 21) == 7 * fragments
        stats = run.outer.stats()
        if isinstance(policy, lgreco.LGreCo):
            assert stats["plans"] == 2 and stats["plan_failures"] == 0, stats
            assert run.outer.plan.version > 0, run.outer.plan
        assert run.outer.plan == run.outer.compression.plan
        run.outer.flush()
        assert_same_on_all_ranks(run.parameters(), str(policy))


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def end_of(run):
    """All that must be equal; times are not."""
    state = run.outer.state_dict()
    layers = [v for layer in state["compression"]["layers"].values() for v in layer.values()]
    tensors = [
        *run.parameters(),
        *state["parameters"].values(),
        *state["momentum"].values(),
        *(value for value in layers if isinstance(value, torch.Tensor)),
    ]
    counts = {
        k: v for k, v in run.outer.stats().items() if not k.endswith("_s") and k != "residual_norm"
    }
    return tensors, run.outer.plan, counts, state["sent_at"]


def resumes_at_every_step(rank, size):
    policy = lgreco.LGreCo(every=6, start=4, window=3)
    for method, fragments in (
        ("quantize:4", 1),
        ("low_rank:2:min_ratio=1", 3),
        ("topk:0.02", 2),
    ):

        def begin(method=method, fragments=fragments):
            return Run(rank, method, "adamw", policy, every=4, fragments=fragments)

        whole, saves = begin(), []
        for step in range(13):
            parts = (whole.model, whole.optimizer, whole.outer)
            saves.append(saved([part.state_dict() for part in parts]))
            whole.train(step, step + 1)
        expected = end_of(whole)
        for step, (model, optimizer, outer) in enumerate(saves):
            resumed = begin()
            if step % 5 == 0:
                resumed.train(50, 55)  # something else, in the middle of an interval
            resumed.model.load_state_dict(model)
            resumed.optimizer.load_state_dict(optimizer)
            resumed.outer.load_state_dict(outer, step=step)
            resumed.train(step, 13)
            found = end_of(resumed)
            assert equal(expected[0], found[0]), f"{method}, resumed at {step}"
            assert expected[1:] == found[1:], f"{method}, resumed at {step}"


def refuses_other_states(rank, size):
    run = Run(rank, "quantize:4", fragments=2)
    run.train(0, 4)
    good = saved(run.outer.state_dict())
    before = end_of(run)

    def refuse(message, state, on_this_rank=True, **settings):
        given = state if on_this_rank else good
        refused(lgreco.StateError, message, lambda: run.outer.load_state_dict(given, **settings))

    other_rank = good["compression"] | {"rank": (rank + 1) % size}
    for on_this_rank in (True, rank == size - 1):
        for message, state in (
            ("format of the outer step", None),
            ("format of the outer step", good["compression"] | {"format": 9}),
            ("not complete", {k: v for k, v in good.items() if k != "compression"}),
            ("not complete", good | {"sent_at": None}),
            ("not complete", good | {"local_steps": "4"}),
            ("fragments=1", good | {"sent_at": [3]}),
            ("parameters are of another model", good | {"parameters": {}}),
            ("momentum are of another model", good | {"momentum": {"a": 1}}),
            ("damaged", good | {"compression": other_rank}),
            ("", good | {"compression": None}),
        ):
            refuse(message, state, on_this_rank)
    refuse("after 4 local steps, where 5 are wanted", good, step=5)
    refuse("where 5 are wanted", good, step=5 if rank == 0 else 4)
    after = end_of(run)
    assert equal(before[0], after[0]) and before[1:] == after[1:], "a refused state changes nothing"
    run.outer.load_state_dict(good, step=4)


def a_state_of_all_ranks(rank, size):
    run = Run(rank, "quantize:2", "adamw", every=3)
    run.train(0, 7)  # in the middle of an interval
    state = run.outer.gathered_state_dict()
    assert (state is None) == (rank > 0)
    states = [saved(state) if rank == 0 else None]
    portable = [saved(run.outer.portable_state_dict())]
    dist.broadcast_object_list(states)
    dist.broadcast_object_list(portable)
    common = run.outer_parameters()
    for change in ("fail", "mean", "reset"):  # the number of ranks did not change
        resumed = Run(rank, "quantize:2", "adamw", every=3, model=small_model(seed=7))
        resumed.outer.load_state_dict(states[0], world_size_change=change, step=7)
        assert equal(resumed.parameters(), common), change
        assert not resumed.outer.flush()
        residuals = [r.outer.state_dict()["compression"]["layers"] for r in (run, resumed)]
        for name in residuals[0]:
            assert torch.equal(residuals[0][name]["residual"], residuals[1][name]["residual"])
        assert resumed.train(7, 9) == 1
        assert_same_on_all_ranks(resumed.parameters(), change)
    kept = portable[0]["momentum"]["7.weight"].clone()
    resumed.outer.load_state_dict(portable[0], step=7)
    assert equal(resumed.parameters(), common)
    owed = [r.outer.state_dict()["compression"]["layers"]["7.weight"] for r in (run, resumed)]
    owed = torch.stack([layer["residual"] for layer in owed])
    dist.all_reduce(owed)
    torch.testing.assert_close(owed[0], owed[1])
    assert resumed.train(7, 9) == 1
    assert_same_on_all_ranks(resumed.parameters(), "portable")
    now = resumed.outer.state_dict()["momentum"]["7.weight"]
    assert torch.equal(portable[0]["momentum"]["7.weight"], kept) and not torch.equal(now, kept)


def save_for_other_ranks(rank, size):
    """In the working directory."""
    run = Run(rank, "quantize:2", "adamw", every=2, fragments=2)
    run.train(0, 5)
    run.outer.flush()
    state, portable = run.outer.gathered_state_dict(), run.outer.portable_state_dict()
    if state is not None:
        torch.save([run.model.state_dict(), state, portable], "outer.pt")


def load_from_other_ranks(rank, size):
    model, state, portable = torch.load("outer.pt", weights_only=True)
    old_size = len(state["compression"])
    assert old_size != size
    for change in ("mean", "reset", "portable"):
        run = Run(rank, "quantize:2", "adamw", every=2, fragments=2, model=small_model(seed=7))
        refused(lgreco.StateError, "", lambda run=run: run.outer.load_state_dict(state))
        if change == "portable":
            run.outer.load_state_dict(portable, step=5)
        else:
            run.outer.load_state_dict(state, world_size_change=change, step=5)
        assert equal(run.parameters(), [model[name] for name, _ in run.model.named_parameters()])
        assert not run.outer.flush()
        for name, layer in run.outer.state_dict()["compression"]["layers"].items():
            if change == "reset":
                assert not layer["residual"].any()
                continue
            old = [one["layers"][name]["residual"] for one in state["compression"]]
            torch.testing.assert_close(layer["residual"], sum(old) / old_size)
        assert run.train(5, 9) == 4
        run.outer.flush()
        assert_same_on_all_ranks(run.parameters(), change)


def differences_are_seen_by_all(rank, size):
    first = rank == 0
    for name, settings in (
        ("every", {"every": 3 + first}),
        ("lr", {"lr": 0.5 + 0.25 * first}),
        ("fragments", {"fragments": 2 - first}),
        ("nesterov", {"nesterov": first}),
        ("drift_check_every", {"drift_check_every": 1 + first}),
    ):
        refused(lgreco.MismatchError, f"differ in {name}", lambda s=settings: Run(rank, **s))
    other = small_model()
    other.register_buffer("odd", torch.zeros(2 + first))
    refused(lgreco.MismatchError, "buffer 'odd'", lambda: Run(rank, model=other))

    run = Run(rank, every=1)
    if first:
        run.outer.lr = 0.1
    run.train(0, 1)
    refused(lgreco.MismatchError, "rank", lambda: run.train(1, 2))

    model = small_model()
    model[0].requires_grad_(False)
    run = Run(rank, model=model, every=1)
    run.train(0, 1)
    before = end_of(run)
    model[0].requires_grad_(first)
    refused(lgreco.ConfigError, "0.bias (added, unfrozen", lambda: run.outer.step())
    model[0].requires_grad_(False)
    good = model[7].weight.data
    model[7].weight.data = torch.zeros(80, 1024 + first)
    refused(lgreco.ConfigError, "another shape", lambda: run.outer.step())
    model[7].weight.data = good
    after = end_of(run)
    assert equal(before[0], after[0])
    assert run.train(1, 2) == 1, "goes on"
    assert_same_on_all_ranks(run.parameters(), "after refusals")


def a_peer_that_ends(rank, size):
    run = Run(rank, "quantize:4", every=2, timeout=20)
    run.train(0, 5)
    if rank == size - 1:
        sys.stdout.flush()
        os._exit(0)
    run.local_step(5)
    before = end_of(run)
    refused(lgreco.PeerError, f"rank {rank}", run.outer.step)
    after = end_of(run)
    assert equal(before[0], after[0]), "nothing has changed"
    refused(lgreco.PeerError, "", run.outer.flush)
    print(f"rank {rank} survived", flush=True)
    os._exit(0)  # the default group is broken as well


def wrong_use(rank, size):
    model = small_model()

    def refuse(message, model=model, method=None, policy=None, **settings):
        settings = {"every": 3} | settings
        given = lgreco.Dense() if method is None else method
        refused(
            lgreco.ConfigError,
            message,
            lambda: lgreco.OuterStep(model, given, policy, **settings),
        )

    refuse("every must be a whole number of at least 1", every=0)
    refuse("every must be a whole number", every=2.0)
    refuse("lr must be positive", lr=0.0)
    refuse("lr must be a number", lr="1")
    refuse("momentum must be at least 0", momentum=1.0)
    refuse("fragments must be a whole number", fragments=0)
    refuse("there can be 3: one for each local step", fragments=4)
    refuse("there can be 1", model={"a": torch.zeros(3)}, fragments=2)
    refuse("model is a generator", model=model.parameters())
    refuse("parameter 'a' is [1]", model={"a": [1]})
    refuse("no layer to synchronise", model=nn.ReLU())
    refuse("dtype Double", model=nn.Linear(3, 3).double())
    refuse("share memory", model={"a": torch.zeros(1).expand(4)})
    refuse("is on meta", model={"a": torch.zeros(3, device="meta")})
    refuse("7 is no level", method=7)
    refuse("window is 2", policy=lgreco.LGreCo(window=2), fragments=3)
    refuse("timeout", timeout=0)
    try:
        lgreco.OuterStep(model, lgreco.Dense(), every=3, grad_scaler=None)
    except TypeError as error:
        assert "no setting 'grad_scaler'" in str(error), error
    else:
        raise AssertionError("a pseudo-gradient has no loss scale")
    assert "synchronisations between comparisons" in lgreco.OuterStep.__init__.__doc__


CASES = {
    "plain": dense_is_plain_diloco,
    "bits": every_method_gives_all_ranks_the_same_bits,
    "one": one_local_step_is_data_parallelism,
    "fragments": fragments_cover_every_parameter_once,
    "telescopes": error_feedback_telescopes,
    "16_bits": parameters_of_16_bits,
    "start": starts_alike_and_leaves_the_rest,
    "not_finite": what_is_not_finite_is_skipped,
    "flush": flushes_and_shows_what_is_common,
    "plans": plans_are_of_pseudo_gradients,
    "resume": resumes_at_every_step,
    "refuse": refuses_other_states,
    "gathered": a_state_of_all_ranks,
    "save": save_for_other_ranks,
    "load": load_from_other_ranks,
    "differences": differences_are_seen_by_all,
    "wrong_use": wrong_use,
    "peer": a_peer_that_ends,
}

with process_group() as (rank, size):
    for name in sys.argv[1:]:
        CASES[name](rank, size)
        if rank == 0:
            print(f"{name}: as it should be", flush=True)
