"""An authenticated read of the gateway beside a bare aiohttp server that answers the same bytes, under the same load.

Run it alone: `python tests/load/read_bench.py`; it needs `wrk` and `redis-server`. The database is SQLite, and the
performer is in the cache. Every request verifies its API key, counts for its rate limit and is logged.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Final
from urllib.request import Request, urlopen

import uvloop
from aiohttp import web
from measured import Program, free_port, program, wait_until_listening

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.domain.performers import DEFAULTS, Performer

SECONDS: Final = 4
ROUNDS: Final = 3
CONNECTIONS: Final = 32
TARGET: Final = 0.5
PATH: Final = "/api/v1/performers/1"


async def prepare(url: str) -> dict[str, str]:
    """Migrate the database and store a performer. Return the headers of a key."""
    await migrate(url)
    now = datetime.now(UTC)
    async with Database.open(url) as database, database.transaction() as tx:
        fields = {**DEFAULTS, "username": "jane", "display_name": "Jane", "bio": "b" * 200}
        await performers.insert_new(tx, [Performer("sg_1", fields, {})], now)
        secret = await api_keys.create(tx, "bench", Role.ADMIN, now, now + timedelta(days=1))
    return {"X-API-Client": "bench", "X-API-Key": secret}


def serve_bare(port: int, body: str) -> None:
    """Answer `body` to every request, and do nothing else."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get(PATH, answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


def load(port: int, headers: dict[str, str], server: Program) -> tuple[float, float]:
    """Return requests a second, and CPU microseconds of the server a request."""
    shown = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *shown, f"http://127.0.0.1:{port}{PATH}"]
    before = server.cpu_seconds()
    said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 30, check=True).stdout
    assert "Non-2xx" not in said, said
    rate = float(said.split("Requests/sec:")[1].split()[0])
    return rate, (server.cpu_seconds() - before) / (rate * SECONDS) * 1e6


@contextmanager
def running(command: list[str], environment: dict[str, str], port: int, log: Path) -> Iterator[Program]:
    with program(command, environment, log) as started:
        wait_until_listening(port)
        yield started


def main() -> None:
    """Measure both servers in turn and print the ratio."""
    if len(sys.argv) > 1:
        serve_bare(int(sys.argv[1]), sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url, log = f"sqlite+aiosqlite:///{folder / 'bench.db'}", folder / "log"
        headers = asyncio.run(prepare(url))
        redis_port, port, bare_port = free_port(), free_port(), free_port()
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "PORT": str(port),
            "SAFEVIDEO_ENV": "development",
            "RATE_LIMIT_GENERAL": "1000000/1",
        }
        redis = ["redis-server", "--port", str(redis_port), "--save", "", "--dir", name]
        with (
            running(redis, {}, redis_port, folder / "redis.log"),
            running([sys.executable, "-m", "gateway"], environment, port, log) as gateway,
        ):
            body = urlopen(Request(f"http://127.0.0.1:{port}{PATH}", headers=headers)).read().decode()
            bare_command = [sys.executable, __file__, str(bare_port), body]
            with running(bare_command, {}, bare_port, folder / "bare.log") as bare:
                load(port, headers, gateway)
                rounds = [(load(bare_port, headers, bare), load(port, headers, gateway)) for _ in range(ROUNDS)]
    bare_rate, bare_cpu = (median(each[0][index] for each in rounds) for index in range(2))
    rate, cpu = (median(each[1][index] for each in rounds) for index in range(2))
    print(f"bare {bare_rate:,.0f} req/s, {bare_cpu:.0f} µs CPU; authenticated read {rate:,.0f} req/s, {cpu:.0f} µs CPU")
    print(f"ratio {rate / bare_rate:.2f} of requests, {bare_cpu / cpu:.2f} of CPU (target: at least {TARGET})")


if __name__ == "__main__":
    main()
