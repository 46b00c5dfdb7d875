"""Reports of what waits in the spools of webhook-ingest, in Redis, one a process, for the gateway.

Neither Kafka nor the database is needed for it (ADR 6). A process renews its report as long as it lives, and its last
one stays when it ends, or is killed, with events on its disk. If no other process has that disk, they are *orphaned*:
nobody delivers them. Once a process has taken its directories, the report of that process replaces it, and not before:
whoever has the disk may die too before it has looked.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from safevideo_common.resilience.fail_fast_redis import FailFastRedis

REPORT_SECONDS: Final = 30
"""A process that has not reported for this long is dead."""
LAST_REPORT_SECONDS: Final = 30 * 24 * 3600
"""Without any report for this long, all are forgotten."""
_LAST_REPORTS: Final = "webhooks:spools"


class SpoolReport(msgspec.Struct, frozen=True):
    """The undelivered events of one process, and when the oldest was accepted, in Unix seconds; 0 without any."""

    spool: str
    """The id of the disk, see `webhook_ingest.spool.directory.spool_id`; empty while it cannot be read."""
    events: int
    oldest_at: float
    directories: tuple[str, ...] = ()
    """The directories that have the events. A report of an older release names none."""


class Depth(NamedTuple):
    """A number of events, and the greatest age in seconds."""

    events: int
    oldest_seconds: float


class OrphanedSpool(NamedTuple):
    """The events that a process has left on its disk when it ended or died."""

    process: str
    events: int
    oldest_seconds: float


class SpoolSummary(NamedTuple):
    """The reports of all processes that live, together, and the spools of the others."""

    processes: int
    live: Depth
    """Of the disks that they have, with what they have not taken yet of processes that died."""
    orphaned: Sequence[OrphanedSpool]


_decode: Final = msgspec.json.Decoder(SpoolReport).decode


class SpoolReports:
    """The reports in Redis. Every method is one to three round trips and raises `RedisUnavailable`."""

    def __init__(self, redis: FailFastRedis, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._clock = clock

    async def write(self, process: str, report: SpoolReport, *, instead_of: Collection[str] = ()) -> None:
        """Replace the report of a process that lives, and in the same step those of the processes `instead_of`."""
        pipeline = self._redis.redis.pipeline(transaction=True)
        _ = pipeline.set(_key(process), b"", ex=REPORT_SECONDS)
        _ = pipeline.hset(_LAST_REPORTS, process, msgspec.json.encode(report))
        if instead_of:
            _ = pipeline.hdel(_LAST_REPORTS, *instead_of)
        _ = pipeline.expire(_LAST_REPORTS, LAST_REPORT_SECONDS)
        await self._redis.call(pipeline.execute)

    async def write_last(
        self, process: str, report: SpoolReport, *, is_disk_empty: bool = False, instead_of: Collection[str] = ()
    ) -> None:
        """Replace the report of a process that ends, and those of the processes `instead_of`.

        With an empty disk, forget all reports of that disk instead.
        """
        pipeline = self._redis.redis.pipeline(transaction=True)
        if report.events:
            _ = pipeline.hset(_LAST_REPORTS, process, msgspec.json.encode(report))
        if ended := {*instead_of, *(() if report.events else (process,))}:
            _ = pipeline.hdel(_LAST_REPORTS, *ended)
        _ = pipeline.delete(_key(process))
        await self._redis.call(pipeline.execute)
        if is_disk_empty and report.spool:
            reports = await self._read()
            await self._forget([name for name, each in reports.items() if each.spool == report.spool])

    async def summarize(self) -> SpoolSummary:
        """Return what all reports say, and forget those of dead processes that have nothing to say any more."""
        live, dead = await self._read_by_life()
        spools = {each.spool for each in live.values()} - {""}
        orphaned = {process: each for process, each in dead.items() if each.events and each.spool not in spools}
        # Whoever has their disk takes them soon, and says so then.
        left = dead.keys() - orphaned.keys()
        awaited = {process: dead[process] for process in left if dead[process].events and dead[process].directories}
        # One that reports again at this moment is back with its next report.
        await self._forget(left - awaited.keys())
        delivered = [*live.values(), *awaited.values()]
        return SpoolSummary(
            len(live),
            Depth(sum(each.events for each in delivered), max((*map(self._age, delivered), 0.0))),
            sorted(OrphanedSpool(process, each.events, self._age(each)) for process, each in orphaned.items()),
        )

    async def dead_of(self, spool: str) -> Mapping[str, SpoolReport]:
        """Return the last reports, by process, of those that left events on this disk and do not live any more."""
        _, dead = await self._read_by_life()
        return {process: each for process, each in dead.items() if each.spool == spool and each.events}

    async def forget(self, process: str) -> bool:
        """Forget an orphaned spool whose disk is lost. Return False if there is none of this process."""
        summary = await self.summarize()
        if process not in {each.process for each in summary.orphaned}:
            return False
        await self._forget({process})
        return True

    async def _read_by_life(self) -> tuple[dict[str, SpoolReport], dict[str, SpoolReport]]:
        """Return the reports of the processes that live, and of the others."""
        reports = await self._read()
        keys = [_key(process) for process in reports]
        marks = await self._redis.call(lambda: self._redis.redis.mget(keys)) if keys else []
        live = {process: reports[process] for process, mark in zip(reports, marks, strict=True) if mark is not None}
        return live, {process: report for process, report in reports.items() if process not in live}

    async def _read(self) -> dict[str, SpoolReport]:
        found = await self._redis.call(lambda: self._redis.redis.hgetall(_LAST_REPORTS))
        return {
            str(process, "utf-8") if isinstance(process, bytes) else process: _decode(report)
            for process, report in found.items()
        }

    async def _forget(self, processes: Iterable[str]) -> None:
        if names := [*processes]:
            await self._redis.call(lambda: self._redis.redis.hdel(_LAST_REPORTS, *names))

    def _age(self, report: SpoolReport) -> float:
        return max(0.0, self._clock() - report.oldest_at) if report.oldest_at else 0.0


def _key(process: str) -> str:
    return f"webhooks:spool:{process}"
