"""Taking events up again at an operator's word: one, or all that a filter finds. The retry scan then tries them.

An event that was mended is applied as if it had come in its place. It is the first of its performer's queue again, for
the queue is in the order of arrival; and where newer events have been applied meanwhile, the order that is kept field
by field leaves it only what is still its own, or makes it `stale`. So either may be repeated, at any time.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, rfc3339
from safevideo_common.database.batches import MAX_KEYS_PER_STATEMENT
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.domain.outcomes import Status
from safevideo_common.errors import InvalidStatusTransition, NotFound
from safevideo_common.inbox.store import queries as inbox_queries
from safevideo_common.inbox.store import redrive as inbox_redrive
from safevideo_common.inbox.store.queries import InboxRecord
from safevideo_common.inbox.store.redrive import RedriveCandidate, RedriveCount, RedriveFilter

# What a redrive found and did, and how it is told.


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """What a run found, and how many events it has taken up."""

    tallies: Sequence[RedriveCount]
    sample: Sequence[int]
    """Row ids of the first that can be taken up."""
    is_complete: bool
    """Whether nothing is left that could be taken up."""
    redriven: int = 0

    @property
    def events(self) -> int:
        """How many matched."""
        return sum(tally.events for tally in self.tallies)

    @property
    def redrivable(self) -> int:
        """How many of them can be taken up."""
        return sum(tally.redrivable for tally in self.tallies)

    def counted(self, part: Callable[[RedriveCount], str]) -> dict[str, int]:
        """How many matched, by `part`."""
        counts: dict[str, int] = {}
        for tally in self.tallies:
            counts[part(tally)] = counts.get(part(tally), 0) + tally.events
        return counts

    def document(self, *, is_dry: bool) -> dict[str, object]:
        """As the API and the command tell it. All counts but `redriven` are from before the run."""
        return {
            "dryRun": is_dry,
            "matching": self.events,
            "redrivable": self.redrivable,
            "notRedrivable": self.events - self.redrivable,
            "byType": self.counted(lambda tally: tally.event_type),
            "byReason": self.counted(lambda tally: tally.code),
            "byGroup": self.counted(lambda tally: tally.group),
            "sample": list(self.sample),
            "redriven": self.redriven,
            "complete": self.is_complete,
        }


MAX_EVENTS: Final = 10_000
"""Of one run, unless it is told otherwise."""
CHUNK_EVENTS: Final = MAX_KEYS_PER_STATEMENT
PAUSE_SECONDS: Final = 0.1
"""Between two chunks: the live flow writes to the same table."""
RUN_SECONDS: Final = 25.0
"""After so long a run ends between two chunks and says that there is more: proxies cut off an answer after 60 s."""
SAMPLE_EVENTS: Final = 20

RETRIED: Final = "events.retried"
REDRIVEN: Final = "events.redriven"
"""One chunk, with its row ids."""
REDRIVE: Final = "events.redrive"
"""A whole run, dry or not, with what was asked for and counts."""


class RedriveService:
    """Takes events up, a bounded number at a time. Everything raises the errors of `database/faults.py`."""

    def __init__(self, database: Database, clock: Clock, *, seconds: Callable[[], float] = monotonic) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds
        self._turn = asyncio.Lock()

    async def retry(self, given: str, group: str | None, caller: Caller) -> list[InboxRecord]:
        """Take up the event with this row id or event id: of the latter all rows that can be, or that of `group`.

        A redelivery does not undo it, and repeating it changes nothing but the time. Raises `NotFound`,
        `InvalidStatusTransition` when there is no row that can be taken up, `ValidationFailed` for what can be no id.
        """
        return await retry_on_conflict(partial(self._retry, given, group, caller))

    async def _retry(self, given: str, group: str | None, caller: Caller) -> list[InboxRecord]:
        async with self._database.transaction() as tx:
            named = await inbox_queries.find_by_event_id(tx, given)
            found = await inbox_redrive.lock(tx, [row.row_id for row in named], group)
            chosen = [row.row_id for row in found if row.can_be_taken_up]
            if not chosen:
                raise _refusal(found)
            await inbox_redrive.requeue(tx, chosen, self._clock())
            details = {"eventId": named[0].event_id, "rowIds": chosen, "was": {row.group: row.status for row in found}}
            await audit_store.record(tx, caller.entry(RETRIED, self._clock, details))
            return [row for row in await inbox_queries.find_by_event_id(tx, given) if row.row_id in chosen]

    async def survey(self, wanted: RedriveFilter, caller: Caller) -> RedriveReport:
        """What a run would find: it changes nothing but the audit log."""
        report = await self._survey(wanted)
        await self._note(report, wanted, caller, is_dry=True)
        return report

    async def run(self, wanted: RedriveFilter, caller: Caller, limit: int = MAX_EVENTS) -> RedriveReport:
        """Take up at most `limit` of what matches, in the order of arrival.

        One run at a time in this process; two of different processes take up each event once. What was taken up when a
        run is cut off stays so, and the next run does the rest.
        """
        async with self._turn:
            before = await self._survey(wanted)
            redriven, is_complete = await self._take_up(wanted, caller, limit)
            report = replace(before, redriven=redriven, is_complete=is_complete)
            await self._note(report, wanted, caller, is_dry=False)
        return report

    async def _survey(self, wanted: RedriveFilter) -> RedriveReport:
        now = self._clock()
        async with self._database.read_connection() as reading:
            tallies = await inbox_redrive.count_redrivable(reading, wanted, now)
            sample = await inbox_redrive.redrivable(reading, wanted, now, SAMPLE_EVENTS)
        return RedriveReport(tallies, sample, is_complete=not sample)

    async def _take_up(self, wanted: RedriveFilter, caller: Caller, limit: int) -> tuple[int, bool]:
        redriven, until = 0, self._seconds() + RUN_SECONDS
        async with self._database.read_connection() as reading:
            row_ids = await inbox_redrive.redrivable(reading, wanted, self._clock(), limit + 1)
        for start in range(0, min(len(row_ids), limit), CHUNK_EVENTS):
            if start and self._seconds() > until:
                return redriven, False
            chunk = row_ids[start : min(start + CHUNK_EVENTS, limit)]
            redriven += await retry_on_conflict(partial(self._take_up_chunk, chunk, wanted, caller))
            await asyncio.sleep(PAUSE_SECONDS)
        return redriven, len(row_ids) <= limit

    async def _take_up_chunk(self, row_ids: Sequence[int], wanted: RedriveFilter, caller: Caller) -> int:
        async with self._database.transaction() as tx:
            found = await inbox_redrive.lock(tx, row_ids)
            # One that somebody else was quicker to take up, or that the retry scan has settled, is not what was meant.
            chosen = [row.row_id for row in found if row.status is wanted.status and row.can_be_taken_up]
            if chosen:
                await inbox_redrive.requeue(tx, chosen, self._clock())
                await audit_store.record(tx, caller.entry(REDRIVEN, self._clock, {"rowIds": chosen}))
        return len(chosen)

    async def _note(self, report: RedriveReport, wanted: RedriveFilter, caller: Caller, *, is_dry: bool) -> None:
        details = {
            "dryRun": is_dry,
            "filter": _shown(wanted),
            "events": report.events,
            "redrivable": report.redrivable,
            "redriven": report.redriven,
            "complete": report.is_complete,
        }
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry(REDRIVE, self._clock, details))


def _refusal(found: Sequence[RedriveCandidate]) -> NotFound | InvalidStatusTransition:
    if not found:
        return NotFound("There is no such event.")
    details = {row.group: row.status for row in found}
    if any(row.status is Status.DEAD for row in found):
        sentence = "The event is dead, and there is nothing to try again: its envelope or body cannot be read."
    else:
        statuses = " and ".join(sorted(set(details.values())))
        sentence = f"The event is {statuses}; only what is dead or waiting can be tried again."
    return InvalidStatusTransition(sentence, details=details)


def _shown(wanted: RedriveFilter) -> dict[str, object]:
    given = {name: value for name, value in asdict(wanted).items() if value is not None}
    return {name: rfc3339(value) if name.startswith("received_") else value for name, value in given.items()}
