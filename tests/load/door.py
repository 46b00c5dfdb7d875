"""A server that takes webhooks, listening and warm."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from measured import Program, free_port, program, wait_until_listening
from payloads import SECRET
from wrk import WARM_UP_SECONDS, load

DOOR: Final = (sys.executable, "-m", "webhook_ingest")


class Door(NamedTuple):
    """Where it listens, and its processes."""

    port: int
    processes: Sequence[Program]

    def cpu_seconds(self) -> float:
        """Return the user and system time so far, of all processes."""
        return sum(each.cpu_seconds() for each in self.processes)


@contextmanager
def open_door(
    environment: Mapping[str, str], folder: Path, requests: Path, command: Sequence[str] = DOOR, instances: int = 1
) -> Iterator[Door]:
    """`command` on a port of its own, which also stands for `{port}` in it, after `WARM_UP_SECONDS` of `requests`.

    `instances` of it share the port.
    """
    port = free_port()
    own = {"HOST": "127.0.0.1", "PORT": str(port), "SHAREGRAM_WEBHOOK_SECRET": SECRET}
    own["REUSE_PORT"] = str(instances > 1)
    spool = {"SPOOL_DIR": str(folder / f"spool-{port}")}  # what one leaves there is not the next one's to drain
    arguments = [argument.format(port=port) for argument in command]
    variables = {**own, **spool, **environment}
    with ExitStack() as stack:
        started = [program(arguments, variables, folder / "server.out") for _ in range(instances)]
        processes = [stack.enter_context(each) for each in started]
        wait_until_listening(port, instances)
        load(port, requests, WARM_UP_SECONDS)
        yield Door(port, processes)
