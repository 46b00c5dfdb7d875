"""Requests a second: the bare server, the plain way, and `webhook-ingest`, each alone under the same load."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from measured import free_port, program, wait_until_listening
from payloads import SECRET, write_requests

HERE = Path(__file__).parent
CONNECTIONS = 256
REQUESTS_IN_TURN = 5000
WARM_UP_SECONDS = 3

NOBODY = "127.0.0.1:9"


@dataclass(frozen=True)
class Server:
    """How one of them is started: the arguments of Python, and what differs in its environment."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


SERVERS: Mapping[str, Server] = {
    "bare aiohttp": Server((str(HERE / "servers" / "bare.py"), "{port}")),
    "plain FastAPI": Server((str(HERE / "servers" / "plain.py"), "{port}")),
    "webhook-ingest": Server(("-m", "webhook_ingest")),
    "webhook-ingest, 2 processes": Server(("-m", "webhook_ingest"), {"INGEST_WORKERS": "2"}),
    "webhook-ingest, Kafka away": Server(("-m", "webhook_ingest"), {"KAFKA_BOOTSTRAP_SERVERS": NOBODY}),
}


@dataclass(frozen=True)
class Figures:
    """Of one server. Latencies in milliseconds, CPU time in microseconds a request."""

    per_second: float
    p50: float
    p99: float
    cpu_micros: float
    not_taken: int


def measure_ingest(environment: Mapping[str, str], folder: Path, seconds: int, rounds: int) -> dict[str, Figures]:
    """The median of `rounds` rounds, in each of which every server runs once."""
    requests = folder / "requests"
    write_requests(requests, REQUESTS_IN_TURN)
    measured: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    for _ in range(rounds):
        for name in SERVERS:
            measured[name].append(_measure_one(name, environment, folder, requests, seconds))
    return {name: _median(figures) for name, figures in measured.items()}


def _measure_one(name: str, environment: Mapping[str, str], folder: Path, requests: Path, seconds: int) -> Figures:
    port, server_of = free_port(), SERVERS[name]
    own = {"HOST": "127.0.0.1", "PORT": str(port), "SHAREGRAM_WEBHOOK_SECRET": SECRET}
    spool = {"SPOOL_DIR": str(folder / f"spool-{port}")}  # what one leaves there is not the next one's to drain
    variables = {**environment, **own, **spool, **server_of.variables}
    arguments = [argument.format(port=port) for argument in server_of.arguments]
    with program(arguments, variables, folder / "server.out") as server:
        wait_until_listening(port)
        load(port, requests, WARM_UP_SECONDS)
        before = server.cpu_seconds()
        result = load(port, requests, seconds)
        cpu = server.cpu_seconds() - before
    done = result["requests"]
    return Figures(
        per_second=done / result["seconds"],
        p50=result["p50Ms"],
        p99=result["p99Ms"],
        cpu_micros=cpu / done * 1e6,
        not_taken=int(result["refused"] + result["failed"]),
    )


def load(port: int, requests: Path, seconds: int, *connection: str) -> dict[str, float]:
    """What wrk says of `seconds` of load. A further argument is the value of the `Connection` header."""
    script = str(HERE / "webhooks.lua")
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", script]
    command = ["wrk", *options, f"http://127.0.0.1:{port}", "--", str(requests), *connection]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in output.splitlines() if line.startswith("RESULT "))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return result


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        per_second=median(each.per_second for each in figures),
        p50=median(each.p50 for each in figures),
        p99=median(each.p99 for each in figures),
        cpu_micros=median(each.cpu_micros for each in figures),
        not_taken=sum(each.not_taken for each in figures),
    )
