"""The metrics and log lines of the spool, and its report for health. A line is logged when something changes."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.fail_fast_redis import RedisUnavailable
from safevideo_common.webhooks.spool_reports import SpoolReport, SpoolReports
from webhook_ingest.spool.directory import list_directories, spool_id
from webhook_ingest.spool.segment import CorruptRange, StoredEvent
from webhook_ingest.spool.store import LockResult

QUIET_SECONDS: Final = 10.0
"""A nearly full disk takes one event and rejects the next, many times a second. That is reported as one failure."""


DISK_SECONDS: Final = 1.0
"""For the names of directories. A disk that hangs delays a report by no more."""

REPORT_EVERY_SECONDS: Final = 5.0
"""Short beside the time for which a report holds, so that one that is late or lost makes no gap."""


class SpoolDepth(NamedTuple):
    """The present content of the spool."""

    events: int
    bytes: int
    """Bytes on disk, including delivered events of segments that are not removed yet."""
    oldest_seconds: float
    """Age of the event that is delivered next; 0 if there is none."""
    is_kafka_unavailable: bool
    """True while every event goes to the spool."""
    unavailable_partitions: int
    """Partitions whose events go to the spool while others are published."""
    directories: frozenset[str] = frozenset()
    """The names of the directories that have the events."""


class SpoolEvents:
    """The observer of one spool."""

    def __init__(self, logger: FilteringBoundLogger, registry: CollectorRegistry) -> None:
        self._logger = logger
        self._gauges = {
            "events": gauge(metric_catalog.SPOOL_EVENTS, registry),
            "bytes": gauge(metric_catalog.SPOOL_BYTES, registry),
            "oldest_seconds": gauge(metric_catalog.SPOOL_OLDEST_SECONDS, registry),
            "is_kafka_unavailable": gauge(metric_catalog.SPOOL_KAFKA_UNAVAILABLE, registry),
            "unavailable_partitions": gauge(metric_catalog.SPOOL_UNAVAILABLE_PARTITIONS, registry),
        }
        self._written = counter(metric_catalog.SPOOL_WRITTEN, registry)
        self._delivered = counter(metric_catalog.SPOOL_DRAINED, registry)
        self._adopted = counter(metric_catalog.SPOOL_RECOVERED, registry)
        self._rejected = counter(metric_catalog.SPOOL_REJECTED, registry)
        self._corrupt = counter(metric_catalog.SPOOL_CORRUPT, registry)
        self._evicted = counter(metric_catalog.SPOOL_CORRUPT_EVICTED, registry)
        self._failure: str | None = None
        self._failed_at = 0.0

    def watch(self, depth: Callable[[], SpoolDepth]) -> None:
        """Call `depth` whenever the gauges are read."""
        for field, metric in self._gauges.items():
            metric.set_function(partial(_read_field, depth, field))

    def written(self, events: int) -> None:
        """Report events that are on disk. After a quiet time the failure before them is over."""
        self._written.inc(events)
        if self._failure and time.monotonic() - self._failed_at > QUIET_SECONDS:
            self._failure = None
            self._logger.info("Spool writable again")

    def rejected(self, events: int, reason: str) -> None:
        """Report events that are not in the spool and whose senders got an error."""
        self._rejected.inc(events)
        self.failed(reason)

    def failed(self, reason: str) -> None:
        """Report that the spool takes no events now: one line for each new reason."""
        self._failed_at = time.monotonic()
        if reason != self._failure:
            self._failure = reason
            self._logger.error("Spool full or unwritable", code="SPOOL_UNAVAILABLE", reason=reason)

    def delivered(self, events: int) -> None:
        """Report events that Kafka acknowledged."""
        self._delivered.inc(events)

    def locked(self, result: LockResult) -> None:
        """Report the directories of dead processes, and the files that were removed."""
        if result.directories:
            self._logger.warning("Spool of a dead process adopted", code="SPOOL_ADOPTED", folders=result.directories)
        for path in result.unusable:
            self._logger.error("Spool of a dead process cannot be opened", code="SPOOL_UNAVAILABLE", path=str(path))
        if result.evicted.files:
            self._evicted.inc(result.evicted.files)
            self._logger.warning(
                "Oldest files in corrupt/ removed",
                code="SPOOL_CORRUPT_DELETED", files=result.evicted.files, bytes=result.evicted.bytes,
            )  # fmt: skip

    def adopted(self, events: int) -> None:
        """Report events of a dead process that this process delivers from now on."""
        self._adopted.inc(events)

    def corrupt(self, damaged: CorruptRange) -> None:
        """Report bytes without a readable event. Damage is in `corrupt/` now, or will be with its whole segment."""
        where = {"path": str(damaged.path), "start": damaged.start, "bytes": damaged.size}
        if damaged.is_damage:
            self._corrupt.inc()
            self._logger.error("Spool segment corrupt, bytes moved to corrupt/", code="SPOOL_CORRUPT", **where)
        else:
            self._logger.warning("Spool segment ends with a torn record, record ignored", code="SPOOL_TORN", **where)

    def undeliverable(self, stored: StoredEvent) -> None:
        """Report an event that Kafka will never accept. It is in `corrupt/` now."""
        self._corrupt.inc()
        self._logger.error(
            "Spooled event rejected by Kafka, moved to corrupt/",
            code="SPOOL_UNDELIVERABLE", path=str(stored.segment.path), start=stored.start,
        )  # fmt: skip


def reason_of(error: BaseException) -> str:
    """Return `ENOSPC` and the like, which is the same on all systems; the error's type if it has no number."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__


