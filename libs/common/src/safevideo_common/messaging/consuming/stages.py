"""How long the stages of a batch take."""

from collections.abc import Callable
from time import perf_counter


class Stopwatch:
    """Tells `report` the name of each stage that ends, and its seconds."""

    __slots__ = ("_began", "_lap_began", "_report")

    def __init__(self, report: Callable[[str, float], None]) -> None:
        self._report = report
        self._began = self._lap_began = perf_counter()

    def lap(self, stage: str) -> None:
        """`stage` has ended, and the next begins."""
        now = perf_counter()
        self._report(stage, now - self._lap_began)
        self._lap_began = now

    def total(self) -> float:
        """Seconds since the watch was made."""
        return perf_counter() - self._began
