"""Spools events in the directory named by the first argument until it is killed; prints each durable value."""

import asyncio
import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from safevideo_common.broker.port import UNKNOWN_PARTITION
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import open_spool


class UnavailableProducer:
    """A producer that always fails."""

    def partition_of(self, message: Message) -> TopicPartition:
        return TopicPartition(message.topic, UNKNOWN_PARTITION)

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        raise BrokerUnavailable("unavailable")


async def spool_events(root: Path, life: str) -> None:
    logger = build_logger("test", LogSink(None, stdout=False))
    async with open_spool(root, SpoolEvents(logger, CollectorRegistry())) as spool:
        publisher = SpoolingPublisher(UnavailableProducer(), spool, logger)
        async with asyncio.TaskGroup() as senders:
            for key in range(10):
                senders.create_task(send(publisher, life, key))


async def send(publisher: SpoolingPublisher, life: str, key: int) -> None:
    number = 0
    while True:
        value = f"{life}-{number}-{key}"
        await publisher.publish(Message("events", f"key-{key}".encode(), value.encode()))
        os.write(1, f"{value}\n".encode())
        number += 1


asyncio.run(spool_events(Path(sys.argv[1]), sys.argv[2]))
