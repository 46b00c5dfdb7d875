"""Offsets whose commit failed are committed by an idle fetch: the lag ends without another record."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import ALL_PARTITIONS, NullClaim, PartitionShard
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.inbox.consume_loop import ConsumeLoop, ConsumerLiveness
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_testkit.eventually import eventually, running_task

PARTITION = TopicPartition("marks", 0)


class QuietSubscription:
    """One batch, and then no record. The first commits fail."""

    generation = 0

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.records = [Record("marks", 0, 7, 0, b"", b"", ())]
        self.committed: dict[TopicPartition, int] = {}
        self.commits = 0

    @contextmanager
    def processing(self) -> Iterator[NullClaim]:
        yield NullClaim()

    async def fetch(
        self,
        *,
        max_records: int,
        timeout: float,
        shard: PartitionShard = ALL_PARTITIONS,
    ) -> Sequence[Record]:
        await asyncio.sleep(0)
        records, self.records = self.records, []
        return records

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.commits += 1
        if self.commits <= self.failures:
            raise BrokerUnavailable("it is away")
        self.committed |= offsets

    async def lag(self) -> Mapping[TopicPartition, int]:
        return {PARTITION: 8 - self.committed.get(PARTITION, 0)}

    def seek_to_committed(self) -> None:
        raise AssertionError("nothing was lost")


class AcceptingProcessor:
    async def process(self, *_: object) -> None:
        """Accept a batch."""


async def test_idle_fetch_commits_the_offsets_whose_commit_failed() -> None:
    subscription, processor = QuietSubscription(failures=3), AcceptingProcessor()
    anything: Any = processor
    loop: ConsumeLoop[Any, Any] = ConsumeLoop(
        subscription, ALL_PARTITIONS, anything, 500, ConsumerLiveness().start(),
        build_logger("test", LogSink(None, stdout=False)), ConsumerMetrics(CollectorRegistry()),
    )  # fmt: skip

    async def is_committed() -> bool:
        return not any((await subscription.lag()).values())

    async with running_task(loop.run()):
        await eventually(is_committed)
    assert (subscription.committed, subscription.commits) == ({PARTITION: 8}, 4)
