"""What comes into the spool: counted in before it is written, and answered when it is."""

import asyncio
from collections.abc import Sequence

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.port import Message
from webhook_ingest.adapters.spool.accounts import Accounts
from webhook_ingest.adapters.spool.reports import Reports, reason_of
from webhook_ingest.adapters.spool.scribe import Entry


class Intake:
    """For the event loop that made it."""

    def __init__(self, accounts: Accounts, deadlines: Deadlines, reports: Reports, stirred: asyncio.Event) -> None:
        self._accounts = accounts
        self._deadlines = deadlines
        self._reports = reports
        self._stirred = stirred
        self._loop = asyncio.get_running_loop()

    def enter(self, message: Message, disk_bytes: int) -> Entry:
        """What is to be written; its future ends within the deadline. Raises `LogUnavailable` when there is no room."""
        try:
            self._accounts.enter(message, disk_bytes)
        except LogUnavailable:
            self._reports.refused(1, "FULL")
            raise
        entry = Entry(message, self._loop.create_future())
        self._deadlines.watch(entry.done)
        return entry

    def written(self, entries: Sequence[Entry], number: int) -> None:
        """They are on disk, numbered from `number` on."""
        self._accounts.written(entry.message for entry in entries)
        self._reports.written(len(entries))
        self._stirred.set()
        for place, (_, done) in enumerate(entries):
            if not done.done():
                done.set_result(number + place)

    def refused(self, entries: Sequence[Entry], error: Exception) -> None:
        """The disk did not take them."""
        self._accounts.refused([entry.message for entry in entries])
        self._reports.refused(len(entries), reason_of(error))
        for _, done in entries:
            if not done.done():
                refusal = LogUnavailable("The event log is away and so is the disk.", retry_after=RETRY_AFTER_SECONDS)
                refusal.__cause__ = error
                done.set_exception(refusal)
