"""`webhook-ingest deliver-spool`: deliver the spool of a process that does not come back, and end.

It serves no requests. Kafka may be unavailable: it waits. A stop at any time loses nothing and delivers the latest
events once more, as a restart of the service does.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry

from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.observability.log_sink import LogSink, log_folder
from safevideo_common.observability.logs import FilteringBoundLogger, build_logger
from safevideo_common.service import report_startup_error
from safevideo_common.settings import load_settings
from safevideo_common.tasks import running_task
from webhook_ingest.app import SERVICE, open_spool_reporter
from webhook_ingest.publishing.spool_drainer import SpoolDrainer
from webhook_ingest.publishing.spooling_publisher import SpoolingPublisher
from webhook_ingest.settings import IngestSettings
from webhook_ingest.spool.directory import list_directories
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import open_spool

POLL_SECONDS: Final = 0.2


def run() -> None:
    """Deliver the spool in SPOOL_DIR. Exit with 1 and the reason if something stays there."""
    with report_startup_error(SERVICE):
        left = uvloop.run(_run(load_settings(IngestSettings)))
    if left:
        sys.exit(f"{SERVICE}: not delivered: {', '.join(map(str, left))}; a process that lives has it, or see the log")


async def _run(settings: IngestSettings) -> list[Path]:
    sink = LogSink(log_folder(settings.log_dir))
    logger = build_logger(SERVICE, sink, settings.log_level)
    try:
        async with open_broker(settings.kafka_bootstrap_servers, None, KafkaSecurity.of(settings)) as broker:
            return await deliver_spool(settings, broker, logger)
    finally:
        sink.close()


async def deliver_spool(settings: IngestSettings, broker: Broker, logger: FilteringBoundLogger) -> list[Path]:
    """Deliver all events of dead processes in SPOOL_DIR. Return the directories that it could not empty.

    Those are in use by a process that lives, or unreadable. Events that Kafka never takes are in `corrupt/` afterwards.
    """
    observer, timeout = SpoolEvents(logger, CollectorRegistry()), settings.produce_timeout_seconds
    async with (
        open_spool_reporter(settings, logger) as reporter,
        broker.producer(SERVICE, acknowledged_within=timeout) as producer,
        open_spool(settings.spool_dir, observer, settings.spool_max_bytes) as spool,
    ):
        logger.info("Spool delivery started", events=spool.events)
        publisher = SpoolingPublisher(producer, spool, logger, timeout)
        drainer = SpoolDrainer(publisher, producer, spool, broker.probe, logger, timeout)
        try:
            async with (
                running_task(drainer.run(), "spool") as draining,
                running_task(reporter.run(publisher.depth), "spool-report"),
            ):
                while spool.events and not draining.done():
                    await asyncio.wait([draining], timeout=POLL_SECONDS)
                if draining.done():
                    draining.result()
        finally:
            publisher.close()
            await drainer.finish(0)
    left = await asyncio.to_thread(list_directories, settings.spool_dir)
    logger.info("Spool delivery ended", directories=len(left))
    return left
