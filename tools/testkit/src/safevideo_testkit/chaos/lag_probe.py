"""Consumer groups from the view of the broker."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.types import TopicPartition

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


class OffsetMonitor:
    """A monitor of committed offsets, which must never decrease. `decreases` lists where they did.

    `increases` counts the commits that it saw: without any, it has proven nothing.
    """

    def __init__(self, bootstrap_servers: str, *groups: str) -> None:
        self.decreases: list[str] = []
        self.increases = 0
        self._servers = bootstrap_servers
        self._groups = groups
        self._highest: dict[tuple[str, TopicPartition], int] = {}

    async def watch(self, poll_seconds: float = 0.25) -> None:
        """Check until cancelled, also after the broker was unavailable."""
        while True:
            try:
                async with open_groups(self._servers) as groups:
                    while True:
                        await self._check(groups)
                        await asyncio.sleep(poll_seconds)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(poll_seconds)

    async def _check(self, groups: Groups) -> None:
        for group in self._groups:
            for partition, offset in (await groups.committed(group)).items():
                highest = self._highest.get((group, partition), 0)
                self.increases += offset > highest
                if offset < highest:
                    position = f"{partition.topic}/{partition.partition}"
                    self.decreases.append(f"{group} {position}: from {highest} back to {offset}")
                self._highest[group, partition] = max(highest, offset)
