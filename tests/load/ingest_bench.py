"""Requests a second: the bare server, the plain way, Bento, and `webhook-ingest`, each alone under the same load."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from door import DOOR, open_door
from payloads import write_requests
from rich.table import Table
from wrk import REQUESTS_IN_TURN, load

SERVERS_FOLDER: Final = Path(__file__).parent / "servers"
BARE: Final = (sys.executable, str(SERVERS_FOLDER / "bare.py"), "{port}")
NOBODY: Final = "127.0.0.1:9"

BENTO: Final = "Bento (Go, both cores)"
HOW_TO_GET_BENTO: Final = "No row for Bento: name its binary in BENTO_BINARY; tests/load/README.md says which one."


@dataclass(frozen=True)
class Server:
    """How one of them is started, in how many processes, and what differs in its environment."""

    command: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    instances: int = 1


@dataclass(frozen=True)
class Figures:
    """Of one server. Latencies in milliseconds, CPU time in microseconds a request."""

    per_second: float
    p50: float
    p99: float
    cpu_micros: float
    not_taken: int


def ingest_table(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> Table:
    """Each server's figures and their ratio to the bare one; the medians of `rounds` rounds of `seconds`."""
    figures = measure_ingest(environment, folder, seconds, rounds)
    bare = figures["bare aiohttp"]
    table = Table("server", "req/s", "p50 ms", "p99 ms", "CPU µs/req", "to bare", "not 200", title="ingest")
    for name, each in figures.items():
        latencies = (f"{each.p50:.1f}", f"{each.p99:.1f}", f"{each.cpu_micros:.0f}")
        ratio = f"{each.per_second / bare.per_second:.2f}"
        table.add_row(name, f"{each.per_second:,.0f}", *latencies, ratio, str(each.not_taken))
    table.caption = None if BENTO in figures else HOW_TO_GET_BENTO
    return table


def measure_ingest(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> dict[str, Figures]:
    """The median of `rounds` rounds, in each of which every server runs once."""
    requests = folder / "requests"
    write_requests(requests, REQUESTS_IN_TURN)
    servers = _servers()
    measured: dict[str, list[Figures]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            measured[name].append(_measure_one(server, environment, folder, requests, seconds))
    return {name: _median(figures) for name, figures in measured.items()}


def _servers() -> Mapping[str, Server]:
    bento = os.environ.get("BENTO_BINARY") or shutil.which("bento")
    return {
        "bare aiohttp": Server(BARE),
        "plain FastAPI": Server((sys.executable, str(SERVERS_FOLDER / "plain.py"), "{port}")),
        "webhook-ingest": Server(DOOR),
        "webhook-ingest, 2 processes": Server(DOOR, instances=2),
        **({BENTO: Server((bento, "-c", str(SERVERS_FOLDER / "bento.yaml")))} if bento else {}),
        "webhook-ingest, Kafka away": Server(DOOR, {"KAFKA_BOOTSTRAP_SERVERS": NOBODY}),
    }


def _measure_one(server: Server, environment: Mapping[str, str], folder: Path, requests: Path, seconds: int) -> Figures:
    variables = {**environment, **server.variables}
    with open_door(variables, folder, requests, server.command, server.instances) as door:
        before = door.cpu_seconds()
        result = load(door.port, requests, seconds)
        cpu = door.cpu_seconds() - before
    done = result["requests"]
    return Figures(
        per_second=done / result["seconds"],
        p50=result["p50Ms"],
        p99=result["p99Ms"],
        cpu_micros=cpu / done * 1e6,
        not_taken=int(result["refused"] + result["failed"]),
    )


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        per_second=median(each.per_second for each in figures),
        p50=median(each.p50 for each in figures),
        p99=median(each.p99 for each in figures),
        cpu_micros=median(each.cpu_micros for each in figures),
        not_taken=sum(each.not_taken for each in figures),
    )
