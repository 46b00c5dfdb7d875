"""The p99 of reads while ten photos of 12 megapixels are uploaded at once, beside the p99 without uploads.

Run it alone: `python tests/load/upload_bench.py`; it needs `redis-server`. The database is SQLite. Quiet and busy
phases take turns. A client in a process of its own reads a performer every 20 ms. A second gateway
reports the CPU time that its event loop used between two ticks of 1 ms, at most: it blocks no longer than that.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final

from aiohttp import ClientSession, ClientTimeout, web
from document_bench import photo
from measured import Generator, Program, free_port, generator, program, wait_until_listening
from read_bench import PATH, prepare

from gateway.app import SERVICE, build_app
from gateway.settings import GatewaySettings
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_service
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import KycClient, kyc_settings, sign_in

UPLOADS: Final = 10
SECONDS: Final = 12
ROUNDS: Final = 3
READS: Final = Path(__file__).with_name("steady_reads.py")
TICK_SECONDS: Final = 0.001
TARGET: Final = 2.0
MAX_BLOCKING_MS: Final = 10.0


def serve_measured(report: Path) -> None:
    """Run a gateway that writes the longest pass of its event loop to `report`, in CPU milliseconds."""

    async def count_ticks(_: web.Application) -> AsyncIterator[None]:
        passes: list[float] = []

        async def count() -> None:
            last = time.thread_time()
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now = time.thread_time()
                passes.append((now - last) * 1000)
                last = now

        counting = asyncio.create_task(count(), name="passes")
        yield
        counting.cancel()
        after_start = passes[len(passes) // 10 :]
        report.write_text(f"{max(after_start):.1f}")  # noqa: ASYNC240 - at the end

    def measured(settings: GatewaySettings, broker: Broker, logger: FilteringBoundLogger) -> web.Application:
        app = build_app(settings, broker, logger)
        app.cleanup_ctx.append(count_ticks)
        return app

    run_service(SERVICE, GatewaySettings, measured)


async def upload(client: KycClient, content: bytes, uploads: list[float]) -> None:
    """Upload a document again and again, and note how long each took, in ms."""
    request_id = await client.submitted()
    while True:
        began = time.perf_counter()
        answer = await client.upload(request_id, content=content)
        assert answer.status == 201, answer.body
        uploads.append((time.perf_counter() - began) * 1000)


async def measure(
    port: int, url: str, redis_url: str, headers: Mapping[str, str], name: str, rounds: int = ROUNDS
) -> tuple[list[dict[str, float]], list[dict[str, float]], list[float]]:
    """Return the latencies of reads without and with uploads, and how long the uploads took."""
    content, uploads = await asyncio.to_thread(photo), list[float]()
    quiet, busy = [], []
    async with Database.open(url) as database, ClientSession(timeout=ClientTimeout(120)) as session:
        site = Api(f"http://127.0.0.1:{port}", session)
        clients = [await sign_in(site, database, redis_url, f"sg_{name}_{each}") for each in range(UPLOADS)]
        for _ in range(rounds):
            with reader(port, headers) as running:
                quiet.append(await asyncio.to_thread(running.result))
            tasks = [asyncio.create_task(upload(each, content, uploads)) for each in clients]
            await asyncio.sleep(1)
            with reader(port, headers) as running:
                busy.append(await asyncio.to_thread(running.result))
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            names = [f"sg_{name}_{len(busy)}_{each}" for each in range(UPLOADS)]
            clients = [await sign_in(site, database, redis_url, each) for each in names]
    return quiet, busy, uploads


@contextmanager
def reader(port: int, headers: Mapping[str, str]) -> Iterator[Generator]:
    command = [sys.executable, str(READS), str(port), PATH, json.dumps(headers), str(SECONDS)]
    with generator(command, SECONDS) as running:
        yield running


@contextmanager
def gateway(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[tuple[int, Program]]:
    port = free_port()
    with program(command, {**environment, "PORT": str(port)}, log) as started:
        wait_until_listening(port)
        yield port, started


def main() -> None:
    """Print the ratio of both p99, and the longest blocking of the event loop."""
    if len(sys.argv) > 1:
        serve_measured(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url, log, redis_port = f"sqlite+aiosqlite:///{folder / 'bench.db'}", folder / "log", free_port()
        headers, redis_url = asyncio.run(prepare(url)), f"redis://127.0.0.1:{redis_port}"
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "SAFEVIDEO_ENV": "development",
            "RATE_LIMIT_GENERAL": "1000000/1",
            "REDIS_TIMEOUT_SECONDS": "2",
            **{key.upper(): str(value) for key, value in kyc_settings(folder / "documents").items()},
        }
        redis = ["redis-server", "--port", str(redis_port), "--save", "", "--dir", name]
        with program(redis, {}, folder / "redis.log"):
            wait_until_listening(redis_port)
            with gateway([sys.executable, "-m", "gateway"], environment, log) as (port, _):
                quiet, busy, uploads = asyncio.run(measure(port, url, redis_url, headers, "a"))
            report = folder / "report"
            with gateway([sys.executable, __file__, str(report)], environment, log) as (port, _):
                asyncio.run(measure(port, url, redis_url, headers, "b", 1))
            blocking = float(report.read_text())
    without, beside = (median(each["p99"] for each in found) for found in (quiet, busy))
    ratio = median(b["p99"] / q["p99"] for q, b in zip(quiet, busy, strict=True))
    sys.stdout.write(
        f"p99 of reads {without:.1f} ms, with {UPLOADS} uploads at once {beside:.1f} ms, ratio {ratio:.2f} (target: at "
        f"most {TARGET}); {len(uploads)} uploads, median {median(uploads):.0f} ms\n"
        f"longest time without a tick of the event loop: {blocking:.1f} ms of CPU (target: at most {MAX_BLOCKING_MS})\n"
    )


if __name__ == "__main__":
    main()
