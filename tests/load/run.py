"""`make bench`: brings up real backends, measures, prints ratios to the limit of the same run."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from inbox_bench import measure_inbox
from ingest_bench import measure_ingest
from latency_bench import PER_SECOND, measure_latency
from payloads import Keys
from rich.console import Console
from rich.table import Table
from worker_bench import LIMIT, ROW_BY_ROW, measure_worker

from safevideo_common.messaging.factory import open_log
from safevideo_common.messaging.topics import all_topics
from safevideo_common.testing.backends import Options, running

CONSOLE = Console()
PARTS = ("ingest", "worker", "inbox", "latency")


def main() -> None:
    options = _options()
    if options.what in ("all", "ingest") and shutil.which("wrk") is None:
        sys.exit("wrk makes the load and is not here. On Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="safevideo-bench-") as name:
        folder = Path(name)
        with running("local", folder=folder / "backends", options=Options(fast_start=False), say=print) as backends:
            environment = backends.environment() | {"SAFEVIDEO_ENV": "development"}
            asyncio.run(_create_topics(environment["KAFKA_BOOTSTRAP_SERVERS"]))
            if options.what in ("all", "ingest"):
                _ingest(environment, folder, options)
            if options.what in ("all", "worker"):
                _worker(environment, folder, options)
            if options.what in ("all", "inbox"):
                _inbox(environment, folder, options)
            if options.what in ("all", "latency"):
                _latency(environment, folder, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", *PARTS), default="all")
    parser.add_argument("--seconds", type=int, default=10, help="of load on each server in each round")
    parser.add_argument("--events", type=int, default=50_000, help="read by each consumer in each round")
    parser.add_argument("--keys", type=int, default=1000, help="performers that a worker's events are of")
    parser.add_argument("--hot", action="store_true", help="one event in ten is of the same performer")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are the medians of them")
    return parser.parse_args()


async def _create_topics(bootstrap_servers: str) -> None:
    async with open_log(bootstrap_servers, None) as log:
        await log.create_topics(all_topics())


def _ingest(environment: dict[str, str], folder: Path, options: argparse.Namespace) -> None:
    figures = measure_ingest(environment, folder, options.seconds, options.rounds)
    bare = figures["bare aiohttp"]
    table = Table("server", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "to bare", "not 200", title="ingest")
    for name, each in figures.items():
        latencies = (f"{each.p50:.1f}", f"{each.p99:.1f}", f"{each.cpu_micros:.0f}")
        ratio = f"{each.per_second / bare.per_second:.2f}"
        table.add_row(name, f"{each.per_second:,.0f}", *latencies, ratio, str(each.not_taken))
    CONSOLE.print(table)


def _worker(environment: dict[str, str], folder: Path, options: argparse.Namespace) -> None:
    keys = Keys(options.keys, options.hot)
    figures = asyncio.run(measure_worker(environment, folder, keys, options.events, options.rounds))
    limit, plain = figures[LIMIT].per_second, figures[ROW_BY_ROW].per_second
    title = f"worker, {keys.count} keys{', one of them hot' if keys.hot else ''}"
    table = Table("consumer", "events/s", "CPU µs/event", "to the limit", "to row by row", title=title)
    for name, each in figures.items():
        ratios = (f"{each.per_second / limit:.2f}", f"{each.per_second / plain:.1f}")
        table.add_row(name, f"{each.per_second:,.0f}", f"{each.cpu_micros:.0f}", *ratios)
    CONSOLE.print(table)


def _inbox(environment: dict[str, str], folder: Path, options: argparse.Namespace) -> None:
    figures = asyncio.run(measure_inbox(environment, folder, options.events // 2, options.rounds))
    short = next(iter(figures.values()))
    table = Table("rows", "events/s", "CPU µs/event", "time to the shortest", title="sync-worker by the inbox's length")
    for rows, each in figures.items():
        ratio = f"{short.per_second / each.per_second:.2f}"
        table.add_row(f"{rows:,}", f"{each.per_second:,.0f}", f"{each.cpu_micros:.0f}", ratio)
    CONSOLE.print(table)


def _latency(environment: dict[str, str], folder: Path, options: argparse.Namespace) -> None:
    latencies = asyncio.run(measure_latency(environment, folder, 2 * options.seconds))
    table = Table("events", "p50 ms", "p99 ms", "longest ms", title=f"from 2xx to the row, {PER_SECOND} events/s")
    times = (latencies.p50, latencies.p99, latencies.longest)
    table.add_row(f"{latencies.events:,}", *(f"{each:.1f}" for each in times))
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
