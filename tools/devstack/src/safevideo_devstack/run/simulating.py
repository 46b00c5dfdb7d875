"""The simulator inside of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from pydantic import SecretStr

from safevideo_devstack.run.ports import HOST, SIMULATOR
from safevideo_devstack.run.run import Run
from sharegram_simulator.app import build_app
from sharegram_simulator.settings import SimulatorSettings

SHUTDOWN_SECONDS = 1


@asynccontextmanager
async def simulating(run: Run) -> AsyncIterator[None]:
    """Serve it for the block. Raises `OSError` when its port is taken."""
    settings = SimulatorSettings(
        host=HOST,
        port=run.ports[SIMULATOR],
        webhook_url=run.webhook_url,
        webhook_secret=SecretStr(run.secrets.made("SHAREGRAM_WEBHOOK_SECRET")),
        api_key=SecretStr(run.secrets.made("SHAREGRAM_API_KEY")),
        secret_key=SecretStr(run.secrets.made("SHAREGRAM_SECRET_KEY")),
    )
    runner = web.AppRunner(
        build_app(settings), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield
    finally:
        await runner.cleanup()
