"""The tail of the latency at half of what the door can take, beside the broker's own at the same rate.

A webhook is answered when the broker has it, so the broker's produce latency is the limit. Both are loaded by the same
generator on the same schedule, with the same bytes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from door import open_door
from measured import generator
from payloads import write_requests
from rich.table import Table
from wrk import REQUESTS_IN_TURN, load

PROGRAM: Final = str(Path(__file__).parent / "open_loop.py")
WARM_UP_SECONDS: Final = 2.0
DOOR: Final = "webhook-ingest"
BROKER: Final = "the broker: one publisher, acks=all"

Figures = Mapping[str, float]


def half_load_table(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> Table:
    """Latencies of both; the medians of `rounds` rounds."""
    measured = measure_half_load(environment, folder, seconds, rounds)
    table = Table("what", "a second", "p50 ms", "p99 ms", "max ms", "p99 to the broker's", "failed", title="half load")
    for name, each in measured.items():
        latencies = (f"{each[key]:.1f}" for key in ("p50Ms", "p99Ms", "maxMs"))
        ratio = f"{each['p99Ms'] / measured[BROKER]['p99Ms']:.1f}"
        table.add_row(name, f"{each['rate']:,.0f}", *latencies, ratio, f"{each['failed']:.0f}")
    return table


def measure_half_load(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> Mapping[str, Figures]:
    """In each round the door's most is measured first, and half of it is the rate of that round."""
    requests = folder / "requests"
    write_requests(requests, REQUESTS_IN_TURN)
    measured: dict[str, list[Figures]] = {BROKER: [], DOOR: []}
    for _ in range(rounds):
        with open_door(environment, folder, requests) as (port, _processes):
            most = load(port, requests, seconds)
            rate = most["requests"] / most["seconds"] / 2
            measured[DOOR].append(_open_loop("door", str(port), rate, seconds))
        measured[BROKER].append(_open_loop("broker", environment["KAFKA_BOOTSTRAP_SERVERS"], rate, seconds))
    return {name: _median(figures) for name, figures in measured.items()}


def _open_loop(kind: str, address: str, rate: float, seconds: int) -> Figures:
    command = [sys.executable, PROGRAM, kind, address, str(rate), str(seconds)]
    with generator(command, WARM_UP_SECONDS + seconds) as running:
        return {**running.result(), "rate": rate}


def _median(figures: list[Figures]) -> Figures:
    return {name: median(each[name] for each in figures) for name in figures[0]}
