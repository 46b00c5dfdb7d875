"""What the spool counts."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge


class Depth(NamedTuple):
    """What lies in the spool now."""

    events: int
    bytes: int
    """On disk, those of delivered events in unfinished files included."""
    oldest_seconds: float
    """Age of the event that is delivered next; 0 when there is none."""
    is_away: bool
    """Whether the log is taken to be away, so that every event goes through the spool."""


class SpoolMetrics:
    """Depth and age as they are when asked for, and what went in, out and wrong."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauges = {
            "events": "Events in the spool.",
            "bytes": "Bytes of the spool's files.",
            "oldest_seconds": "Age of the event in the spool that is delivered next.",
            "is_away": "1 while the log is taken to be away and every event goes through the spool.",
        }
        self._gauges = {
            name: Gauge(f"safevideo_spool_{name}", text, registry=registry) for name, text in gauges.items()
        }
        self._spooled = Counter("safevideo_spool_taken", "Events written to the spool.", registry=registry)
        self._drained = Counter("safevideo_spool_drained", "Events of the spool that the log has.", registry=registry)
        self._adopted = Counter("safevideo_spool_adopted", "Events that a dead process left.", registry=registry)
        self._refused = Counter(
            "safevideo_spool_refused", "Events that the spool did not take: it was full or the disk failed.",
            registry=registry,
        )  # fmt: skip
        self._set_aside = Counter(
            "safevideo_spool_set_aside", "Places that could not be read or delivered, set aside.", registry=registry
        )

        self._dropped = Counter(
            "safevideo_spool_set_aside_dropped", "Files that were set aside and removed again: there were too many.",
            registry=registry,
        )  # fmt: skip

    def watch(self, depth: Callable[[], Depth]) -> None:
        """Ask `depth` whenever the gauges are read."""
        for name, gauge in self._gauges.items():
            gauge.set_function(partial(_part, depth, name))

    def spooled(self, events: int) -> None:
        """They are on disk."""
        self._spooled.inc(events)

    def drained(self, events: int) -> None:
        """The log has them."""
        self._drained.inc(events)

    def adopted(self, events: int) -> None:
        """They were found and are ours now."""
        self._adopted.inc(events)

    def refused(self, events: int) -> None:
        """They are not in the spool, and their senders were told so."""
        self._refused.inc(events)

    def set_aside(self) -> None:
        """Something went to the `corrupt` folder."""
        self._set_aside.inc()

    def dropped(self, files: int) -> None:
        """The oldest of the `corrupt` folder had to go."""
        self._dropped.inc(files)


def _part(depth: Callable[[], Depth], name: str) -> float:
    return float(getattr(depth(), name))
