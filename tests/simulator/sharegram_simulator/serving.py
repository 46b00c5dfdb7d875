"""The simulator on its port. The port is taken first: tokens and discovery name it, also when it is any free one."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from sharegram_simulator.app import FAULTS, build_app
from sharegram_simulator.certificates import Issuer, new_issuer, server_context
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.web.faults import Fault

SHUTDOWN_SECONDS: Final = 1.0
"""For open calls at the end. Those that hang on purpose are released at once."""


@contextmanager
def bound(settings: SimulatorSettings) -> Iterator[tuple[socket.socket, SimulatorSettings]]:
    """Take the port; give the socket, and the settings with the real port. Raises `OSError` when it is taken."""
    with socket.create_server((settings.host, settings.port)) as listening:
        yield listening, settings.model_copy(update={"port": listening.getsockname()[1]})


def tls_of(settings: SimulatorSettings, issuer: Issuer | None = None) -> ssl.SSLContext | None:
    """The TLS settings, or None for plain HTTP. The CA that a client has to trust is written to `tls_ca_file`."""
    if settings.tls is None:
        return None
    issuer = issuer or new_issuer()
    if settings.tls_ca_file is not None:
        settings.tls_ca_file.write_bytes(issuer.pem)
    return server_context(settings.tls, issuer)


@asynccontextmanager
async def serving(settings: SimulatorSettings, log: FilteringBoundLogger | None = None) -> AsyncIterator[str]:
    """A simulator in this event loop until the end of the block; gives its base URL. Raises `OSError`."""
    with bound(settings) as (listening, known):
        app = build_app(known, log)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        tls = tls_of(known)
        await runner.setup()
        site: web.BaseSite = web.SockSite(runner, listening, ssl_context=tls)
        pauses: set[asyncio.Task[None]] = set()

        async def pause(seconds: float) -> None:
            nonlocal site
            await site.stop()
            await asyncio.sleep(seconds)
            site = web.TCPSite(runner, known.host, known.port, ssl_context=tls, reuse_address=True)
            await site.start()
            app[FAULTS].set(Fault())

        def refuse(seconds: float) -> None:
            task = asyncio.get_running_loop().create_task(pause(seconds), name="simulator-refuses")
            pauses.add(task)
            task.add_done_callback(pauses.discard)

        app[FAULTS].refuse = refuse
        try:
            await site.start()
            yield f"{'http' if tls is None else 'https'}://{known.host}:{known.port}"
        finally:
            for task in pauses:
                task.cancel()
            await asyncio.gather(*pauses, return_exceptions=True)
            await runner.cleanup()
