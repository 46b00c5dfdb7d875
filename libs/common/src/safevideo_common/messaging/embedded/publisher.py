"""Appends to the embedded log."""

from collections.abc import Sequence

from safevideo_common.messaging.backlog import check_size
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.reading import encode_headers
from safevideo_common.messaging.embedded.writer import Writer
from safevideo_common.messaging.embedded.writing import Append
from safevideo_common.messaging.partitioner import partition_of
from safevideo_common.messaging.port import Message, TopicPartition


class EmbeddedPublisher:
    """See `RoundPublisher`. A message that missed its deadline is written all the same, when the disk has recovered."""

    def __init__(self, catalogue: Catalogue, writer: Writer, deadlines: Deadlines) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._deadlines = deadlines

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset, once the message is fsynced."""
        check_size(message)
        partition = self._partition(message)
        written = self._writer.append([self._append(message, partition)])
        self._deadlines.watch(written)
        return partition, await written

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """A round, in one transaction."""
        for message in messages:
            check_size(message)
        if messages:
            written = self._writer.append([self._append(each, self._partition(each)) for each in messages])
            self._deadlines.watch(written)
            await written

    def _partition(self, message: Message) -> TopicPartition:
        partitions = self._catalogue.existing(message.topic)
        return partitions[partition_of(message.key, len(partitions))]

    def _append(self, message: Message, partition: TopicPartition) -> Append:
        headers = encode_headers(message.headers)
        return Append(self._catalogue.ids[partition], message.key, message.value, headers)
