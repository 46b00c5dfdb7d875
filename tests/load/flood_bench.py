"""What a flood of forged webhooks costs the good ones.

One door takes good webhooks from `CONNECTIONS` connections: alone, and then beside each flood. The share of their
throughput that is left is the figure; the aim is at least 0.8 beside a flood that is as large as they are. The
quarantine is on, and is offered what was forged.
"""

import asyncio
import os
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from door import Door, open_door
from measured import generator
from payloads import write_requests
from rich.table import Table
from wrk import CONNECTIONS, REQUESTS_IN_TURN, command, load

from safevideo_common.database.migrate import migrate
from safevideo_testkit.databases import created, dropped

FORGER: Final = str(Path(__file__).parent / "forger.py")
BESIDE_SECONDS: Final = 1
"""A flood lasts so much longer than the load that is measured beside it."""

ALONE: Final = "none"
WAITING: Final[Mapping[str, Sequence[str]]] = {"forgers that wait": (), "forgers that reconnect": ("close",)}
"""wrk's, and what they say in the header `Connection`."""

IMPATIENT: Final = {"forgers that do not wait, half as many": 0.5, "forgers that do not wait, as many": 1.0}
"""Forged webhooks to the good ones that come alone."""

FLOODS: Final = (ALONE, *WAITING, *IMPATIENT)


@dataclass(frozen=True)
class Figures:
    """Webhooks a second: good ones that were taken, forged ones that were sent. And the door's CPU, 1 being a core."""

    good: float
    forged: float
    cpu: float


def flood_table(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> Table:
    """What is left to the good ones beside each flood, and what one forged webhook costs the door."""
    with _quarantine(environment) as variables:
        measured = measure_floods(variables, folder, seconds, rounds)
    alone = measured[ALONE]
    title = f"flood: {CONNECTIONS} connections of good webhooks"
    table = Table("flood", "good/s", "forged/s", "CPU µs/forged", "of good alone", title=title)
    for flood, each in measured.items():
        micros = f"{_micros(each, alone):.0f}" if flood in IMPATIENT else ""  # of the few others it would be noise
        table.add_row(flood, f"{each.good:,.0f}", f"{each.forged:,.0f}", micros, f"{each.good / alone.good:.2f}")
    return table


def _micros(beside: Figures, alone: Figures) -> float:
    """CPU that one forged webhook costs the door: all but what the good ones cost it alone."""
    return (beside.cpu - beside.good * alone.cpu / alone.good) / beside.forged * 1e6


@contextmanager
def _quarantine(environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    url = created(environment["DATABASE_URL"])
    try:
        asyncio.run(migrate(url))
        yield {**environment, "DATABASE_URL": url, "ENCRYPTION_KEY": urlsafe_b64encode(os.urandom(32)).decode()}
    finally:
        dropped(url)


def measure_floods(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> dict[str, Figures]:
    """The median of `rounds` rounds. In each, one door meets every flood once, after the good ones alone."""
    good, forged = folder / "good", folder / "forged"
    write_requests(good, REQUESTS_IN_TURN)
    write_requests(forged, REQUESTS_IN_TURN, "a-secret-that-nobody-has")
    measured: dict[str, list[Figures]] = {flood: [] for flood in FLOODS}
    for _ in range(rounds):
        with open_door(environment, folder, good) as door:
            alone = 0.0
            for flood in FLOODS:
                beside = _flood(flood, door.port, forged, seconds + BESIDE_SECONDS, alone)
                measured[flood].append(_measure(door, good, beside, seconds))
                alone = measured[ALONE][-1].good
    return {flood: _median(figures) for flood, figures in measured.items()}


def _measure(door: Door, good: Path, flood: Sequence[str], seconds: int) -> Figures:
    with generator(flood, seconds + BESIDE_SECONDS) as beside:
        before = door.cpu_seconds()
        result = load(door.port, good, seconds)
        cpu = door.cpu_seconds() - before
        sent = beside.result()
    taken = result["requests"] - result["refused"] - result["failed"]
    return Figures(taken / result["seconds"], _forged(sent), cpu / result["seconds"])


def _flood(flood: str, port: int, forged: Path, seconds: int, alone: float) -> Sequence[str]:
    if flood in WAITING:
        return command(port, forged, seconds, *WAITING[flood])
    rate = alone * IMPATIENT.get(flood, 0.0)
    return [sys.executable, FORGER, str(port), str(rate), str(seconds)]


def _forged(sent: Mapping[str, float]) -> float:
    return sent["forged"] if "forged" in sent else sent["requests"] / sent["seconds"]


def _median(figures: Sequence[Figures]) -> Figures:
    return Figures(
        median(each.good for each in figures),
        median(each.forged for each in figures),
        median(each.cpu for each in figures),
    )
