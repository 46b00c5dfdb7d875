"""How a process starts, lives and ends; and how a background task is owned."""

import asyncio
import gc
import resource
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.errors import ServiceUnavailable, StartupError
from safevideo_common.observability.logs import (
    FilteringBoundLogger,
    LogSink,
    build_logger,
    capture_stdlib,
    log_folder,
)
from safevideo_common.observability.memory import MemoryMonitor, MemoryOverLimit
from safevideo_common.settings import CommonSettings, Settings, load_settings
from safevideo_common.tasks import cancel_and_wait
from safevideo_common.web.drain import DRAIN
from safevideo_common.web.server import serving

AppFactory = Callable[[Settings, Broker, FilteringBoundLogger], web.Application]

FAILED: Final[web.AppKey["asyncio.Future[None]"]] = web.AppKey("failed")
"""Done, with the error, once a background task of the app has died. Whoever serves the app ends the process then."""


def run_service(service: str, settings_type: type[Settings], build_app: AppFactory[Settings]) -> None:
    """Run one service's process from start to stop: `main()` of its `__main__.py`."""
    with report_startup_error(service):
        settings = load_settings(settings_type)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until there is a handler; by default it would end the process
        _relax_collector()
        _allow_descriptors()
        uvloop.run(_serve(service, settings, build_app))


@contextmanager
def report_startup_error(service: str) -> Iterator[None]:
    """Exit with 1 and the reason on stderr when a process must not start as configured, or when a part of it died."""
    try:
        yield
    except (StartupError, ServiceUnavailable, OSError) as error:
        sys.exit(f"{service}: {error}")
    except (BackgroundTaskDied, MemoryOverLimit) as error:
        sys.exit(f"{service}: {error}; see its log")


def _relax_collector() -> None:
    """Collect cycles less often: nearly all objects of a request die without, and by default it costs a tenth of it.

    What is there at the start stays for good, so it is not looked through again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _allow_descriptors() -> None:
    """As many as the system grants: by default a process may have 1,024 connections and files, less than we serve."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(service: str, settings: Settings, build_app: AppFactory[Settings]) -> None:
    folder = log_folder(settings.log_dir)
    sink = LogSink(folder)
    log = build_logger(service, sink, settings.log_level)
    capture_stdlib(log)
    watch = MemoryMonitor(service, folder or Path(tempfile.gettempdir()), settings.memory_limit_mb << 20, log)
    try:
        async with open_broker(settings.kafka_bootstrap_servers, None) as broker, _watching(watch) as too_much:
            app = build_app(settings, broker, log)
            async with run_until_failure(app, settings) as (port, failed):
                log.info("Service started", port=port)
                await _until_ended(failed, too_much, _stop_signal(sink, watch))
                log.info("Service stopping")
                await _drain(app, failed, settings.drain_seconds)
        if not too_much.cancelled():
            too_much.result()  # raises, now that all is in order
    finally:
        sink.close()


@asynccontextmanager
async def _watching(watch: MemoryMonitor) -> AsyncIterator["asyncio.Task[None]"]:
    """The task that minds the memory; it has ended when there is too much."""
    task = asyncio.create_task(watch.run(), name="memory-watch")
    try:
        yield task
    finally:
        await cancel_and_wait(task)


async def _drain(app: web.Application, failed: "asyncio.Future[None]", seconds: float) -> None:
    """Say at `/readyz` that this process goes, and serve on until whoever asks there has seen it."""
    if DRAIN in app:
        app[DRAIN].begin()
    if seconds:
        await asyncio.wait([failed], timeout=seconds)


@asynccontextmanager
async def run_until_failure(
    app: web.Application, settings: CommonSettings
) -> AsyncIterator[tuple[int, "asyncio.Future[None]"]]:
    """Serve `app`; give its port, and the future that says when one of its background tasks has died."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    app[FAILED] = failed
    async with serving(app, settings.host, settings.port, shutdown_seconds=settings.shutdown_seconds) as port:
        yield port, failed
    failed.cancel()


@asynccontextmanager
async def background_task(
    app: web.Application, name: str, work: Coroutine[object, object, None]
) -> AsyncIterator[None]:
    """Run `work` beside `app` as the task `name`; cancel it on leaving. If it ends before that, the app fails."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(lambda done: _report_death(app, done))
    try:
        yield
    finally:
        await cancel_and_wait(task)


class BackgroundTaskDied(Exception):
    """A task that must run as long as its app has ended. The message names the task and the kind of its error."""


def _report_death(app: web.Application, task: "asyncio.Task[None]") -> None:
    if task.cancelled() or app[FAILED].done():
        return
    cause = task.exception()
    died = BackgroundTaskDied(f"background task {task.get_name()} ended: {type(cause).__name__ if cause else 'early'}")
    died.__cause__ = cause
    app[FAILED].set_exception(died)


def _stop_signal(sink: LogSink, watch: MemoryMonitor) -> "asyncio.Future[None]":
    """Done on SIGTERM or SIGINT. SIGHUP reopens the log files, SIGUSR2 has a memory report written."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _finish, stop)
    loop.add_signal_handler(signal.SIGHUP, sink.reopen)
    loop.add_signal_handler(signal.SIGUSR2, watch.ask)
    return stop


def _finish(stop: "asyncio.Future[None]") -> None:
    if not stop.done():
        stop.set_result(None)


async def _until_ended(failed: "asyncio.Future[None]", *others: "asyncio.Future[None]") -> None:
    """Return when any of `others` is done. Raises what `failed` holds."""
    await asyncio.wait((failed, *others), return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        failed.result()
