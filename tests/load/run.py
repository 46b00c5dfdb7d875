"""`make bench`: brings up real backends, measures, prints ratios to the limit of the same run."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flood_bench import flood_table
from half_load_bench import half_load_table
from inbox_bench import inbox_table
from ingest_bench import ingest_table
from jobs_bench import jobs_table
from latency_bench import latency_table
from payloads import Keys
from replay_bench import replay_table
from rich.console import Console, RenderableType
from stages_bench import stages_table
from sync_bench import sync_table
from worker_bench import worker_table

from safevideo_common.broker.open import open_broker
from safevideo_common.events.topics import all_topics
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import running

Environment = Mapping[str, str]
Bench = Callable[[Environment, Path, argparse.Namespace], RenderableType]

BENCHES: Final[Mapping[str, Bench]] = {
    "ingest": lambda environment, folder, its: ingest_table(environment, folder, its.seconds, its.rounds),
    "half-load": lambda environment, folder, its: half_load_table(environment, folder, its.seconds, its.rounds),
    "flood": lambda environment, folder, its: flood_table(environment, folder, its.seconds, its.rounds),
    "stages": lambda environment, folder, its: stages_table(environment, folder, its.seconds),
    "worker": lambda environment, folder, its: worker_table(environment, folder, _keys(its), its.events, its.rounds),
    "inbox": lambda environment, folder, its: inbox_table(environment, folder, its.events // 2, its.rounds),
    "jobs": lambda environment, folder, its: jobs_table(environment, folder, its.rounds),
    "replay": lambda environment, folder, its: replay_table(environment, folder, _keys(its), its.events, its.rounds),
    "sync": lambda environment, folder, its: sync_table(environment, folder, its.events // 2, its.rounds),
    "latency": lambda environment, folder, its: latency_table(environment, folder, 4 * its.seconds),
}

FILE_COLUMNS: Final = 120
"""Of what is no terminal."""


def main() -> None:
    options = _options()
    if options.what in ("all", "ingest") and shutil.which("wrk") is None:
        sys.exit("wrk makes the load and is not here. On Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="safevideo-bench-") as name:
        folder = Path(name)
        with running("local", folder=folder / "backends", options=Options(fast_start=False), say=print) as backends:
            environment = backends.environment() | {"SAFEVIDEO_ENV": "development"}
            asyncio.run(_create_topics(environment["KAFKA_BOOTSTRAP_SERVERS"]))
            for bench in BENCHES if options.what == "all" else [options.what]:
                with _ended_after(options.within, bench):
                    _print(BENCHES[bench](environment, folder, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", *BENCHES), default="all")
    parser.add_argument("--seconds", type=int, default=4, help="of load in each round")
    parser.add_argument("--events", type=int, default=50_000, help="read by each consumer in each round")
    parser.add_argument("--keys", type=int, default=1000, help="performers that a worker's events are of")
    parser.add_argument("--hot", action="store_true", help="one event in ten is of the same performer")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are the medians of them")
    parser.add_argument("--within", type=int, default=180, help="seconds after which a bench is given up")
    return parser.parse_args()


def _keys(options: argparse.Namespace) -> Keys:
    return Keys(options.keys, options.hot)


def _print(tables: RenderableType) -> None:
    Console(width=None if sys.stdout.isatty() else FILE_COLUMNS).print(tables)


async def _create_topics(bootstrap_servers: str) -> None:
    async with open_broker(bootstrap_servers, None) as broker:
        await broker.create_topics(all_topics())


@contextmanager
def _ended_after(seconds: int, bench: str) -> Iterator[None]:
    """The last resort: every wait of a bench has a deadline of its own."""

    def give_up(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"The bench {bench} did not end within {seconds} s; --within allows it more.")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
