"""The spool as the event loop sees it: events go in, are given out in order, and are let go when the log has them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.port import Message
from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.adapters.spool.accounts import Accounts
from webhook_ingest.adapters.spool.files import CHECK_BYTES, SpoolFiles, Taken
from webhook_ingest.adapters.spool.intake import Intake
from webhook_ingest.adapters.spool.metrics import SpoolMetrics
from webhook_ingest.adapters.spool.reports import Reports, reason_of
from webhook_ingest.adapters.spool.scribe import Scribe
from webhook_ingest.adapters.spool.taking import Placed, set_aside

MAX_BYTES: Final = 1 << 30
WRITE_SECONDS: Final = 2.0
"""How long an event waits for the disk. With the log's deadline before it, an answer takes four seconds at most, unless
`PRODUCE_SECONDS` says otherwise."""


class Spool:
    """For the event loop that opened it."""

    def __init__(self, files: SpoolFiles, accounts: Accounts, deadlines: Deadlines, reports: Reports) -> None:
        """Starts the thread, which `close` ends."""
        self.reports = reports
        self.held: list[Placed] = []
        """What was given out and is not delivered yet, in order."""
        self.stirred = asyncio.Event()
        """Set whenever there may be something to do; cleared by the one who does it."""
        self._files = files
        self._accounts = accounts
        self._intake = Intake(accounts, deadlines, reports, self.stirred)
        self._scribe = Scribe(files, self._intake.written, self._intake.refused)
        self._taking: asyncio.Future[Taken] | None = None

    @property
    def keys(self) -> Mapping[bytes, int]:
        """The keys of which anything is in the spool or on its way there; always the same object."""
        return self._accounts.keys

    @property
    def events(self) -> int:
        """How many are in the spool."""
        return self._accounts.events

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk."""
        return self._files.disk_bytes

    @property
    def oldest_seconds(self) -> float:
        """Age of the event that is delivered next; 0 when there is none."""
        return max(0.0, time.time() - self.held[0].kept.at_ms / 1000) if self.held else 0.0

    def keep(self, message: Message) -> "asyncio.Future[int]":
        """Its number once it is on disk. From now on its key is in `keys`; what is kept later is given out later.

        The future has a `LogUnavailable` when the spool is full, the disk fails, or takes too long; in the last case
        the event may be kept all the same.
        """
        try:
            entry = self._intake.enter(message, self._files.disk_bytes)
        except LogUnavailable as refusal:
            return _refused(refusal)
        self._scribe.append(entry)
        return entry.done

    async def next(self, most: int) -> Sequence[Placed]:
        """The first of `held`, `most` of them or fewer; none when the spool is empty. As many again are read meanwhile.

        Raises `OSError` when they cannot be read.
        """
        wanted = 2 * most - len(self.held)
        if self._taking is None and wanted > 0 and self.events > len(self.held):
            self._taking = self._scribe.run(lambda files: files.take(wanted))
            self._taking.add_done_callback(self._taken)
        if self._taking is not None and not self.held:
            # Whoever waits may be cancelled: what was given out comes into `held` all the same, and in order.
            await asyncio.shield(self._taking)
        return self.held[:most]

    def deliver(self, delivered: Sequence[Placed]) -> None:
        """The log has these, which are in `held`. Their files are removed behind; after a crash some come again."""
        gone = set(delivered)
        self.held = [placed for placed in self.held if placed not in gone]
        self._accounts.left(placed.kept.message for placed in delivered)
        self.reports.delivered(len(delivered))
        entered = self._accounts.entered
        tidied = self._scribe.run(lambda files: files.deliver(delivered))
        tidied.add_done_callback(lambda done: self._tidied(done, entered))

    def give_up(self, placed: Placed) -> None:
        """The log will never take this one: copy it to the `corrupt` folder. It is still to be counted as delivered."""
        self.reports.undeliverable(placed)
        _ = self._scribe.run(lambda files: set_aside(placed, files.root))

    async def adopt(self) -> None:
        """Make ours what dead processes left. It is given out before all that is not in `held` yet.

        A failure is reported and costs nothing: whoever looks next finds it.
        """
        try:
            self.reports.claimed(await self._scribe.run(SpoolFiles.claim))
            while await asyncio.shield(self._admit()) is not None:
                pass
        except OSError as error:
            self.reports.unusable(reason_of(error))

    def _admit(self) -> "asyncio.Future[Mapping[bytes, int] | None]":
        admitted = self._scribe.run(SpoolFiles.admit)
        admitted.add_done_callback(self._admitted)  # counted also when whoever waits for it is cancelled
        return admitted

    async def check(self) -> None:
        """Return when an event could be kept now. Raises `LogUnavailable`."""
        self._accounts.check_room(self._files.disk_bytes + CHECK_BYTES)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._scribe.run(SpoolFiles.check)
        except (OSError, TimeoutError) as error:
            raise LogUnavailable("The disk takes nothing.", retry_after=RETRY_AFTER_SECONDS) from error

    async def close(self) -> None:
        """Write what waits and let the files go; what is not delivered stays on disk."""
        _ = self._scribe.run(SpoolFiles.close)
        await self._scribe.close()

    def _taken(self, taking: "asyncio.Future[Taken]") -> None:
        self._taking = None
        if not taking.exception():
            self.held += taking.result().placed
            for lost in taking.result().lost:
                self.reports.lost(lost)

    def _admitted(self, admitted: "asyncio.Future[Mapping[bytes, int] | None]") -> None:
        if not admitted.cancelled() and not admitted.exception() and (keys := admitted.result()):
            self._accounts.adopted(keys)
            self.reports.adopted(sum(keys.values()))
            self.stirred.set()

    def _tidied(self, tidied: "asyncio.Future[bool]", entered: int) -> None:
        """Nothing is left, and nothing came in since: then what was lost on the way is counted out too."""
        if not tidied.exception() and tidied.result() and entered == self._accounts.entered and not self.held:
            self._accounts.settle()


@asynccontextmanager
async def open_spool(
    root: Path, log: FilteringBoundLogger, metrics: SpoolMetrics, max_bytes: int = MAX_BYTES
) -> AsyncIterator[Spool]:
    """The spool in `root`, with what dead processes left there. Entering succeeds when the disk is of no use:

    keeping is refused then, until it is. `max_bytes` bounds the files of this process.
    """
    with closing(Deadlines(WRITE_SECONDS)) as deadlines:
        spool = Spool(SpoolFiles(root), Accounts(max_bytes), deadlines, Reports(log, metrics))
        try:
            await spool.adopt()
            yield spool
        finally:
            await spool.close()


def _refused(refusal: LogUnavailable) -> "asyncio.Future[int]":
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done.set_exception(refusal)
    return done
