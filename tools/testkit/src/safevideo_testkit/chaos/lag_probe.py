"""Consumer groups as the broker knows them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.types import TopicPartition

ANSWERS_SECONDS = 30.0

Offsets = Mapping[TopicPartition, int]


class Groups:
    """What is committed, and by how many members. Raises `KafkaError`, `OSError` or `TimeoutError` while it is away."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def committed(self, group: str) -> Offsets:
        """The next offset of each partition that has one."""
        async with asyncio.timeout(ANSWERS_SECONDS):
            found = await self._admin.list_consumer_group_offsets(group)
        return {TopicPartition(*place): meta.offset for place, meta in found.items() if meta.offset >= 0}

    async def settled_members(self, group: str) -> int:
        """How many members share the partitions; 0 while they are being shared out."""
        state, members = await self._described(group)
        return members if state == "Stable" else 0

    async def members(self, group: str) -> int:
        """How many there are, those that are gone without a word among them, until their session is over."""
        return (await self._described(group))[1]

    async def _described(self, group: str) -> tuple[str, int]:
        async with asyncio.timeout(ANSWERS_SECONDS):
            (answer,) = await self._admin.describe_consumer_groups([group])
        _, _, state, _, _, members, *_ = answer.groups[0]
        return state, len(members)


@asynccontextmanager
async def asking_groups(bootstrap_servers: str) -> AsyncIterator[Groups]:
    async with open_admin(bootstrap_servers, "chaos-groups", int(ANSWERS_SECONDS * 1000)) as admin:
        yield Groups(admin)


class Tide:
    """Watches that no committed offset ever goes back. `ebbs` says which did."""

    def __init__(self, bootstrap_servers: str, *groups: str) -> None:
        self.ebbs: list[str] = []
        self.looks = 0
        self._servers = bootstrap_servers
        self._groups = groups
        self._seen: dict[tuple[str, TopicPartition], int] = {}

    async def watch(self, every_seconds: float = 0.25) -> None:
        """Until cancelled; a broker that is away is looked at again."""
        while True:
            try:
                async with asking_groups(self._servers) as groups:
                    while True:
                        await self.look(groups)
                        await asyncio.sleep(every_seconds)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(every_seconds)

    async def look(self, groups: Groups) -> None:
        for group in self._groups:
            for place, offset in (await groups.committed(group)).items():
                before = self._seen.get((group, place), 0)
                if offset < before:
                    self.ebbs.append(f"{group} {place.topic}/{place.partition}: from {before} back to {offset}")
                self._seen[group, place] = max(before, offset)
        self.looks += 1
