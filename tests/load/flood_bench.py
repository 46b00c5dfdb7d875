"""What a flood of forged webhooks costs the good ones: `python tests/load/flood_bench.py`. Not part of `make bench`.

One door takes good webhooks from 256 connections: alone, and then beside each flood. The share of throughput that is
left is the figure; the aim is at least 0.8 for a flood from as many connections.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ingest_bench import CONNECTIONS, WARM_UP_SECONDS, load
from measured import free_port, program, wait_until_listening
from payloads import SECRET, write_requests
from rich.console import Console
from rich.table import Table

from safevideo_common.messaging.factory import open_log
from safevideo_common.messaging.topics import all_topics
from safevideo_common.testing.backends import Options, running

HERE = Path(__file__).parent
WITH_MARGIN_SECONDS = 2
REQUESTS_IN_TURN = 5000
FLOODS = ("none", "forgers that wait", "forgers that reconnect", "forgers that do not wait")


@dataclass(frozen=True)
class Figures:
    """Requests a second that were answered: good ones with 200, forged ones in whichever way."""

    good: float
    forged: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each flood in each round")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are the medians of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safevideo-bench-") as name:
        folder = Path(name)
        with running("local", folder=folder / "backends", options=Options(fast_start=False), say=print) as backends:
            environment = backends.environment() | {"SAFEVIDEO_ENV": "development", "LOG_DIR": str(folder / "logs")}
            asyncio.run(_create_topics(environment["KAFKA_BOOTSTRAP_SERVERS"]))
            _print(measure_floods(environment, folder, options.seconds, options.rounds))


def measure_floods(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> dict[str, Figures]:
    """The median of `rounds` rounds, in each of which every flood comes once, over a door of its own."""
    good, forged = folder / "good", folder / "forged"
    write_requests(good, REQUESTS_IN_TURN)
    write_requests(forged, REQUESTS_IN_TURN, "a-secret-that-nobody-has")
    measured: dict[str, list[Figures]] = {flood: [] for flood in FLOODS}
    for _ in range(rounds):
        for flood in FLOODS:
            port = free_port()
            variables = {**environment, "HOST": "127.0.0.1", "PORT": str(port), "SHAREGRAM_WEBHOOK_SECRET": SECRET}
            with program(("-m", "webhook_ingest"), variables, folder / "server.out"):
                wait_until_listening(port)
                load(port, good, WARM_UP_SECONDS)
                alone = measured["none"][-1].good if measured["none"] else 0.0
                measured[flood].append(_measure(flood, port, good, forged, seconds, alone))
    return {
        flood: Figures(median(each.good for each in all_), median(each.forged for each in all_))
        for flood, all_ in measured.items()
    }


def _measure(flood: str, port: int, good: Path, forged: Path, seconds: int, alone: float) -> Figures:
    with ThreadPoolExecutor(1) as beside:
        flooding = beside.submit(_flood, flood, port, forged, seconds + WITH_MARGIN_SECONDS, alone)
        result = load(port, good, seconds)
        taken = result["requests"] - result["refused"] - result["failed"]
        return Figures(taken / result["seconds"], flooding.result())


def _flood(flood: str, port: int, forged: Path, seconds: int, alone: float) -> float:
    """Forged requests a second."""
    if flood == "none":
        return 0.0
    if flood == "forgers that do not wait":
        command = [sys.executable, str(HERE / "forger.py"), str(port), str(alone / 2), str(seconds)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return float(said.rpartition("RESULT ")[2])
    result = load(port, forged, seconds, *(["close"] if flood == "forgers that reconnect" else []))
    return result["requests"] / result["seconds"]


async def _create_topics(bootstrap_servers: str) -> None:
    async with open_log(bootstrap_servers, None) as log:
        await log.create_topics(all_topics())


def _print(measured: Mapping[str, Figures]) -> None:
    alone = measured["none"].good
    table = Table("flood", "good/s", "forged/s", "of good alone", title=f"{CONNECTIONS} connections of good webhooks")
    for flood, figures in measured.items():
        table.add_row(flood, f"{figures.good:,.0f}", f"{figures.forged:,.0f}", f"{figures.good / alone:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
