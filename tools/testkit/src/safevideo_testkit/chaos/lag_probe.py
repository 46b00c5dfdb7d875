"""Consumer groups from the view of the broker."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from itertools import pairwise
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.types import Int16, Int32, Int64, Schema, String

from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_testkit.broker_helpers import end_offsets, records_since

ANSWER_SECONDS = 30.0

Offsets = Mapping[TopicPartition, int]


class Groups:
    """The groups of a broker. All methods raise `KafkaError`, `OSError` or `TimeoutError` if it is unavailable."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def committed(self, group: str) -> Offsets:
        """Return the committed offset of each partition that has one."""
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await self._admin.list_consumer_group_offsets(group)
        return {TopicPartition(*partition): meta.offset for partition, meta in found.items() if meta.offset >= 0}

    async def settled_members(self, group: str) -> int:
        """Return the number of members, or 0 in a rebalance."""
        state, members = await self._describe(group)
        return members if state == "Stable" else 0

    async def members(self, group: str) -> int:
        """Return the number of members. A process that died is one until its session ends."""
        return (await self._describe(group))[1]

    async def _describe(self, group: str) -> tuple[str, int]:
        async with asyncio.timeout(ANSWER_SECONDS):
            (answer,) = await self._admin.describe_consumer_groups([group])
        _, _, state, _, _, members, *_ = answer.groups[0]
        return state, len(members)


@asynccontextmanager
async def open_groups(bootstrap_servers: str) -> AsyncIterator[Groups]:
    """Open a client of the groups."""
    async with open_admin(bootstrap_servers, "chaos-groups", int(ANSWER_SECONDS * 1000)) as admin:
        yield Groups(admin)


OFFSETS_TOPIC: Final = "__consumer_offsets"
_COMMIT_KEYS: Final = (0, 1)
"""Versions of the keys of commits. Other records of the topic are about members."""
_COMMIT_KEY: Final = Schema(("group", String("utf-8")), ("topic", String("utf-8")), ("partition", Int32))
"""What follows the version."""
_COMMIT_VALUE: Final = Schema(("version", Int16), ("offset", Int64))
"""The beginning of it."""


class OffsetCommits:
    """The offset commits of groups since a point in time, in the order in which the coordinators have logged them.

    The answer of a coordinator proves no decrease. A former one may answer once more, with what it knew. A new one
    does not know at first how far the replicas have its log, and answers with an earlier commit meanwhile.
    """

    def __init__(self, broker: Broker, begins: Mapping[TopicPartition, int]) -> None:
        self._broker = broker
        self._begins = begins
        self._commits: dict[tuple[str, TopicPartition], list[int]] = {}

    @classmethod
    async def since_now(cls, broker: Broker) -> Self:
        """Begin here. A broker that had no group yet has no such topic."""
        try:
            return cls(broker, await end_offsets(broker, [OFFSETS_TOPIC]))
        except BrokerUnavailable:
            return cls(broker, {})

    async def read(self, groups: Collection[str]) -> None:
        """Read the commits of these groups up to now."""
        ends = await end_offsets(self._broker, [OFFSETS_TOPIC])
        for record in await records_since(self._broker, {each: self._begins.get(each, 0) for each in ends}):
            if (commit := _commit_of(record)) is not None and commit[0] in groups:
                self._commits.setdefault(commit[:2], []).append(commit[2])

    @property
    def count(self) -> int:
        """Return the number of commits of a partition. Without any, nothing is proven."""
        return sum(map(len, self._commits.values()))

    @property
    def decreases(self) -> list[str]:
        """Return, in words, each commit of a lower offset than the one before."""
        return [
            f"{group} {partition.topic}/{partition.partition}: from {before} to {after}"
            for (group, partition), offsets in self._commits.items()
            for before, after in pairwise(offsets)
            if after < before
        ]


def _commit_of(record: Record) -> tuple[str, TopicPartition, int] | None:
    """Return group, partition and offset; None for another record, or for a commit that is deleted."""
    key = BytesIO(record.key)
    if Int16.decode(key) not in _COMMIT_KEYS or not record.value:
        return None
    group, topic, partition = _COMMIT_KEY.decode(key)
    _version, offset = _COMMIT_VALUE.decode(BytesIO(record.value))
    return group, TopicPartition(topic, partition), offset
