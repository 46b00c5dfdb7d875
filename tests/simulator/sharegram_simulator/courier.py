"""The way of a webhook: first tries in order per performer, then retries on a schedule until it is accepted.

    submit ─▶ lane of its performer ─▶ ready ─▶ a worker tries ─┬─ 2xx ─▶ delivered
                                         ▲                      ├─ else, tries left ─▶ timer ─┐
                                         └──────────────────────┼─────────────────────────────┘
                                                                └─ else ─▶ failed

A lane lets its next webhook go when the one before has had its first try, accepted or not: Sharegram does not wait
for a retry, so a webhook that is being retried is overtaken by later ones.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from sharegram_simulator.clock import utc_now
from sharegram_simulator.delivery import Delivery, DeliveryLog
from sharegram_simulator.disorder import Disorder
from sharegram_simulator.errors import Unavailable
from sharegram_simulator.lanes import Lanes
from sharegram_simulator.outgoing import compose
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.sender import Sender
from sharegram_simulator.webhooks import Event

RETRY_DELAYS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Seconds after the first try and each further one, then the webhook is given up. No jitter: Sharegram has none."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Webhooks that may wait or be retried, webhooks under way at once, and the factor that shortens the schedule."""

    waiting: int
    at_once: int
    retry_factor: float


class Courier:
    """Delivers webhooks within `running()`. What is undelivered at the end is lost, as all state here is."""

    def __init__(
        self,
        sender: Sender,
        receiver: Receiver,
        record: DeliveryLog,
        disorder: Disorder,
        limits: Limits,
        log: FilteringBoundLogger,
    ) -> None:
        self._sender = sender
        self._receiver = receiver
        self._record = record
        self._disorder = disorder
        self._limits = limits
        self._log = log
        self._lanes = Lanes()
        # An open delivery is in here at most once, so the bound is never met.
        self._ready: asyncio.Queue[Delivery] = asyncio.Queue(limits.waiting)
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._workers: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver until the end of the block."""
        self._workers = [
            asyncio.create_task(self._work(), name=f"webhook-courier-{number}")
            for number in range(self._limits.at_once)
        ]
        for worker in self._workers:
            worker.add_done_callback(self._report_death)
        try:
            yield
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

    def reserve(self, count: int) -> None:
        """Raise `Unavailable` when `count` more webhooks cannot be taken: the queue is full, or a worker has died."""
        if any(worker.done() for worker in self._workers):
            raise Unavailable("The delivery of webhooks has stopped; see the log.")
        if self._record.open_count + count > self._limits.waiting:
            raise Unavailable(f"At most {self._limits.waiting} webhooks can wait.", retry_after=RETRY_DELAYS[0])

    def submit(self, event: Event) -> Delivery:
        """Queue a webhook behind the earlier ones of its performer. Raises `Unavailable`."""
        self.reserve(1)
        delivery = self._record.open(event, utc_now())
        if self._lanes.join(delivery):
            self._ready.put_nowait(delivery)
        return delivery

    async def _work(self) -> None:
        while True:
            delivery = await self._ready.get()
            if self._is_to_be_overtaken(delivery):
                self._schedule(delivery, self._disorder.pause())
            else:
                await self._try(delivery)
            if following := self._lanes.leave(delivery):
                self._ready.put_nowait(following)

    def _is_to_be_overtaken(self, delivery: Delivery) -> bool:
        if delivery.tries or delivery.held_back:
            return False
        delivery.held_back = self._disorder.holds_back()
        return delivery.held_back

    async def _try(self, delivery: Delivery) -> None:
        event, receiver = delivery.event, self._receiver
        outgoing = compose(event.body(), event.id, receiver.secret, utc_now(), receiver.scheme)
        attempt = await self._sender.post(receiver.url, outgoing)
        delivery.tries.append(attempt)
        if delivery.duplicated:  # It was accepted before: nobody waits for the answer to a duplicate.
            self._record.finish(delivery, "delivered")
        elif attempt.accepted:
            self._accepted(delivery)
        else:
            self._refused(delivery)

    def _accepted(self, delivery: Delivery) -> None:
        if self._disorder.duplicates():
            delivery.duplicated = True
            delivery.state = "delivered"
            self._schedule(delivery, self._disorder.pause())
        else:
            self._record.finish(delivery, "delivered")

    def _refused(self, delivery: Delivery) -> None:
        if len(delivery.tries) > len(RETRY_DELAYS):
            self._record.finish(delivery, "failed")
            self._log.warning("Webhook given up", event_id=delivery.event.id, tries=len(delivery.tries))
        else:
            delivery.state = "retrying"
            self._schedule(delivery, RETRY_DELAYS[len(delivery.tries) - 1])

    def _schedule(self, delivery: Delivery, seconds: float) -> None:
        delay = seconds * self._limits.retry_factor
        self._timers[delivery.number] = asyncio.get_running_loop().call_later(delay, self._wake, delivery)

    def _wake(self, delivery: Delivery) -> None:
        del self._timers[delivery.number]
        self._ready.put_nowait(delivery)

    def _report_death(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled():
            self._log.error("Webhook delivery stopped", worker=worker.get_name(), exc_info=worker.exception())
