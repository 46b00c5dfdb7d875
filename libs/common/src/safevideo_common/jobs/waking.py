"""Hearing at once of jobs that others have queued."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from safevideo_common.errors import LogUnavailable
from safevideo_common.events.commands import JobQueued
from safevideo_common.events.topics import COMMANDS
from safevideo_common.messaging.consuming.delivery import next_offsets
from safevideo_common.messaging.port import EventLog, Record
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff

FETCH_SECONDS: Final = 5.0
FETCH_RECORDS: Final = 500
OUTAGE: Final = Backoff(initial=0.5, maximum=10.0)

_command: Final = msgspec.json.Decoder(JobQueued)


@dataclass(frozen=True, slots=True)
class WakeUp:
    """Run by one task. A message that is lost, or comes twice, costs nothing: the row is what counts."""

    event_log: EventLog
    service: str
    job_types: frozenset[str]
    wake: asyncio.Event
    log: FilteringBoundLogger

    async def run(self) -> None:
        """Until cancelled. While the log is away the engine finds its jobs by looking."""
        group, tries = f"{self.service}.commands", 0
        while True:
            try:
                async with self.event_log.subscribe(group, [COMMANDS], group) as subscription:
                    while True:
                        records = await subscription.fetch(max_records=FETCH_RECORDS, timeout=FETCH_SECONDS)
                        tries = 0
                        if records:
                            self.hear(records)
                            await subscription.commit(next_offsets(records))
            except LogUnavailable as error:
                tries += 1
                if tries == 1:
                    self.log.warning("Job messages wait", code=error.code, reason=error.message)
                await asyncio.sleep(OUTAGE.delay(tries))

    def hear(self, records: Sequence[Record]) -> None:
        """Wake the engine when one of them is about a job for us."""
        if any(self._is_ours(command) for command in _commands(records)):
            self.wake.set()

    def _is_ours(self, command: JobQueued) -> bool:
        return command.job_type in self.job_types and command.runner in (None, self.service)


def _commands(records: Iterable[Record]) -> Iterable[JobQueued]:
    for record in records:
        try:
            yield _command.decode(record.value)
        except msgspec.MsgspecError:
            continue  # of another kind, or from a later build
