"""Reads the embedded log for a consumer group."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.file import LogFile
from safevideo_common.messaging.embedded.groups import Groups, Member
from safevideo_common.messaging.embedded.reading import Span, records_of
from safevideo_common.messaging.embedded.writing import commit_offsets
from safevideo_common.messaging.port import WHOLE, Claim, Record, Share, TopicPartition, Unshared


class EmbeddedSubscription:
    """See `Subscription`."""

    def __init__(self, group: str, member: Member, groups: Groups, catalogue: Catalogue, file: LogFile) -> None:
        self._group = group
        self._member = member
        self._groups = groups
        self._catalogue = catalogue
        self._file = file
        self._positions: dict[TopicPartition, int] = {}
        self._turn = 0

    @property
    def epoch(self) -> int:
        """Always 0: a member keeps its topics until it leaves."""
        return 0

    def hold(self) -> AbstractContextManager[Claim]:
        """A claim that never ends."""
        return nullcontext(Unshared())

    async def fetch(self, *, max_records: int, timeout: float, share: Share = WHOLE) -> Sequence[Record]:
        """The next records; waits for the first of them without asking again and again."""
        try:
            async with asyncio.timeout(timeout) as limit:
                while not (spans := self._unread(share)):
                    await self._catalogue.news()
                limit.reschedule(None)
                return await self._read(spans, max_records)
        except TimeoutError:
            return ()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Done once the offsets are fsynced."""
        owned = set(self._owned())
        forward = {
            partition: offset
            for partition, offset in offsets.items()
            if partition in owned and offset > self._catalogue.committed(self._group, partition)
        }
        if forward:
            by_id = {self._catalogue.ids[partition]: offset for partition, offset in forward.items()}
            await self._file.write(lambda connection: commit_offsets(connection, self._group, by_id))
            self._catalogue.commit(self._group, forward)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """From what is known in memory."""
        ends, committed = self._catalogue.ends, self._catalogue.committed
        return {partition: ends[partition] - committed(self._group, partition) for partition in self._owned()}

    def rewind(self) -> None:
        """Forget the positions: the next fetch begins at what is committed."""
        self._positions.clear()

    def _owned(self) -> list[TopicPartition]:
        topics = self._groups.topics_of(self._group, self._member)
        return [partition for topic in topics for partition in self._catalogue.partitions_of(topic)]

    def _unread(self, share: Share) -> list[Span]:
        spans = []
        for partition in self._owned():
            if not share.has(partition.partition):
                continue
            start = max(self._positions.get(partition, 0), self._catalogue.committed(self._group, partition))
            kept = self._catalogue.kept(partition)
            if start < kept.end:
                spans.append(kept._replace(start=start))
        return spans

    async def _read(self, spans: Sequence[Span], max_records: int) -> Sequence[Record]:
        # Each fetch begins with another partition, so that a full one cannot starve the rest.
        self._turn = (self._turn + 1) % len(spans)
        turned = [*spans[self._turn :], *spans[: self._turn]]
        found = await self._file.ask(lambda connection: records_of(connection, turned, max_records))
        for record in found:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        return found
