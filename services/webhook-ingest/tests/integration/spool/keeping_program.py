"""Keeps events in the spool named by the first argument until it is killed; says each number that is safe."""

import asyncio
import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolMetrics
from webhook_ingest.spool.spool import open_spool


class Away:
    """A log that is away for good."""

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        raise BrokerUnavailable("away")

    async def probe(self) -> None:
        raise BrokerUnavailable("away")


async def keep(root: Path, life: str) -> None:
    log = build_logger("test", LogSink(None, stdout=False))
    away = Away()
    async with open_spool(root, log, SpoolMetrics(CollectorRegistry())) as spool:
        keeping = SpoolingPublisher(away, spool, away.probe, log)
        async with asyncio.TaskGroup() as senders:
            for key in range(10):
                senders.create_task(send(keeping, life, key))


async def send(keeping: SpoolingPublisher, life: str, key: int) -> None:
    number = 0
    while True:
        value = f"{life}-{number}-{key}"
        await keeping.publish(Message("events", f"key-{key}".encode(), value.encode()))
        os.write(1, f"{value}\n".encode())
        number += 1


asyncio.run(keep(Path(sys.argv[1]), sys.argv[2]))