class SpoolReporter:
    """The report of one process in Redis. `aclose` writes the last one: call it after the last drain."""

    def __init__(
        self, reports: SpoolReports, root: Path, logger: FilteringBoundLogger,
        *, every_seconds: float = REPORT_EVERY_SECONDS,
    ) -> None:  # fmt: skip
        self._reports = reports
        self._root = root
        self._logger = logger
        self._every_seconds = every_seconds
        # Not by host and process id alone: a container that is started again has both again, and other events.
        self._process = f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"
        self._spool = ""
        self._depth: Callable[[], SpoolDepth] | None = None
        self._listing: asyncio.Future[set[str]] | None = None

    async def run(self, depth: Callable[[], SpoolDepth]) -> None:
        """Report `depth` until cancelled. An outage of Redis is logged once."""
        self._depth, is_reported = depth, True
        while True:
            try:
                report, replaced = await self._report(depth)
                await self._reports.write(self._process, report, instead_of=replaced)
            except RedisUnavailable as error:
                if is_reported:
                    self._logger.warning("Spool not reported, will retry", code="REDIS_UNAVAILABLE", reason=str(error))
                is_reported = False
            else:
                is_reported = True
            await asyncio.sleep(jittered(self._every_seconds))

    async def aclose(self) -> None:
        """Report what stays on the disk, or withdraw the report if that is nothing."""
        if self._depth is None:
            return
        report, replaced = await self._report(self._depth)
        with suppress(RedisUnavailable):
            is_empty = await asyncio.to_thread(self._is_empty)
            await self._reports.write_last(self._process, report, is_disk_empty=is_empty, instead_of=replaced)

    def _is_empty(self) -> bool:
        with suppress(OSError):
            return not list_directories(self._root)
        return False

    async def _report(self, depth: Callable[[], SpoolDepth]) -> tuple[SpoolReport, set[str]]:
        """Return our report, and the processes whose reports it replaces: all that they left is ours, or delivered.

        The reports are read before the disk, so each directory that one names is on the disk, or is gone for good.
        """
        if not self._spool:
            with suppress(OSError):  # once it is known, no report waits for it
                self._spool = await asyncio.to_thread(spool_id, self._root)
        dead: Mapping[str, SpoolReport] = {}
        if self._spool:
            with suppress(RedisUnavailable):  # the report will say so
                dead = await self._reports.dead_of(self._spool)
        names = await self._names_on_disk() if dead else None
        now = depth()
        replaced = set[str]()
        if names is not None:
            others = names - now.directories
            replaced = {name for name, each in dead.items() if each.directories and others.isdisjoint(each.directories)}
        oldest_at = time.time() - now.oldest_seconds if now.events else 0.0
        return SpoolReport(self._spool, now.events, oldest_at, tuple(sorted(now.directories))), replaced

    async def _names_on_disk(self) -> set[str] | None:
        """Return the names of all directories, or None if the disk gives none within `DISK_SECONDS`."""
        if self._listing is not None and not self._listing.done():
            return None  # one that hangs is enough
        self._listing = asyncio.get_running_loop().run_in_executor(None, self._names)
        await asyncio.wait([self._listing], timeout=DISK_SECONDS)
        return None if not self._listing.done() or self._listing.exception() else self._listing.result()

    def _names(self) -> set[str]:
        return {path.name for path in list_directories(self._root)}


def _read_field(depth: Callable[[], SpoolDepth], field: str) -> float:
    return float(getattr(depth(), field))
