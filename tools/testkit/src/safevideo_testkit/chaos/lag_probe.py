"""Consumer groups from the view of the broker."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from safevideo_common.broker.kafka.admin import open_admin
from safevideo_common.broker.types import TopicPartition
from safevideo_common.clock import utc_now

ANSWER_SECONDS = 30.0
LATER_ANSWERS = 10
"""Of a partition, in the message about its decrease."""

Offsets = Mapping[TopicPartition, int]


class Groups:
    """The groups of a broker. All methods raise `KafkaError`, `OSError` or `TimeoutError` if it is unavailable."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def committed(self, group: str) -> Offsets:
        """Return the committed offset of each partition that has one."""
        return await self.committed_at(await self.coordinator(group), group)

    async def coordinator(self, group: str) -> int:
        """Return the id of the broker that coordinates the group."""
        async with asyncio.timeout(ANSWER_SECONDS):
            broker: int = await self._admin.find_coordinator(group)
            return broker

    async def committed_at(self, broker: int, group: str) -> Offsets:
        """Return what one broker knows as committed."""
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await self._admin.list_consumer_group_offsets(group, broker)
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


class _Answer(NamedTuple):
    offset: int
    broker: int
    at: datetime

    def __str__(self) -> str:
        return f"{self.offset} (broker {self.broker}, {self.at:%H:%M:%S.%f})"


class OffsetMonitor:
    """A monitor of committed offsets, which must never decrease. `decreases` lists where they did.

    `increases` counts the commits that it saw: without any, it has proven nothing. A broker that was frozen while
    another took over may answer once more as the coordinator, with what it knew: `outdated` counts its answers. It is
    told from a decrease by what comes next: the other broker answers again, with the higher offset.
    """

    def __init__(self, bootstrap_servers: str, *groups: str) -> None:
        self.increases = 0
        self.outdated = 0
        self._servers = bootstrap_servers
        self._groups = groups
        self._highest: dict[tuple[str, TopicPartition], _Answer] = {}
        self._lower: dict[tuple[str, TopicPartition], _Answer] = {}
        self._later: dict[tuple[str, TopicPartition], list[_Answer]] = {}
        """What was answered for a partition after its first lower offset, where it differs from the answer before."""
        self._decreases: list[tuple[tuple[str, TopicPartition], str]] = []

    @property
    def decreases(self) -> list[str]:
        """Return each decrease, in words, with the answers that came next."""
        found = [*self._decreases, *((key, self._words(key)) for key in self._lower)]
        return [f"{words}, then {', '.join(map(str, self._later[key])) or 'nothing else'}" for key, words in found]

    async def watch(self, poll_seconds: float = 0.25) -> None:
        """Check until cancelled, also after the broker was unavailable."""
        while True:
            try:
                async with open_groups(self._servers) as groups:
                    while True:
                        for group in self._groups:
                            broker = await groups.coordinator(group)
                            self.answered(group, broker, await groups.committed_at(broker, group))
                        await asyncio.sleep(poll_seconds)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(poll_seconds)

    def answered(self, group: str, broker: int, offsets: Offsets) -> None:
        """Take what a coordinator has answered."""
        for partition, offset in offsets.items():
            key, answer = (group, partition), _Answer(offset, broker, utc_now())
            highest = self._highest.setdefault(key, answer._replace(offset=0))
            later = self._later.get(key)
            if later is not None and len(later) < LATER_ANSWERS and (not later or later[-1][:2] != (offset, broker)):
                later.append(answer)
            if offset < highest.offset:
                self._lower.setdefault(key, answer)
                self._later.setdefault(key, [])
                if broker == highest.broker:
                    self._record(key)
                continue
            if key in self._lower:
                if broker == highest.broker:
                    self.outdated += 1
                    del self._lower[key]
                else:
                    self._record(key)
            self.increases += offset > highest.offset
            self._highest[key] = answer

    def _record(self, key: tuple[str, TopicPartition]) -> None:
        self._decreases.append((key, self._words(key)))
        del self._lower[key]

    def _words(self, key: tuple[str, TopicPartition]) -> str:
        (group, partition), highest, lower = key, self._highest[key], self._lower[key]
        position = f"{group} {partition.topic}/{partition.partition}"
        return f"{position}: from {highest} to {lower}"
