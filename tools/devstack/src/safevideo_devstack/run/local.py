"""STACK=local: real Kafka, MariaDB (or MySQL) and Redis, one process for each service, all of them supervised."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from safevideo_common.broker.open import open_broker
from safevideo_common.errors import StartupError
from safevideo_devstack.backends import Options, Ports, Server, allocate_ports, install_programs, servers_of
from safevideo_devstack.backends.process import last_lines
from safevideo_devstack.run.config import REDIS, SIMULATOR
from safevideo_devstack.run.context import (
    SERVICES,
    BackendUrls,
    RunContext,
    command_of,
    service_environment,
    simulator_environment,
)
from safevideo_devstack.run.setup import RunningStack, prepare_broker, prepare_database, run_together
from safevideo_devstack.run.supervisor import Program, Supervisor, open_supervisor

READY_SECONDS: Final = 60.0
REQUEST_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1


@asynccontextmanager
async def local(run: RunContext) -> AsyncIterator[RunningStack]:
    """Run all of it for the block. Raises `StartupError` with what is missing, or with the last lines of what died."""
    async with open_supervisor(run.pids, run.say) as supervisor:
        servers = await asyncio.to_thread(_servers, run)
        await run_together(*(supervisor.start_server(server) for server in servers))
        backends = _urls(servers)
        await prepare_database(run, backends.database)
        async with open_broker(backends.kafka, None) as broker:
            await prepare_broker(broker)

        programs = [_simulator(run), *_services(run, backends)]  # the gateway fetches its signing keys
        for program in programs:
            supervisor.start(program)
        try:
            await run_together(*(_wait_ready(run, supervisor, program) for program in programs))
            yield RunningStack(backends, (supervisor.failed,))
        finally:
            # Before the backends, so that each can finish and commit its batch.
            await supervisor.stop([program.name for program in programs])


def _servers(run: RunContext) -> tuple[Server, ...]:
    options = Options(ports=Ports(redis=run.ports[REDIS]))
    install_programs(run.say, options.database)
    return servers_of("local", run.paths.data, replace(options, ports=allocate_ports(options)))


def _urls(servers: Sequence[Server]) -> BackendUrls:
    kafka, database, redis = (
        ",".join(server.url for server in servers if server.role == role) for role in ("broker", "database", "cache")
    )
    return BackendUrls(kafka, database, redis)


def _services(run: RunContext, backends: BackendUrls) -> list[Program]:
    return [_program(run, name, command_of(name), service_environment(run, backends, name)) for name in SERVICES]


def _simulator(run: RunContext) -> Program:
    return _program(run, SIMULATOR, command_of("sharegram-simulator"), simulator_environment(run))


def _program(run: RunContext, name: str, command: tuple[str, ...], environment: Mapping[str, str]) -> Program:
    return Program(name, command, run.paths.data / f"{name}.log", environment)


async def _wait_ready(run: RunContext, supervisor: Supervisor, program: Program) -> None:
    path = "/_sim/state" if program.name == SIMULATOR else "/readyz"
    try:
        timeout = ClientTimeout(total=REQUEST_SECONDS)
        async with asyncio.timeout(READY_SECONDS), ClientSession(timeout=timeout) as session:
            while not await _is_ready(session, run.url(program.name) + path):
                if not supervisor.is_running(program.name):
                    raise StartupError(f"{program.name} ended while starting. {last_lines(program.output)}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        seconds = f"{READY_SECONDS:.0f} seconds"
        raise StartupError(f"{program.name} is not ready after {seconds}. {last_lines(program.output)}") from None


async def _is_ready(session: ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (ClientError, TimeoutError):
        return False
