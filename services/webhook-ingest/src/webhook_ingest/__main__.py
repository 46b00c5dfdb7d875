"""`python -m webhook_ingest`, and the command `webhook-ingest`."""

import sys
from pathlib import Path

import uvloop

from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.open import open_broker
from safevideo_common.observability.log_sink import LogSink, log_folder
from safevideo_common.observability.logs import build_logger
from safevideo_common.service import report_startup_error, run_service
from safevideo_common.settings import load_settings
from webhook_ingest.app import SERVICE, build_app, deliver_spool
from webhook_ingest.settings import IngestSettings


def main() -> None:
    """Run the service until it is told to stop, or deliver what the spool has and end: `deliver-spool`."""
    match sys.argv[1:]:
        case []:
            run_service(SERVICE, IngestSettings, build_app)
        case ["deliver-spool"]:
            run_delivery()
        case _:
            sys.exit(f"usage: {SERVICE} [deliver-spool]")


def run_delivery() -> None:
    """Deliver the spool in SPOOL_DIR. Exit with 1 and the reason if something stays there.

    It serves no requests. Kafka may be unavailable: it waits. A stop at any time loses nothing and delivers the latest
    events once more, as a restart of the service does.
    """
    with report_startup_error(SERVICE):
        left = uvloop.run(_deliver(load_settings(IngestSettings)))
    if left:
        sys.exit(f"{SERVICE}: not delivered: {', '.join(map(str, left))}; a process that lives has it, or see the log")


async def _deliver(settings: IngestSettings) -> list[Path]:
    sink = LogSink(log_folder(settings.log_dir))
    logger = build_logger(SERVICE, sink, settings.log_level)
    try:
        async with open_broker(settings.kafka_bootstrap_servers, None, KafkaSecurity.of(settings)) as broker:
            return await deliver_spool(settings, broker, logger)
    finally:
        sink.close()


if __name__ == "__main__":
    main()
