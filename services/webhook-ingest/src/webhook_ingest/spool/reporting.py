"""What the spool counts."""

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import counter, gauge
from webhook_ingest.spool.segment import CorruptRange, StoredEvent
from webhook_ingest.spool.store import Claimed


class SpoolDepth(NamedTuple):
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
            "events": metric_catalog.SPOOL_EVENTS,
            "bytes": metric_catalog.SPOOL_BYTES,
            "oldest_seconds": metric_catalog.SPOOL_OLDEST_SECONDS,
            "is_away": metric_catalog.SPOOL_IS_AWAY,
        }
        self._gauges = {part: gauge(metric, registry) for part, metric in gauges.items()}
        self._spooled = counter(metric_catalog.SPOOL_TAKEN, registry)
        self._drained = counter(metric_catalog.SPOOL_DRAINED, registry)
        self._adopted = counter(metric_catalog.SPOOL_ADOPTED, registry)
        self._refused = counter(metric_catalog.SPOOL_REFUSED, registry)
        self._set_aside = counter(metric_catalog.SPOOL_SET_ASIDE, registry)
        self._dropped = counter(metric_catalog.SPOOL_SET_ASIDE_DROPPED, registry)

    def watch(self, depth: Callable[[], SpoolDepth]) -> None:
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


def _part(depth: Callable[[], SpoolDepth], name: str) -> float:
    return float(getattr(depth(), name))


# What operators hear of the spool: its metrics, and lines in the log where something changes, not for each event.


QUIET_SECONDS: Final = 10.0
"""A disk that is nearly full takes one event and refuses the next, many times a second: that is one trouble."""


class SpoolEvents:
    """For one spool."""

    def __init__(self, log: FilteringBoundLogger, metrics: SpoolMetrics) -> None:
        self._log = log
        self._metrics = metrics
        self._trouble: str | None = None
        self._trouble_at = 0.0

    def written(self, events: int) -> None:
        """They are on disk; when none was refused for a while, the disk is well."""
        self._metrics.spooled(events)
        if self._trouble and time.monotonic() - self._trouble_at > QUIET_SECONDS:
            self._trouble = None
            self._log.info("The spool takes events again")

    def refused(self, events: int, reason: str) -> None:
        """They could not be taken: one line for each new reason, until one is taken again."""
        self._metrics.refused(events)
        self.unusable(reason)

    def unusable(self, reason: str) -> None:
        """Events could not be taken now."""
        self._trouble_at = time.monotonic()
        if reason != self._trouble:
            self._trouble = reason
            self._log.error("The spool takes no events", code="SPOOL_UNAVAILABLE", reason=reason)

    def delivered(self, events: int) -> None:
        """The log has them."""
        self._metrics.drained(events)

    def claimed(self, claimed: Claimed) -> None:
        """What was found of dead processes, and what was tidied up."""
        if claimed.folders:
            self._log.warning("Spool of a dead process adopted", code="SPOOL_ADOPTED", folders=claimed.folders)
        for path in claimed.unusable:
            self._log.error("Spool of a dead process cannot be opened", code="SPOOL_UNAVAILABLE", path=str(path))
        if claimed.dropped.files:
            self._metrics.dropped(claimed.dropped.files)
            self._log.warning(
                "Oldest files that were set aside removed",
                code="SPOOL_SET_ASIDE_DROPPED", files=claimed.dropped.files, bytes=claimed.dropped.bytes,
            )  # fmt: skip

    def adopted(self, events: int) -> None:
        """They are ours now."""
        self._metrics.adopted(events)

    def lost(self, lost: CorruptRange) -> None:
        """Bytes that are no event. Damage has been copied to the `corrupt` folder, or its whole file goes there."""
        where = {"path": str(lost.path), "start": lost.start, "bytes": lost.size}
        if lost.is_damage:
            self._metrics.set_aside()
            self._log.error("Spool damaged, bytes set aside", code="SPOOL_CORRUPT", **where)
        else:
            self._log.warning("Spool cut short by a crash, torn record dropped", code="SPOOL_TORN", **where)

    def undeliverable(self, placed: StoredEvent) -> None:
        """The log will never take this event; it was copied to the `corrupt` folder."""
        self._metrics.set_aside()
        self._log.error(
            "Spooled event set aside, the log refuses it",
            code="SPOOL_UNDELIVERABLE",
            path=str(placed.segment.path),
            start=placed.start,
        )


def reason_of(error: BaseException) -> str:
    """`ENOSPC` rather than a text that differs between systems; the kind of the error where it has no number."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
