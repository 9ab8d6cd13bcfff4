"""Shapes of well-known models, and what a usual step of theirs computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Shapes = dict[str, list[int]]

_FORWARD_AND_BACKWARD = 3  # in units of the forward pass


@dataclass(frozen=True)
class KnownModel:
    """`flops` of a step of one rank, which computes `batch`."""

    shapes: Shapes
    batch: str
    flops: float


def _resnet50() -> KnownModel:
    shapes: Shapes = {"conv1.weight": [64, 3, 7, 7], **_norm("bn1", 64)}
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            shapes |= _convolution(name, 1, width, inputs, 1)
            shapes |= _convolution(name, 2, width, width, 3)
            shapes |= _convolution(name, 3, 4 * width, width, 1)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = [4 * width, inputs, 1, 1]
                shapes |= _norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    shapes |= {"fc.weight": [1000, inputs], "fc.bias": [1000]}
    images, forward = 32, 2 * 4.1e9
    return KnownModel(shapes, f"{images} images", _FORWARD_AND_BACKWARD * forward * images)


def _convolution(block: str, index: int, out: int, inputs: int, kernel: int) -> Shapes:
    weight = {f"{block}.conv{index}.weight": [out, inputs, kernel, kernel]}
    return weight | _norm(f"{block}.bn{index}", out)


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def _transformer_xl() -> KnownModel:
    width, inner, layers, vocabulary, tokens = 512, 2048, 16, 267_735, 32 * 192
    shapes: Shapes = {"word_emb.weight": [vocabulary, width]}
    for layer in range(layers):
        attention, feed = f"layers.{layer}.dec_attn", f"layers.{layer}.pos_ff"
        shapes |= {
            f"{attention}.qkv_net.weight": [3 * width, width],
            f"{attention}.r_net.weight": [width, width],
            f"{attention}.o_net.weight": [width, width],
            **_norm(f"{attention}.layer_norm", width),
            f"{feed}.CoreNet.0.weight": [inner, width],
            f"{feed}.CoreNet.0.bias": [inner],
            f"{feed}.CoreNet.3.weight": [width, inner],
            f"{feed}.CoreNet.3.bias": [width],
            **_norm(f"{feed}.layer_norm", width),
        }
    shapes |= {"r_w_bias": [8, 64], "r_r_bias": [8, 64]}
    shapes |= {"crit.cluster_weight": [3, width], "crit.cluster_bias": [3]}
    shapes |= {"crit.out_layers.0.bias": [vocabulary]}
    frequent_words = 20_000 * width  # the adaptive softmax computes few of the others
    used = layers * (5 * width * width + 2 * width * inner) + frequent_words
    return KnownModel(shapes, f"{tokens:,} tokens", _flops_of_tokens(used, tokens))


def _llama_7b() -> KnownModel:
    width, inner, layers, vocabulary, tokens = 4096, 11_008, 32, 32_000, 4096
    shapes: Shapes = {"embed_tokens.weight": [vocabulary, width]}
    for layer in range(layers):
        name = f"layers.{layer}"
        shapes |= {f"{name}.self_attn.{part}_proj.weight": [width, width] for part in "qkvo"}
        shapes |= {f"{name}.mlp.{part}_proj.weight": [inner, width] for part in ("gate", "up")}
        shapes[f"{name}.mlp.down_proj.weight"] = [width, inner]
        shapes |= {f"{name}.{norm}.weight": [width] for norm in ("input_norm", "post_norm")}
    shapes |= {"norm.weight": [width], "lm_head.weight": [vocabulary, width]}
    used = layers * (4 * width * width + 3 * width * inner) + vocabulary * width
    return KnownModel(shapes, f"{tokens:,} tokens", _flops_of_tokens(used, tokens))


def _flops_of_tokens(parameters: int, tokens: int) -> float:
    return _FORWARD_AND_BACKWARD * 2.0 * parameters * tokens


KNOWN_MODELS: dict[str, Callable[[], KnownModel]] = {
    "resnet50": _resnet50,
    "transformer-xl-base": _transformer_xl,
    "llama-7b": _llama_7b,
}
