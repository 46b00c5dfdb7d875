"""What the spool counts."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_list
from safevideo_common.observability.metric import counter, gauge


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
            "events": metric_list.SPOOL_EVENTS,
            "bytes": metric_list.SPOOL_BYTES,
            "oldest_seconds": metric_list.SPOOL_OLDEST_SECONDS,
            "is_away": metric_list.SPOOL_IS_AWAY,
        }
        self._gauges = {part: gauge(metric, registry) for part, metric in gauges.items()}
        self._spooled = counter(metric_list.SPOOL_TAKEN, registry)
        self._drained = counter(metric_list.SPOOL_DRAINED, registry)
        self._adopted = counter(metric_list.SPOOL_ADOPTED, registry)
        self._refused = counter(metric_list.SPOOL_REFUSED, registry)
        self._set_aside = counter(metric_list.SPOOL_SET_ASIDE, registry)
        self._dropped = counter(metric_list.SPOOL_SET_ASIDE_DROPPED, registry)

    def watch(self, depth: Callable[[], Depth]) -> None:
        """Ask `depth` whenever the gauges are read."""
        for part, shown in self._gauges.items():
            shown.set_function(partial(_part, depth, part))

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
