"""How settings show themselves: what is not a default, as one would write it."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any


class Brief:
    """Base of dataclasses, of which the first field always shows: `TopK(density=0.01)`.

    `eval` of it gives an equal object.
    """

    def __init_subclass__(cls) -> None:
        if "__repr__" not in cls.__dict__:  # or dataclass() writes its own
            setattr(cls, "__repr__", Brief.__repr__)  # noqa: B010 (mypy takes methods for final)

    def __repr__(self) -> str:
        declared: tuple[Field[Any], ...] = fields(self)  # type: ignore[arg-type]
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for place, field in enumerate(declared)
            if place == 0 or getattr(self, field.name) != _default(field)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
