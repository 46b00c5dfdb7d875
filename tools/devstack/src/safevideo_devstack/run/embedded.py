"""STACK=embedded: one process hosts the four services and the simulator; the broker and the database are files."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final, TypeVar

from gateway.app import build_app as gateway
from gateway.settings import GatewaySettings
from kyc_worker.app import build_app as kyc_worker
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger, LogSink, build_logger, capture_stdlib
from safevideo_common.service import AppFactory, run_until_failure
from safevideo_common.settings import CommonSettings
from safevideo_devstack.backends import Options, Ports, servers_of
from safevideo_devstack.run.config import REDIS
from safevideo_devstack.run.context import SERVICES, BackendUrls, RunContext, service_environment
from safevideo_devstack.run.setup import RunningStack, prepare_broker, prepare_database, serve_simulator
from safevideo_devstack.run.signals import reopen_on_hangup
from safevideo_devstack.run.supervisor import Supervisor, open_supervisor
from sync_worker.app import build_app as sync_worker
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.app import build_app as webhook_ingest
from webhook_ingest.settings import IngestSettings

Settings = TypeVar("Settings", bound=CommonSettings)
Served = AbstractAsyncContextManager[tuple[int, "asyncio.Future[None]"]]
Serve = Callable[[Mapping[str, str], Broker, FilteringBoundLogger], Served]


def _hosted(settings_type: type[Settings], build_app: AppFactory[Settings]) -> Serve:
    def serve(environment: Mapping[str, str], broker: Broker, logger: FilteringBoundLogger) -> Served:
        settings = settings_type.model_validate({name.lower(): value for name, value in environment.items()})
        return run_until_failure(build_app(settings, broker, logger), settings)

    return serve


HOSTED: Final[Mapping[str, Serve]] = {
    "gateway": _hosted(GatewaySettings, gateway),
    "kyc-worker": _hosted(KycWorkerSettings, kyc_worker),
    "sync-worker": _hosted(SyncWorkerSettings, sync_worker),
    "webhook-ingest": _hosted(IngestSettings, webhook_ingest),
}
"""The servers of each service in this process; a new service gets a line here and in `context.SERVICES`."""


@asynccontextmanager
async def embedded(run: RunContext) -> AsyncIterator[RunningStack]:
    """Run all of it in this process for the block. Raises `StartupError`, or `OSError` for a taken port."""
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(open_supervisor(run.pids, run.say))
        redis = await _valkey(supervisor, run)
        backends = BackendUrls("", f"sqlite+aiosqlite:///{run.paths.data / 'safevideo.db'}", redis)
        sink = stack.enter_context(_logging(run))
        broker = await stack.enter_async_context(open_broker("", run.paths.data / "log"))
        await prepare_database(run, backends.database)
        await prepare_broker(broker)

        await stack.enter_async_context(serve_simulator(run))  # first: the gateway fetches its signing keys
        failures = [supervisor.failed]
        for name in SERVICES:
            settings = service_environment(run, backends, name)
            serve = HOSTED[name](settings, broker, build_logger(name, sink))
            _port, failed = await stack.enter_async_context(serve)
            failures.append(failed)
        yield RunningStack(backends, tuple(failures))


async def _valkey(supervisor: Supervisor, run: RunContext) -> str:
    (server,) = servers_of("embedded", run.paths.data, Options(ports=Ports(redis=run.ports[REDIS])))
    await supervisor.start_server(server)
    return server.url


@contextmanager
def _logging(run: RunContext) -> Iterator[LogSink]:
    """Log to text files only: the terminal belongs to the event feed."""
    sink = LogSink(run.paths.logs, stdout=False)
    capture_stdlib(build_logger("host", sink))
    reopen_on_hangup(sink)
    try:
        yield sink
    finally:
        sink.close()
