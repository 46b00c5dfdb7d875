"""A producer that also succeeds while Kafka is unavailable: what Kafka does not acknowledge in time is spooled."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from safevideo_common.broker.delivery import check_size
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.spool.reporting import SpoolDepth
from webhook_ingest.spool.spool import Spool

SPOOLED: Final = -1
"""The partition number of a spooled message, which has no partition yet."""

EARLIER_SECONDS: Final = 0.1
"""The time between our timeout and the later one of the producer. The producer fails one message after the other:
between two failures it could still send a later message of the same key. We recall all messages in one step."""

Task = asyncio.Task[Any]  # the result of the task is its owner's business


class PublishRecalled(Exception):
    """The message was recalled before its acknowledgement. Kafka may have it all the same, or get it later."""


class InFlightPublishes:
    """The messages that await an acknowledgement, oldest first; all can be recalled in one step.

    A task has one message in flight at a time. Every message passes here and costs less than a microsecond:
    docs/adr/0006 has the reasons.
    """

    def __init__(self, producer: Producer, on_failure: Callable[[], None], acknowledged_within: float) -> None:
        """Call `on_failure` as soon as a message failed or timed out. It must call `recall`, to keep the order.

        The timeout is `EARLIER_SECONDS` before `acknowledged_within`, which is the timeout of `producer`.
        """
        self._producer = producer
        self._on_failure = on_failure
        self._seconds = acknowledged_within - EARLIER_SECONDS
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[Task, tuple[float, Message, int]] = {}
        self._recalled: dict[Task, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset. Raises `PublishRecalled`, and every other error of the producer."""
        task: Task = asyncio.current_task(self._loop)  # type: ignore[assignment]  # a running coroutine has one
        self._in_flight[task] = (self._loop.time(), message, task.cancelling())
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check_timeout)
        try:
            return await self._producer.publish(message)
        except BrokerUnavailable as failure:
            self._on_failure()
            raise PublishRecalled from failure
        except asyncio.CancelledError:
            if self._undo_recall(task):
                raise PublishRecalled from None
            raise
        finally:
            self._in_flight.pop(task, None)

    def recall(self) -> Sequence[tuple[Task, Message]]:
        """Return all messages in flight with their tasks, oldest first. `publish` raises `PublishRecalled` in each."""
        in_flight, self._in_flight = self._in_flight, {}
        failed = asyncio.current_task(self._loop)  # the task whose failure this is raises by itself
        for task, (_, _, cancellations) in in_flight.items():
            if task is not failed:
                self._recalled[task] = cancellations
                task.cancel()  # this cancels the producer's future at once, so the producer does not send it any more
        return [(task, message) for task, (_, message, _) in in_flight.items()]

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check_timeout(self) -> None:
        self._timer = None
        if not self._in_flight:
            return
        since, _, _ = next(iter(self._in_flight.values()))
        if (left := since + self._seconds - self._loop.time()) > 0:
            self._timer = self._loop.call_later(left, self._check_timeout)
        else:
            self._on_failure()

    def _undo_recall(self, task: Task) -> bool:
        """Undo our cancellation of `task`. Return True if nobody else cancelled it too."""
        cancellations = self._recalled.pop(task, None)
        return cancellations is not None and task.uncancel() <= cancellations


class SpoolingPublisher:
    """A `Producer` in front of Kafka and the spool.

    *Guarantee*: after `publish`, the message is durable: Kafka acknowledged it, or it is fsynced in the spool.
    *Guarantee*: the messages of a key keep their order. While one is in the spool, later ones go there too.
    *Under*: Kafka fails or hangs. After the first timeout every message is spooled at once, without waiting for Kafka,
    until `SpoolDrainer` delivers again.
    *Not guaranteed*: delivery exactly once. Kafka may take a recalled message late; the spool delivers it again with
    the same id.
    """

    def __init__(
        self, producer: Producer, spool: Spool, logger: FilteringBoundLogger,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        """`acknowledged_within` is the timeout of `producer`."""
        self._spool = spool
        self._spooled_keys = spool.keys
        self._publishes = InFlightPublishes(producer, self.kafka_failed, acknowledged_within)
        self._recalled: dict[Task | None, asyncio.Future[int]] = {}
        self._logger = logger
        self._is_kafka_unavailable = False
        self._spooling_since: float | None = None

    @property
    def is_kafka_unavailable(self) -> bool:
        """True from a failure until `kafka_recovered`."""
        return self._is_kafka_unavailable

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset in Kafka, or `SPOOLED` and the number in the spool.

        Raises `BrokerUnavailable` if neither takes the message, and `PayloadTooLarge`.
        """
        if self._is_kafka_unavailable or message.key in self._spooled_keys:
            check_size(message)
            return _spooled(message), await self._spool.append(message)
        try:
            return await self._publishes.publish(message)
        except PublishRecalled:
            return _spooled(message), await self._recalled.pop(asyncio.current_task())
        except asyncio.CancelledError:
            if appended := self._recalled.pop(asyncio.current_task(), None):
                appended.cancel()  # the event is spooled all the same; only nobody waits for it
            raise

    def kafka_failed(self) -> None:
        """Spool every message from now on: first those in flight in their order, then all that follow."""
        self._is_kafka_unavailable = True
        if self._spooling_since is None:
            self._spooling_since = time.monotonic()
            self._logger.warning("Kafka unavailable, spooling webhooks", code="SPOOLING")
        for task, message in self._publishes.recall():
            self._recalled[task] = self._spool.append(message)
        self._spool.wake()

    def kafka_recovered(self) -> None:
        """Publish to Kafka again. Log it once the spool is empty, however often Kafka fails before that."""
        self._is_kafka_unavailable = False
        if self._spooling_since is not None and not self._spool.events:
            seconds = round(time.monotonic() - self._spooling_since, 1)
            self._spooling_since = None
            self._logger.info("Spool drained, publishing to Kafka again", code="SPOOLING", seconds=seconds)

    async def check(self) -> None:
        """Return if messages can be made durable: while the spool works, Kafka may be unavailable. For readiness.

        Raises `BrokerUnavailable`.
        """
        if self._is_kafka_unavailable:
            await self._spool.check()

    def depth(self) -> SpoolDepth:
        """Return the present content of the spool."""
        spool = self._spool
        return SpoolDepth(spool.events, spool.disk_bytes, spool.oldest_seconds, self._is_kafka_unavailable)

    def close(self) -> None:
        """Stop the timer. Call this when nothing is published any more."""
        self._publishes.close()


def _spooled(message: Message) -> TopicPartition:
    return TopicPartition(message.topic, SPOOLED)
