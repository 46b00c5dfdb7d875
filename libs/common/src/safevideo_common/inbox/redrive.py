"""Redrive: requeue dead or waiting events on an operator's request; the retry scan then processes them.

The queue of a performer is in the order of arrival, so a redriven event is at its old position again. If newer events
were applied before it, the write versions leave it only the fields that no newer event wrote, or make it `stale`. So a
redrive may be repeated at any time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import Final, TypedDict

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, rfc3339
from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.domain.outcomes import Status
from safevideo_common.domain.sentences import is_sentence
from safevideo_common.errors import InvalidStatusTransition, NotFound, ValidationFailed
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store import redrive as inbox_redrive
from safevideo_common.inbox.store.queries import InboxRecord
from safevideo_common.inbox.store.redrive import RedriveCandidate, RedriveCount, RedriveFilter

MAX_EVENTS: Final = 10_000
"""The default limit of one run."""
EVENTS_PER_CHUNK: Final = MAX_KEYS_PER_STATEMENT
CHUNK_INTERVAL: Final = 0.1
"""Seconds between two chunks: the live flow writes to the same table."""
RUN_SECONDS: Final = 25.0
"""After this time a run ends between two chunks and reports that more is left: proxies cut a response off at 60 s."""
SAMPLE_EVENTS: Final = 20

MAX_CLOSE_REASON: Final = 200

RETRIED: Final = "events.retried"
CLOSED: Final = "events.closed"
REDRIVEN: Final = "events.redriven"
"""The audit entry of one chunk, with its row ids."""
REDRIVE: Final = "events.redrive"
"""The audit entry of a run or a preview, with its filter and counts."""


class RedriveDocument(TypedDict):
    """The result of a redrive. All counts except `redriven` are from before the run; `sample` has row ids."""

    dryRun: bool
    matching: int
    redrivable: int
    notRedrivable: int
    byType: dict[str, int]
    byReason: dict[str, int]
    byGroup: dict[str, int]
    sample: list[int]
    redriven: int
    complete: bool


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """The events that a filter matches, and how many of them were requeued."""

    counts: Sequence[RedriveCount]
    sample: Sequence[int]
    """The row ids of the first redrivable events."""
    is_complete: bool
    """True if no redrivable event is left."""
    redriven: int = 0

    @property
    def events(self) -> int:
        """Return the number of matching events."""
        return sum(each.events for each in self.counts)

    @property
    def redrivable(self) -> int:
        """Return the number of redrivable events."""
        return sum(each.redrivable for each in self.counts)

    def document(self, *, is_dry: bool) -> RedriveDocument:
        """Return the report for the API and the CLI."""
        return {
            "dryRun": is_dry,
            "matching": self.events,
            "redrivable": self.redrivable,
            "notRedrivable": self.events - self.redrivable,
            "byType": self._count_by(lambda each: each.event_type),
            "byReason": self._count_by(lambda each: each.code),
            "byGroup": self._count_by(lambda each: each.group),
            "sample": list(self.sample),
            "redriven": self.redriven,
            "complete": self.is_complete,
        }

    def _count_by(self, key: Callable[[RedriveCount], str]) -> dict[str, int]:
        counts = Counter[str]()
        for each in self.counts:
            counts[key(each)] += each.events
        return dict(counts)


class RedriveService:
    """Requeues a bounded number of events at a time. All methods raise the errors of `database/errors.py`."""

    def __init__(self, database: Database, clock: Clock, *, seconds: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds
        self._run_lock = asyncio.Lock()

    async def retry(self, event_or_row_id: str, group: str | None, caller: Caller) -> list[InboxRecord]:
        """Requeue the row with this row id, or all redrivable rows with this event id, in `group` if it is set.

        A redelivery does not undo it, and a repetition changes nothing but the time. Raise `NotFound`,
        `InvalidStatusTransition` if no row is redrivable, `ValidationFailed` for an invalid id.
        """
        return await retry_on_conflict(partial(self._retry, event_or_row_id, group, caller))

    async def _retry(self, event_or_row_id: str, group: str | None, caller: Caller) -> list[InboxRecord]:
        async with self._database.transaction() as tx:
            records = await inbox_queries.find_by_event_id(tx, event_or_row_id)
            candidates = await inbox_redrive.lock(tx, [row.row_id for row in records], group)
            row_ids = [row.row_id for row in candidates if row.is_redrivable]
            if not row_ids:
                raise _explain_refusal(candidates)
            await inbox_redrive.requeue(tx, row_ids, self._clock())
            details = {
                "eventId": records[0].event_id,
                "rowIds": row_ids,
                "was": {row.group: row.status for row in candidates},
            }
            target = f"event:{records[0].event_id}"
            await audit_store.record(tx, caller.entry(RETRIED, self._clock, details, target))
            requeued = await inbox_queries.find_by_event_id(tx, event_or_row_id)
            return [row for row in requeued if row.row_id in row_ids]

    async def close(self, event_or_row_id: str, group: str | None, reason: str, caller: Caller) -> list[InboxRecord]:
        """Give up the row with this row id, or all dead rows with this event id, in `group` if it is set.

        They become `ignored` with the reason, and their bodies are dropped. A redelivery changes nothing; a forced
        replay applies them. Raises `NotFound`, `InvalidStatusTransition` if no row is dead, `ValidationFailed` for an
        invalid id or reason.
        """
        if not is_sentence(reason, MAX_CLOSE_REASON):
            limit = f"1 to {MAX_CLOSE_REASON} characters, one line"
            raise ValidationFailed("Give a reason.", details={"reason": limit})
        return await retry_on_conflict(partial(self._close, event_or_row_id, group, reason, caller))

    async def _close(self, event_or_row_id: str, group: str | None, reason: str, caller: Caller) -> list[InboxRecord]:
        async with self._database.transaction() as tx:
            records = await inbox_queries.find_by_event_id(tx, event_or_row_id)
            candidates = await inbox_redrive.lock(tx, [row.row_id for row in records], group)
            dead = {row.row_id: row.code for row in candidates if row.status is Status.DEAD}
            if not candidates:
                raise NotFound("There is no such event.")
            if not dead:
                statuses = {row.group: row.status for row in candidates}
                raise InvalidStatusTransition("Only a dead event can be closed.", details=statuses)
            await inbox_redrive.close(tx, list(dead), reason)
            event_id = records[0].event_id
            details = {"eventId": event_id, "rowIds": list(dead), "was": sorted(set(dead.values())), "reason": reason}
            await audit_store.record(tx, caller.entry(CLOSED, self._clock, details, f"event:{event_id}"))
            return [row for row in await inbox_queries.find_by_event_id(tx, event_or_row_id) if row.row_id in dead]

    async def preview(self, matching: RedriveFilter, caller: Caller) -> RedriveReport:
        """Return what `run` would find. Change nothing except the audit log."""
        report = await self._survey(matching)
        await self._audit(report, matching, caller, is_dry=True)
        return report

    async def run(self, matching: RedriveFilter, caller: Caller, limit: int = MAX_EVENTS) -> RedriveReport:
        """Requeue at most `limit` of the matching events, in the order of arrival.

        This process runs one redrive at a time. Redrives of several processes requeue each event once. If a run is
        cut off, its requeued events stay requeued and the next run does the rest.
        """
        async with self._run_lock:
            before = await self._survey(matching)
            redriven, is_complete = await self._requeue(matching, caller, limit)
            report = replace(before, redriven=redriven, is_complete=is_complete)
            await self._audit(report, matching, caller, is_dry=False)
        return report

    async def _survey(self, matching: RedriveFilter) -> RedriveReport:
        now = self._clock()
        async with self._database.read_connection() as reading:
            counts = await inbox_redrive.count_redrivable(reading, matching, now)
            sample = await inbox_redrive.redrivable(reading, matching, now, SAMPLE_EVENTS)
        return RedriveReport(counts, sample, is_complete=not sample)

    async def _requeue(self, matching: RedriveFilter, caller: Caller, limit: int) -> tuple[int, bool]:
        """Return how many events were requeued, and whether no redrivable event is left."""
        redriven, deadline = 0, self._seconds() + RUN_SECONDS
        async with self._database.read_connection() as reading:
            row_ids = await inbox_redrive.redrivable(reading, matching, self._clock(), limit + 1)
        for start in range(0, min(len(row_ids), limit), EVENTS_PER_CHUNK):
            if start and self._seconds() > deadline:
                return redriven, False
            chunk = row_ids[start : min(start + EVENTS_PER_CHUNK, limit)]
            redriven += await retry_on_conflict(partial(self._requeue_chunk, chunk, matching, caller))
            await asyncio.sleep(CHUNK_INTERVAL)
        return redriven, len(row_ids) <= limit

    async def _requeue_chunk(self, row_ids: Sequence[int], matching: RedriveFilter, caller: Caller) -> int:
        async with self._database.transaction() as tx:
            candidates = await inbox_redrive.lock(tx, row_ids)
            # Leave out a row that another redrive or the retry scan has changed since.
            row_ids = [row.row_id for row in candidates if row.status is matching.status and row.is_redrivable]
            if row_ids:
                await inbox_redrive.requeue(tx, row_ids, self._clock())
                await audit_store.record(tx, caller.entry(REDRIVEN, self._clock, {"rowIds": row_ids}))
        return len(row_ids)

    async def _audit(self, report: RedriveReport, matching: RedriveFilter, caller: Caller, *, is_dry: bool) -> None:
        details = {
            "dryRun": is_dry,
            "filter": _filter_document(matching),
            "events": report.events,
            "redrivable": report.redrivable,
            "redriven": report.redriven,
            "complete": report.is_complete,
        }
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry(REDRIVE, self._clock, details))


def _explain_refusal(candidates: Sequence[RedriveCandidate]) -> NotFound | InvalidStatusTransition:
    if not candidates:
        return NotFound("There is no such event.")
    details = {row.group: row.status for row in candidates}
    if any(row.status is Status.DEAD for row in candidates):
        sentence = "The event is dead, and there is nothing to try again: its envelope or body cannot be read."
    else:
        statuses = " and ".join(sorted(set(details.values())))
        sentence = f"The event is {statuses}; only what is dead or waiting can be tried again."
    return InvalidStatusTransition(sentence, details=details)


def _filter_document(matching: RedriveFilter) -> dict[str, object]:
    fields = {name: value for name, value in asdict(matching).items() if value is not None}
    return {name: rfc3339(value) if name.startswith("received_") else value for name, value in fields.items()}
