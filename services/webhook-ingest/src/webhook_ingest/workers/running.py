"""From the settings to one process or several."""

import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import web

from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger, LogSink, build_logger, log_folder
from safevideo_common.service import background_task, report_startup_error, run_from_env
from safevideo_common.settings import CommonSettings
from webhook_ingest.workers.heartbeats import HUNG_SECONDS, Heartbeats
from webhook_ingest.workers.parent import Parent
from webhook_ingest.workers.port import reserved_port
from webhook_ingest.workers.worker import Worker

STOP_MARGIN_SECONDS: Final = 5.0
"""Beyond what a worker may take to stop: for its start-up to be broken off, and its log to be written."""

Configured = TypeVar("Configured", bound=CommonSettings)
Build = Callable[[Configured, Broker, FilteringBoundLogger, Worker | None], web.Application]


def run_workers(
    service: str, settings: Configured, count: int, build: Build[Configured], hung_seconds: float = HUNG_SECONDS
) -> None:
    """Run `count` processes on the port of `settings` until told to stop; for one there is no parent at all.

    `build` gets the worker, or None when it is the only one. One whose event loop stands still for `hung_seconds` is
    killed and started again. Raises what `report_startup_error` turns into an exit.
    """
    if count == 1:
        run_from_env(service, settings, lambda known, event_log, log: build(known, event_log, log, None))
        return
    sink = LogSink(log_folder(settings.log_dir))
    log = build_logger(service, sink, settings.log_level)
    with (
        reserved_port(settings.host, settings.port) as port,
        tempfile.TemporaryDirectory(prefix="safevideo-workers-") as folder,
    ):
        known = settings.model_copy(update={"port": port})
        heartbeats = Heartbeats(count, hung_seconds)

        def run(number: int) -> None:
            sink.close()
            worker = Worker(number, count, Path(folder))

            def alive(known: Configured, event_log: Broker, log: FilteringBoundLogger) -> web.Application:
                app = build(known, event_log, log, worker)
                # Before all else, so that it beats through a start and an end that take their time.
                app.cleanup_ctx.insert(0, lambda app: _beating(app, heartbeats, number))
                return app

            with report_startup_error(f"{service} {number}"):
                run_from_env(service, known, alive)

        stop_seconds = settings.drain_seconds + settings.shutdown_seconds + STOP_MARGIN_SECONDS
        log.info("Workers starting", workers=count, port=port)
        if not Parent(count, run, heartbeats, stop_seconds=stop_seconds, log=log).run_until_told(sink.reopen):
            sys.exit(f"{service}: workers did not stop within {stop_seconds:g} s and were killed")
        log.info("Workers stopped")


async def _beating(app: web.Application, heartbeats: Heartbeats, number: int) -> AsyncIterator[None]:
    async with background_task(app, "heartbeat", heartbeats.keep_beating(number)):
        yield
