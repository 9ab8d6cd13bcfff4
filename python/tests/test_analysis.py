"""Errors in a cost table against compressing and measuring, on gradients of two small models."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lgreco
from experiments.common.images import load_digits
from experiments.models.resnet import ResNet18
from experiments.models.transformer import Transformer
from lgreco import _core

STEPS = 4
SMALLEST = 4096  # values of a layer that is measured: of fewer, one random draw tells little


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def summed_gradients(
    model: nn.Module, batch: Callable[[], tuple[Tensor, Tensor]]
) -> dict[str, np.ndarray]:
    """Of the last two steps of a short training, by layer; layers of a matrix's size only."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step in range(STEPS):
        optimizer.zero_grad()
        inputs, targets = batch()
        functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten()).backward()
        for name, parameter in model.named_parameters():
            if step >= STEPS - 2:
                sums[name] += parameter.grad
        optimizer.step()
    return {name: s.numpy() for name, s in sums.items() if s.dim() > 1 and s.numel() >= SMALLEST}


def resnet_gradients() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    images = load_digits()
    inputs = images.normalised(images.train_x)

    def batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(inputs), (8,))
        return inputs[chosen], images.train_y[chosen]

    return summed_gradients(ResNet18(images.classes, inputs.shape[1], width=24), batch)


def transformer_gradients() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:20]
    text = torch.tensor(list(b"".join(source.read_bytes() for source in sources)))
    context = 32
    model = Transformer(256, context, width=144, layers=2, bias=True)

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - context, (8,))
        windows = torch.stack([text[start : start + context + 1] for start in starts])
        return windows[:, :-1], windows[:, 1:]

    return summed_gradients(model, batch)


@pytest.fixture(scope="module", params=[resnet_gradients, transformer_gradients])
def gradients(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    return request.param()


def levels_of(family: str) -> list[lgreco.Method]:
    spellings = _core.mixed_levels("low_rank:4")
    return [lgreco.method(s) for s in spellings if s.startswith(family)]


def left_by(method: lgreco.Method, array: np.ndarray, draws: int = 1) -> float:
    """Root of the mean square over the draws."""
    squares = 0.0
    for step in range(draws):
        decoded = lgreco.decode(lgreco.encode(array, method, step=step), array.shape, method)
        squares += float(np.sum((array.astype(np.float64) - decoded) ** 2)) / draws
    return squares**0.5


def test_there_is_something_to_measure(gradients):
    assert len(gradients) >= 10
    assert max(min(g.shape[0], g[0].size) for g in gradients.values()) > 128, "beyond small sides"


@pytest.mark.parametrize(
    ("family", "draws", "tolerance"),
    [
        ("cast", 1, 1e-6),
        ("quantize", 16, 0.02),
        ("topk", 1, 0.01),
        ("entropy", 1, 0.05),
        ("dense", 1, 0),
    ],
)
def test_coded_levels_agree_with_compress_and_measure(gradients, family, draws, tolerance):
    table = lgreco.cost_table(gradients, levels_of(family))
    measured = [
        [left_by(method, array, draws) for method in table.levels] for array in gradients.values()
    ]
    np.testing.assert_allclose(table.errors, measured, rtol=tolerance)


def test_ranks_agree_with_the_best_approximation(gradients):
    exact = [level for level in levels_of("low_rank") if level.factors == "fp32"]
    table = lgreco.cost_table(gradients, exact)
    for row, array in enumerate(gradients.values()):
        matrix = array.reshape(len(array), -1).astype(np.float64)
        squares = np.linalg.svd(matrix, compute_uv=False) ** 2
        best = [np.sqrt(squares[int(method.rank) :].sum()) for method in table.levels]
        np.testing.assert_allclose(table.errors[row], best, rtol=1e-4)


def test_large_sides_agree_within_a_percent(gradients):
    """A matrix too large for its Gram matrix: the layers of the model beside each other."""
    side = 1100
    parts = np.concatenate([g.ravel() / np.linalg.norm(g) for g in gradients.values()])
    matrix = np.resize(parts, (side, side))
    table = lgreco.cost_table({"large": matrix}, levels_of("low_rank"))
    squares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
    best = [np.sqrt(squares[int(method.rank) :].sum()) for method in table.levels]
    np.testing.assert_allclose(table.errors[0], best, rtol=0.01)


def test_pieces_lose_more(gradients):
    # Few bits have a base and grids for each piece, and may lose less in pieces.
    densities = sorted({method.density for method in levels_of("topk")})
    levels = [lgreco.TopK(density, "bf16") for density in densities]
    whole = lgreco.cost_table(gradients, levels).errors
    pieces = lgreco.cost_table(gradients, levels, pieces=4).errors
    # The few values that are kept more because k is rounded in each piece do not matter.
    assert (pieces >= 0.98 * whole).all()
    assert (pieces > 1.01 * whole).any()
    with pytest.raises(lgreco.ConfigError, match="at least 1"):
        lgreco.cost_table(gradients, levels, pieces=0)
