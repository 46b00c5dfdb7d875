"""Appends to the embedded log."""

from safevideo_common.messaging.backlog import check_size
from safevideo_common.messaging.deadlines import Deadlines
from safevideo_common.messaging.embedded.catalogue import Catalogue
from safevideo_common.messaging.embedded.reading import encode_headers
from safevideo_common.messaging.embedded.writer import Writer
from safevideo_common.messaging.embedded.writing import Append
from safevideo_common.messaging.partitioner import partition_of
from safevideo_common.messaging.port import Message, TopicPartition


class EmbeddedPublisher:
    """See `Publisher`. A message that missed its deadline is written all the same, when the disk has recovered."""

    def __init__(self, catalogue: Catalogue, writer: Writer, deadlines: Deadlines) -> None:
        self._catalogue = catalogue
        self._writer = writer
        self._deadlines = deadlines

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset, once the message is fsynced."""
        check_size(message)
        partitions = self._catalogue.existing(message.topic)
        partition = partitions[partition_of(message.key, len(partitions))]
        written = self._writer.append(
            Append(self._catalogue.ids[partition], message.key, message.value, encode_headers(message.headers))
        )
        self._deadlines.watch(written)
        return partition, await written
