"""Publishing to Kafka, through the spool while Kafka is unavailable.

`SpoolingPublisher` is the producer of the requests. `SpoolDrainer` is the task that empties the spool into Kafka.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from safevideo_common.broker.port import ACKNOWLEDGED_WITHIN_SECONDS, PartitionedProducer
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import background_task
from webhook_ingest.publishing.spool_drainer import Probe, SpoolDrainer
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import MAX_BYTES, open_spool

DRAIN_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """The place of the spool, its maximum size, and the timeouts of Kafka and of the last drain."""

    directory: Path
    max_bytes: int = MAX_BYTES
    drain_seconds: float = DRAIN_SECONDS
    produce_timeout_seconds: float = ACKNOWLEDGED_WITHIN_SECONDS
    """The timeout of the producer; see `EARLIER_SECONDS`."""


@asynccontextmanager
async def open_publisher(
    app: web.Application, producer: PartitionedProducer, probe: Probe, options: SpoolOptions,
    logger: FilteringBoundLogger, observer: SpoolEvents,
) -> AsyncIterator[SpoolingPublisher]:  # fmt: skip
    """Open the spool and run its drainer as a task of `app`. At the end, drain for `options.drain_seconds`.

    Opening never fails; see `open_spool`. Close it before `producer`.
    """
    async with (
        open_drainer(producer, probe, options, logger, observer) as (publisher, drainer),
        background_task(app, "spool", drainer.run),
    ):
        yield publisher


@asynccontextmanager
async def open_drainer(
    producer: PartitionedProducer, probe: Probe, options: SpoolOptions,
    logger: FilteringBoundLogger, observer: SpoolEvents,
) -> AsyncIterator[tuple[SpoolingPublisher, SpoolDrainer]]:  # fmt: skip
    """Open the spool with its drainer, which the caller runs and ends. At the end, drain as `open_publisher` does."""
    async with open_spool(options.directory, observer, options.max_bytes) as spool:
        publisher = SpoolingPublisher(producer, spool, logger, options.produce_timeout_seconds)
        drainer = SpoolDrainer(publisher, producer, spool, probe, logger, options.produce_timeout_seconds)
        observer.watch(publisher.depth)
        try:
            yield publisher, drainer
        finally:
            publisher.close()
            await drainer.finish(options.drain_seconds)
