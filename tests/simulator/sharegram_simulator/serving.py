"""The simulator on its port. The port is taken first: tokens and discovery name it, also when it is any free one."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from sharegram_simulator.app import build_app
from sharegram_simulator.settings import SimulatorSettings

SHUTDOWN_SECONDS: Final = 1.0
"""For open calls at the end. Those that hang on purpose are released at once."""


@contextmanager
def bound(settings: SimulatorSettings) -> Iterator[tuple[socket.socket, SimulatorSettings]]:
    """Take the port; give the socket, and the settings with the real port. Raises `OSError` when it is taken."""
    with socket.create_server((settings.host, settings.port)) as listening:
        yield listening, settings.model_copy(update={"port": listening.getsockname()[1]})


@asynccontextmanager
async def serving(settings: SimulatorSettings, log: FilteringBoundLogger | None = None) -> AsyncIterator[str]:
    """A simulator in this event loop until the end of the block; gives its base URL. Raises `OSError`."""
    with bound(settings) as (listening, known):
        runner = web.AppRunner(build_app(known, log), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
            yield f"http://{known.host}:{known.port}"
        finally:
            await runner.cleanup()
