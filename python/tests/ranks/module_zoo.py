"""What DDP synchronises is what is compressed, by identity, and trains as plain DDP does."""

import copy

import torch
from common import process_group
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

import lgreco
from lgreco import _torch

WORDS, WIDTH = 30, 24


class Zoo(nn.Module):
    """A table of words, then layers; each animal changes something of it."""

    def __init__(self, sparse=False):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(WORDS, WIDTH, sparse=sparse)
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(2)])
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.scales = nn.ParameterList()

    def forward(self, words):
        x = self.table(words)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        for scale in self.scales:
            x = x * scale
        return self.head(x)


def ignoring(model, *names):
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(names))
    return model


def root_parameter():
    model = Zoo()
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    model.register_forward_hook(lambda module, _, output: output * module.scale)
    return model


def tied():
    model = Zoo()
    model.head.weight = model.table.weight
    return model


def parameter_list():
    model = Zoo()
    model.scales.extend([nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.ones(()))])
    return model


def frozen(model, *parts):
    for part in parts:
        model.get_submodule(part).requires_grad_(False)
    return model


def shared_module():
    model = Zoo()
    model.layers.append(model.layers[0])
    return model


def parametrized(change):
    model = Zoo()
    change(model.layers[0])
    return model


def nested():
    return nn.Sequential(nn.Sequential(Zoo()), nn.Sequential(nn.Linear(WORDS, WORDS)))


ZOO = {
    "plain": Zoo,
    "root parameter": root_parameter,
    "root parameter ignored as it is named": lambda: ignoring(root_parameter(), "scale"),
    "root parameter ignored as DDP compares": lambda: ignoring(root_parameter(), ".scale"),
    "tied": tied,
    "tied, one name ignored": lambda: ignoring(tied(), "table.weight"),
    "tied, the other ignored": lambda: ignoring(tied(), "head.weight"),
    "tied, both ignored": lambda: ignoring(tied(), "table.weight", "head.weight"),
    "ignored": lambda: ignoring(Zoo(), "layers.0.weight", "layers.1.bias"),
    "an unknown name ignored": lambda: ignoring(Zoo(), "nothing.weight"),
    "frozen": lambda: frozen(Zoo(), "layers.0"),
    "frozen sparse table": lambda: frozen(Zoo(sparse=True), "table"),
    "ignored sparse table": lambda: ignoring(Zoo(sparse=True), "table.weight"),
    "parameters in a list": parameter_list,
    "shared module": shared_module,
    "weight norm": lambda: parametrized(parametrizations.weight_norm),
    "orthogonal": lambda: parametrized(parametrizations.orthogonal),
    "nested": nested,
}


def train(ddp, rank, steps=4):
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        words = torch.randint(0, WORDS, (16,), generator=generator)
        ddp.zero_grad()
        nn.functional.cross_entropy(ddp(words), words).backward()
        with torch.no_grad():
            for parameter in ddp.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad.to_dense()
    return [p.detach().to_dense() for p in ddp.parameters()]


def check(name, make, rank):
    plain = DistributedDataParallel(make())
    ddp = DistributedDataParallel(make())
    compression = lgreco.compress(ddp, lgreco.Dense())
    names = dict(ddp.module.named_parameters(remove_duplicate=False))
    layers = compression.state_dict()["layers"]
    compressed = {id(names[layer]) for layer in layers}
    synchronised = {id(parameter) for parameter, _ in _torch.parameters_of(ddp.reducer)}
    assert compressed == synchronised, name
    assert len(compressed) == len(layers), f"{name}: a layer has two names"
    for a, b in zip(train(ddp, rank), train(plain, rank), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def expect(message, call):
    try:
        call()
    except lgreco.ConfigError as error:
        assert message in str(error), f"{message!r} not in {error}"
        return
    raise AssertionError(f"no error with {message!r}")


def check_refusals():
    def compress(ddp):
        lgreco.compress(ddp, lgreco.Dense())

    sparse = DistributedDataParallel(Zoo(sparse=True))
    expect("'table.weight' has sparse gradients", lambda: compress(sparse))
    unfrozen = DistributedDataParallel(frozen(Zoo(), "layers.0"))
    unfrozen.module.layers[0].requires_grad_(True)
    expect("'layers.0.weight', 'layers.0.bias': requires", lambda: compress(unfrozen))
    added = DistributedDataParallel(Zoo())
    added.module.layers.append(nn.Linear(WIDTH, WIDTH))
    expect("added or unfrozen", lambda: compress(added))
    replaced = DistributedDataParallel(Zoo())
    del replaced.module.layers[0]
    expect("the model no longer has", lambda: compress(replaced))
    torch._dynamo.config.optimize_ddp = "python_reducer"
    by_python = DistributedDataParallel(Zoo())
    torch._dynamo.config.optimize_ddp = True
    expect("python_reducer", lambda: compress(by_python))


def check_compiled(rank):
    plain, ddp = DistributedDataParallel(Zoo()), DistributedDataParallel(Zoo())
    lgreco.compress(ddp, lgreco.Dense())
    compiled = torch.compile(ddp, backend="eager")
    for a, b in zip(train(compiled, rank), train(plain, rank), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def check_copies(rank):
    """Copies of a model are plain DDP, and may be compressed on their own."""
    ddp = DistributedDataParallel(Zoo())
    compression = lgreco.compress(ddp, lgreco.Quantize(2), error_feedback=False)
    train(ddp, rank, steps=1)
    twin = copy.deepcopy(ddp)
    file = f"whole-{rank}.pt"
    torch.save(ddp, file)
    saved = torch.load(file, weights_only=False)
    bytes_before = compression.stats()["bytes_sent"]
    for a, b in zip(train(twin, rank), train(saved, rank), strict=True):
        assert torch.equal(a, b), "copies differ"
    assert compression.stats()["bytes_sent"] == bytes_before, "a copy was compressed"
    lgreco.compress(twin, lgreco.Dense())
    train(twin, rank)
    expect("state_dict()", lambda: copy.deepcopy(compression))
    expect("state_dict()", lambda: torch.save(compression, file))


with process_group() as (rank, size):
    for name, make in ZOO.items():
        check(name, make, rank)
    check_refusals()
    check_copies(rank)
    check_compiled(rank)
    if rank == 0:
        print("as DDP does")
