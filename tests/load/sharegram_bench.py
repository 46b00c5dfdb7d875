"""The time of a call through all layers of the client, and of the bare `aiohttp` call to the same server.

Run it alone: `python tests/load/sharegram_bench.py`. The server is a process of its own; both ways take turns.
"""

import asyncio
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from aiohttp import ClientSession, web
from measured import free_port, wait_until_listening
from prometheus_client import CollectorRegistry

from safevideo_common.clock import utc_now
from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_common.sharegram.client import CallProtections, open_sharegram
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.sharegram.settings import SharegramSettings

ROUNDS = 15
CALLS = 400
TARGET = 1.25

PERFORMER = {
    "performerId": "sg_1",
    "profile": {"username": "jane", "displayName": "Jane", "bio": "b" * 200, "verified": True},
    "status": "active",
    "version": 7,
    "updatedAt": "2026-11-24T12:00:00.000Z",
}


class NoKeys:
    """No write is measured."""

    async def reserve(self, work: str, content: bytes) -> str:
        """Never called."""
        raise NotImplementedError


async def seconds_of(call: Callable[[], Awaitable[object]]) -> float:
    """Return the time of one call, as the mean of a round."""
    started = perf_counter()
    for _ in range(CALLS):
        await call()
    return (perf_counter() - started) / CALLS


async def measure(port: int) -> None:
    """Print both times and their ratio."""
    base_url = f"http://127.0.0.1:{port}/v1"
    settings = SharegramSettings.model_validate(
        {"sharegram_api_url": base_url, "sharegram_api_key": "k" * 32, "sharegram_secret_key": "s" * 32}
    )
    with TemporaryDirectory() as folder:
        sink = LogSink(Path(folder), stdout=False)
        logger = build_logger("bench", sink)
        async with (
            ClientSession() as session,
            open_sharegram(settings, CallProtections(), NoKeys(), CollectorRegistry(), logger, utc_now) as sharegram,
        ):

            async def bare() -> object:
                async with session.get(f"{base_url}/performers/sg_1") as response:
                    return await response.json()

            async def layered() -> object:
                return await sharegram.performer(SharegramCaller.job("req-1"), "sg_1")

            await seconds_of(bare)
            await seconds_of(layered)
            rounds = [(await seconds_of(bare), await seconds_of(layered)) for _ in range(ROUNDS)]
        sink.close()
    plain, ours = (statistics.median(column) * 1e6 for column in zip(*rounds, strict=True))
    ratio = statistics.median(b / a for a, b in rounds)
    print(f"bare aiohttp {plain:.0f} µs, all layers {ours:.0f} µs, ratio {ratio:.2f} (target: at most {TARGET})")


def serve(port: int) -> None:
    """Serve one performer."""

    async def performer(_: web.Request) -> web.Response:
        return web.json_response(PERFORMER)

    app = web.Application()
    app.router.add_get("/v1/performers/sg_1", performer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def main() -> None:
    """Start the server, measure, stop it."""
    if len(sys.argv) > 1:
        serve(int(sys.argv[1]))
        return
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, str(port)])
    try:
        wait_until_listening(port)
        asyncio.run(measure(port))
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
