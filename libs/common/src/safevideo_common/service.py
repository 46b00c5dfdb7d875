"""The life of a service's process: start, serve, drain, stop.

SIGTERM and SIGINT stop the process in order. SIGHUP reopens the log files, SIGUSR2 writes a memory report. The process
exits with 1 if it must not start as configured, if a background task fails however often it is started again, or if it
needs too much memory.
"""

import asyncio
import gc
import resource
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.errors import ServiceUnavailable, StartupError
from safevideo_common.observability.log_sink import LogSink, log_folder
from safevideo_common.observability.logs import FilteringBoundLogger, build_logger, capture_stdlib
from safevideo_common.observability.memory import MemoryMonitor, MemoryOverLimit
from safevideo_common.settings import CommonSettings, Settings, load_settings
from safevideo_common.supervisor import BackgroundTaskDied, Work, frames_of
from safevideo_common.tasks import running_task
from safevideo_common.web.app import SUPERVISOR
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.server import serving

AppFactory = Callable[[Settings, Broker, FilteringBoundLogger], web.Application]

FAILED: Final[web.AppKey["asyncio.Future[None]"]] = web.AppKey("failed")
"""Has the error once the supervisor has given up a background task of the app. The process stops then."""


def run_service(service: str, settings_type: type[Settings], build_app: AppFactory[Settings]) -> None:
    """Run one service's process from start to stop: `main()` of its `__main__.py`."""
    with report_startup_error(service):
        run_from_env(service, load_settings(settings_type), build_app)


@contextmanager
def report_startup_error(service: str) -> Iterator[None]:
    """Exit with 1 and the reason on stderr if the process cannot start as configured, or if a part of it failed."""
    try:
        yield
    except (StartupError, ServiceUnavailable, OSError) as error:
        sys.exit(f"{service}: {error}")
    except (BackgroundTaskDied, MemoryOverLimit) as error:
        sys.exit(f"{service}: {error}; see its log")


def run_from_env(service: str, settings: Settings, build_app: AppFactory[Settings]) -> None:
    """Run the process with settings that were loaded. Raises what `report_startup_error` turns into an exit."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until there is a handler; by default it would end the process
    _relax_collector()
    _raise_descriptor_limit()
    uvloop.run(_serve(service, settings, build_app))


def _relax_collector() -> None:
    """Collect cycles less often, since nearly all objects of a request are freed without. The default costs a tenth.

    The collector skips all objects that exist at the start.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system grants: the default of 1,024 is less than the connections we serve."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


async def _serve(service: str, settings: Settings, build_app: AppFactory[Settings]) -> None:
    folder = log_folder(settings.log_dir)
    sink = LogSink(folder)
    logger = build_logger(service, sink, settings.log_level)
    capture_stdlib(logger)
    memory = MemoryMonitor(service, folder or Path(tempfile.gettempdir()), settings.memory_limit_mb << 20, logger)
    try:
        async with (
            open_broker(settings.kafka_bootstrap_servers, None, KafkaSecurity.of(settings)) as broker,
            running_task(memory.run(), "memory-monitor") as over_limit,
        ):
            app = build_app(settings, broker, logger)
            async with run_until_failure(app, settings) as (port, failed):
                logger.info("Service started", port=port)
                stop = _handle_signals(sink, memory)
                await asyncio.wait((failed, over_limit, stop), return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    log_failure(logger, failed)
                    failed.result()
                logger.info("Service stopping")
                await _drain(app, failed, settings.readiness_drain_seconds)
        if not over_limit.cancelled():
            over_limit.result()  # raises, after the stop in order
    finally:
        sink.close()


def log_failure(logger: FilteringBoundLogger, failed: "asyncio.Future[None]") -> None:
    """Log where a background task has failed, without the text of the error: it may quote what a user sent."""
    error = failed.exception()
    cause = error.__cause__ if error and error.__cause__ else error
    logger.error("Service fails", code="BACKGROUND_TASK_DIED", reason=str(error), frames=frames_of(cause))


@asynccontextmanager
async def run_until_failure(
    app: web.Application, settings: CommonSettings
) -> AsyncIterator[tuple[int, "asyncio.Future[None]"]]:
    """Serve `app`. Yield its port, and a future that fails when the supervisor gives a background task up."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app[FAILED] = failed
    async with serving(app, settings.host, settings.port, shutdown_seconds=settings.shutdown_seconds) as port:
        yield port, failed
    failed.cancel()


def _handle_signals(sink: LogSink, memory: MemoryMonitor) -> "asyncio.Future[None]":
    """Install the signal handlers. Return a future that is done on SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _finish, stop)
    loop.add_signal_handler(signal.SIGHUP, sink.reopen)
    loop.add_signal_handler(signal.SIGUSR2, memory.report_requested.set)
    return stop


def _finish(stop: "asyncio.Future[None]") -> None:
    if not stop.done():
        stop.set_result(None)


async def _drain(app: web.Application, failed: "asyncio.Future[None]", seconds: float) -> None:
    """Fail `/readyz` and continue to serve until the load balancer has noticed."""
    if DRAIN in app:
        app[DRAIN].start()
    if seconds:
        await asyncio.wait([failed], timeout=seconds)


@asynccontextmanager
async def background_task(app: web.Application, name: str, work: Work) -> AsyncIterator[None]:
    """Run `work` beside a `base_app` as the task `name`, under its supervisor, and cancel it at the end.

    The app fails once the supervisor gives it up. Every task that should run as long as its process begins here.
    """
    async with running_task(app[SUPERVISOR].supervise(name, work), f"{name}-supervisor") as task:
        task.add_done_callback(partial(_report_death, app))
        yield


def _report_death(app: web.Application, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and not app[FAILED].done():
        app[FAILED].set_exception(task.exception() or BackgroundTaskDied(f"{task.get_name()} ended"))
