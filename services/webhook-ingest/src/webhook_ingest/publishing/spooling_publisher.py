"""A producer that also succeeds while Kafka is unavailable: what Kafka does not acknowledge in time is spooled.

A partition that takes no writes is spooled alone. If nothing at all was acknowledged for as long, Kafka counts as
unavailable, and every message is spooled at once.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any, Final, NamedTuple

from safevideo_common.broker.delivery import check_size
from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, PartitionedProducer
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


class _InFlight(NamedTuple):
    since: float
    message: Message
    partition: TopicPartition
    cancellations: int


class InFlightPublishes:
    """The messages that await an acknowledgement, oldest first; those of a partition can be recalled in one step.

    A task has one message in flight at a time. Every message passes here and costs less than a microsecond:
    docs/adr/0006 has the reasons.
    """

    def __init__(
        self,
        producer: PartitionedProducer,
        on_failure: Callable[[TopicPartition], None],
        acknowledged_within: float,
    ) -> None:
        """Call `on_failure` as soon as a message failed or timed out. It must recall its partition, to keep the order.

        The timeout is `EARLIER_SECONDS` before `acknowledged_within`, which is the timeout of `producer`.
        """
        self._producer = producer
        self._on_failure = on_failure
        self.seconds = acknowledged_within - EARLIER_SECONDS
        """The timeout."""
        self.acknowledged_at = -inf
        """The time of the last acknowledgement, by the clock of the event loop."""
        self._loop = asyncio.get_running_loop()
        self._in_flight: dict[Task, _InFlight] = {}
        self._recalled: dict[Task, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def publish(self, message: Message, partition: TopicPartition) -> tuple[TopicPartition, int]:
        """Return partition and offset. Raises `PublishRecalled`, and every other error of the producer.

        `partition` is what `PartitionedProducer.partition_of` says.
        """
        task: Task = asyncio.current_task(self._loop)  # type: ignore[assignment]  # a running coroutine has one
        self._in_flight[task] = _InFlight(self._loop.time(), message, partition, task.cancelling())
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._check_timeout)
        try:
            acknowledged = await self._producer.publish(message)
        except BrokerUnavailable as failure:
            self._on_failure(partition)
            raise PublishRecalled from failure
        except asyncio.CancelledError:
            if self._undo_recall(task):
                raise PublishRecalled from None
            raise
        else:
            self.acknowledged_at = self._loop.time()
            return acknowledged
        finally:
            self._in_flight.pop(task, None)

    def recall(self, partition: TopicPartition | None = None) -> Sequence[tuple[Task, Message]]:
        """Return the messages in flight with their tasks, oldest first: those of `partition`, or all of them.

        `publish` raises `PublishRecalled` in each task.
        """
        recalled = {
            task: entry for task, entry in self._in_flight.items() if partition is None or entry.partition == partition
        }
        failed = asyncio.current_task(self._loop)  # the task whose failure this is raises by itself
        for task, entry in recalled.items():
            del self._in_flight[task]
            if task is not failed:
                self._recalled[task] = entry.cancellations
                task.cancel()  # this cancels the producer's future at once, so the producer does not send it any more
        return [(task, entry.message) for task, entry in recalled.items()]

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check_timeout(self) -> None:
        self._timer = None
        while self._in_flight:
            oldest = next(iter(self._in_flight.values()))
            if (left := oldest.since + self.seconds - self._loop.time()) > 0:
                self._timer = self._loop.call_later(left, self._check_timeout)
                return
            self._on_failure(oldest.partition)

    def _undo_recall(self, task: Task) -> bool:
        """Undo our cancellation of `task`. Return True if nobody else cancelled it too."""
        cancellations = self._recalled.pop(task, None)
        return cancellations is not None and task.uncancel() <= cancellations


class SpoolingPublisher:
    """A `Producer` in front of Kafka and the spool.

    *Guarantee*: after `publish`, the message is durable: Kafka acknowledged it, or it is fsynced in the spool.
    *Guarantee*: the messages of a key keep their order. While one is in the spool, later ones go there too.
    *Under*: a partition takes no writes. After its first timeout its messages are spooled at once, and those of other
    partitions are published as before, until `SpoolDrainer` delivers to it again.
    *Under*: Kafka fails or hangs, so that nothing is acknowledged. After the first timeout every message is spooled at
    once, without waiting for Kafka.
    *Not guaranteed*: delivery exactly once. Kafka may take a recalled message late; the spool delivers it again with
    the same id.
    """

    def __init__(
        self, producer: PartitionedProducer, spool: Spool, logger: FilteringBoundLogger,
        acknowledged_within: float = ACKNOWLEDGED_WITHIN_SECONDS,
    ) -> None:  # fmt: skip
        """`acknowledged_within` is the timeout of `producer`."""
        self._producer = producer
        self._spool = spool
        self._spooled_keys = spool.keys
        self._publishes = InFlightPublishes(producer, self.partition_failed, acknowledged_within)
        self._unavailable: set[TopicPartition] = set()
        self._drained_at = -inf
        self._recalled: dict[Task | None, asyncio.Future[int]] = {}
        self._logger = logger
        self._is_kafka_unavailable = False
        self._spooling_since: float | None = None

    @property
    def is_kafka_unavailable(self) -> bool:
        """True from a failure without any acknowledgement until `acknowledged` or `kafka_answers`."""
        return self._is_kafka_unavailable

    def is_unavailable(self, partition: TopicPartition) -> bool:
        """Return True from a failure of the partition until `acknowledged`."""
        return partition in self._unavailable

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Return partition and offset in Kafka, or `SPOOLED` and the number in the spool.

        Raises `BrokerUnavailable` if neither takes the message, and `PayloadTooLarge`.
        """
        partition = self._producer.partition_of(message)
        if self._is_kafka_unavailable or message.key in self._spooled_keys or partition in self._unavailable:
            check_size(message)
            return _spooled(message), await self._spool.append(message)
        try:
            return await self._publishes.publish(message, partition)
        except PublishRecalled:
            return _spooled(message), await self._recalled.pop(asyncio.current_task())
        except asyncio.CancelledError:
            if appended := self._recalled.pop(asyncio.current_task(), None):
                appended.cancel()  # the event is spooled all the same; only nobody waits for it
            raise

    def partition_failed(self, partition: TopicPartition) -> None:
        """Spool the messages of the partition: first those in flight in their order, then all that follow.

        If nothing was acknowledged for as long as a message may wait, do so with the messages of all partitions.
        """
        acknowledged_at = max(self._publishes.acknowledged_at, self._drained_at)
        if acknowledged_at < asyncio.get_running_loop().time() - self._publishes.seconds:
            self._is_kafka_unavailable = True
            self._log_begin("Kafka unavailable, spooling webhooks")
            recalled = self._publishes.recall()
        else:
            self._unavailable.add(partition)
            self._log_begin("Partition unavailable, spooling its webhooks", partition=_name(partition))
            recalled = self._publishes.recall(partition)
        for task, message in recalled:
            self._recalled[task] = self._spool.append(message)
        self._spool.wake()

    def partition_unavailable(self, partition: TopicPartition) -> None:
        """Spool what follows for the partition. The caller has recalled its own messages."""
        self._unavailable.add(partition)

    def acknowledged(self, partitions: Collection[TopicPartition]) -> None:
        """Publish to these partitions again: they have acknowledged messages of the spool."""
        self._drained_at = asyncio.get_running_loop().time()
        self._unavailable.difference_update(partitions)
        self.kafka_answers()

    def forget_unavailable(self, waiting: Collection[TopicPartition]) -> None:
        """Try all partitions but these again with the next message: the spool has nothing to try them with."""
        self._unavailable.intersection_update(waiting)
        self.kafka_answers()

    def kafka_answers(self) -> None:
        """Publish to Kafka again. Log it once the spool is empty, however often Kafka fails before that."""
        self._is_kafka_unavailable = False
        if self._spooling_since is not None and not self._spool.events and not self._unavailable:
            seconds = round(time.monotonic() - self._spooling_since, 1)
            self._spooling_since = None
            self._logger.info("Spool drained, publishing to Kafka again", code="SPOOLING", seconds=seconds)

    def _log_begin(self, event: str, **values: object) -> None:
        if self._spooling_since is None:
            self._spooling_since = time.monotonic()
            self._logger.warning(event, code="SPOOLING", **values)

    async def check(self) -> None:
        """Return if messages can be made durable: while the spool works, Kafka may be unavailable. For readiness.

        Raises `BrokerUnavailable`.
        """
        if self._is_kafka_unavailable:
            await self._spool.check()

    def depth(self) -> SpoolDepth:
        """Return the present content of the spool."""
        spool = self._spool
        return SpoolDepth(
            spool.events,
            spool.disk_bytes,
            spool.oldest_seconds,
            self._is_kafka_unavailable,
            len(self._unavailable),
            spool.directories,
        )

    def close(self) -> None:
        """Stop the timer. Call this when nothing is published any more."""
        self._publishes.close()


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"


def _spooled(message: Message) -> TopicPartition:
    return TopicPartition(message.topic, SPOOLED)
