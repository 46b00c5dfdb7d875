"""The task that empties the spool into the log, and thereby finds out when the log is back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from safevideo_common.broker.port import Producer
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from webhook_ingest.publishing.in_flight import InFlightPublishes, PublishRecalled
from webhook_ingest.spool.reporting import reason_of
from webhook_ingest.spool.segment import StoredEvent
from webhook_ingest.spool.spool import Spool

# What the door remembers of the log: whether it is away.


class KafkaOutage:
    """On from the first failure until the spool's task gets on again. One line says that spooling begins, one that it
    ends, however often the log comes and goes in between.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self.is_on = False
        self._log = log
        self._spooling_since: float | None = None

    def begin(self) -> None:
        """The log is away."""
        self.is_on = True
        if self._spooling_since is None:
            self._spooling_since = time.monotonic()
            self._log.warning("Spooling begins, the event log is away", code="SPOOLING")

    def end(self, events_left: int) -> None:
        """The log is back, and this many events are still in the spool."""
        self.is_on = False
        if self._spooling_since is not None and not events_left:
            seconds = round(time.monotonic() - self._spooling_since, 1)
            self._spooling_since = None
            self._log.info("Spooling ends, the event log has everything", code="SPOOLING", seconds=seconds)


WINDOW: Final = 2000
"""Events of one attempt: enough to gain on a door that is as busy as it can be, and not so many that it stalls."""

PROBE_WINDOW: Final = 32
"""After a failure: enough to reach most partitions, and next to nothing while the log is away."""

BACKOFF: Final = Backoff(initial=0.1, maximum=2.0)
"""Its longest delay is how much longer than the log the door may think that the log is away."""

ADOPT_SECONDS: Final = 30.0
"""How often one looks for what dead processes left."""

Probe = Callable[[], Awaitable[None]]


class SpoolDrainer:
    """Delivers in the order of the spool. An event that fails calls back all that were sent after it."""

    def __init__(
        self, spool: Spool, publisher: Producer, probe: Probe, outage: KafkaOutage, log: FilteringBoundLogger,
        on_failure: Callable[[], None], deadline_seconds: float,
    ) -> None:  # fmt: skip
        """`probe` asks whether the log is back when there is no event to try it with. It raises `BrokerUnavailable`."""
        self._spool = spool
        self._flights = InFlightPublishes(publisher, self._fail, deadline_seconds)
        self._probe = probe
        self._outage = outage
        self._log = log
        self._on_failure = on_failure
        self._window = PROBE_WINDOW
        self._has_failed = False
        self._adopt_at = 0.0

    async def run(self) -> None:
        """Until cancelled. One task runs this."""
        failures = 0
        while True:
            await self._adopt()
            if not self._spool.events and not self._outage.is_on:
                await self._rest()
            elif await self.attempt():
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(BACKOFF.delay(failures))

    async def finish(self, seconds: float) -> None:
        """Try to empty the spool for this long, after `run` has ended. What is left stays on disk."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._spool.events:
                    if not await self.attempt():
                        await asyncio.sleep(BACKOFF.initial)
        self._flights.close()
        if self._spool.events:
            self._log.warning("Spool kept for the next start", code="SPOOLING", events=self._spool.events)

    async def attempt(self) -> bool:
        """Whether a window of events, or the probe where there are none, has gone through as a whole."""
        self._has_failed = False
        try:
            window = await self._spool.next(self._window)
        except OSError as error:
            self._log.error("Spool cannot be read", code="SPOOL_UNREADABLE", reason=reason_of(error))
            return False
        got_on = await (self._send(window) if window else self._ask())
        if got_on:
            self._outage.end(self._spool.events)
        return got_on

    async def _send(self, window: Sequence[StoredEvent]) -> bool:
        delivered: list[StoredEvent] = []
        try:
            async with asyncio.TaskGroup() as group:
                for placed in window:
                    group.create_task(self._deliver(placed, delivered), name="spool-delivery")
        finally:
            self._spool.deliver(delivered)
        self._window = PROBE_WINDOW if self._has_failed else min(WINDOW, 4 * self._window)
        return not self._has_failed

    async def _deliver(self, placed: StoredEvent, delivered: list[StoredEvent]) -> None:
        if self._has_failed:
            return  # it must not overtake
        try:
            await self._flights.send(placed.kept.message)
        except PublishRecalled:
            return
        except PayloadTooLarge:
            self._spool.give_up(placed)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event stays in the spool and is tried again
            self._log.error("Spooled event not delivered", code="SPOOL_DELIVERY_FAILED", error=type(error).__name__)
            self._fail()
            return
        delivered.append(placed)

    async def _ask(self) -> bool:
        self._spool.deliver(())  # nothing can be read any more: what was lost on the way is counted out
        try:
            await self._probe()
        except BrokerUnavailable:
            return False
        return True

    def _fail(self) -> None:
        self._has_failed = True
        self._flights.call_back()
        self._on_failure()

    async def _adopt(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_SECONDS
            await self._spool.adopt()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._adopt_at):
                await self._spool.stirred.wait()
        self._spool.stirred.clear()
