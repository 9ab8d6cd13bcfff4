"""`lgreco ratio`: what levels would make of a model, from its shapes alone."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from lgreco import _core
from lgreco.cli.layers import Shapes, load_shapes
from lgreco.cli.output import AsJson, print_json, print_table, show
from lgreco.methods import method as parse_method


def ratio(
    source: Annotated[
        str,
        typer.Argument(metavar="FILE", help="JSON {name: shape}, a checkpoint, or module:factory."),
    ],
    method: Annotated[list[str], typer.Option(help="A level such as low_rank:4; repeatable.")],
    json: AsJson = False,
) -> None:
    """Bytes and compression ratio of a model at given levels."""
    shapes = load_shapes(source)
    results = [level_ratio(shapes, spelling) for spelling in method]
    if json:
        print_json({"layers": len(shapes), "levels": results})
        return
    print_table(
        f"{results[0]['elements']:,} elements in {len(shapes)} layers",
        ["level", "compressed layers", "published ratio", "payload bytes", "true ratio"],
        [
            [
                result["level"],
                result["compressed_layers"],
                f"{result['published_ratio']:.1f}",
                f"{result['payload_bytes']:,}",
                f"{result['true_ratio']:.1f}",
            ]
            for result in results
        ],
    )
    show("published: elements / elements sent. true: float32 bytes / payload bytes of all rounds.")


def level_ratio(shapes: Shapes, spelling: str) -> dict[str, object]:
    """`published_ratio` counts elements: (n + m) * r for a low-rank layer, the codes' share of a
    float for a quantised one; `true_ratio` counts the bytes of the payloads.
    """
    level = str(parse_method(spelling))
    elements = payload = compressed = 0
    sent = 0.0
    for shape in shapes.values():
        count = math.prod(shape)
        resolved = _core.resolve(level, shape)
        size = _core.payload_bytes(resolved, shape)
        elements += count
        payload += size
        compressed += resolved != "dense"
        sent += _core.elements_sent(resolved, shape)
    return {
        "level": level,
        "elements": elements,
        "compressed_layers": compressed,
        "published_ratio": elements / sent if sent else 1.0,
        "payload_bytes": payload,
        "true_ratio": 4 * elements / payload if payload else 1.0,
    }
