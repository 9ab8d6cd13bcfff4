"""What frameworks log of a compression."""

from __future__ import annotations

from lgreco.compression import Compression
from lgreco.counters import scalars


class Figures:
    """As `Compression.log_to` writes them, for frameworks that ask for what they log."""

    def __init__(self, compression: Compression) -> None:
        """From the state that it has now: load another one before."""
        self._compression = compression
        self._since = compression.stats(wait=False)

    def __call__(self) -> dict[str, float]:
        """`lgreco/ratio` and more, of the steps since the time before; waits for nothing."""
        now = self._compression.stats(wait=False)
        found = scalars(now, self._since)
        self._since = now
        return found
