"""The load of most benches: wrk, which costs far less than a generator in Python would."""

from pathlib import Path
from typing import Final

from measured import generator

CONNECTIONS: Final = 256
REQUESTS_IN_TURN: Final = 5000
WARM_UP_SECONDS: Final = 1
_SCRIPT: Final = Path(__file__).parent / "webhooks.lua"


def command(port: int, requests: Path, seconds: int, *connection: str) -> list[str]:
    """As many requests as are answered, for `seconds`. A further argument is the value of the `Connection` header."""
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", str(_SCRIPT)]
    return ["wrk", *options, f"http://127.0.0.1:{port}", "--", str(requests), *connection]


def load(port: int, requests: Path, seconds: int) -> dict[str, float]:
    """What wrk says of `seconds` of load."""
    with generator(command(port, requests, seconds), seconds) as wrk:
        return wrk.result()
