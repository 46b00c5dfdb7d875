"""A server that takes webhooks, listening and warm."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from measured import Program, free_port, program, wait_until_listening
from payloads import SECRET
from wrk import WARM_UP_SECONDS, load

DOOR: Final = (sys.executable, "-m", "webhook_ingest")


class Door(NamedTuple):
    """Where it listens, and its process."""

    port: int
    process: Program


@contextmanager
def open_door(
    environment: Mapping[str, str], folder: Path, requests: Path, command: Sequence[str] = DOOR
) -> Iterator[Door]:
    """`command` on a port of its own, which also stands for `{port}` in it, after `WARM_UP_SECONDS` of `requests`."""
    port = free_port()
    own = {"HOST": "127.0.0.1", "PORT": str(port), "SHAREGRAM_WEBHOOK_SECRET": SECRET}
    spool = {"SPOOL_DIR": str(folder / f"spool-{port}")}  # what one leaves there is not the next one's to drain
    arguments = [argument.format(port=port) for argument in command]
    with program(arguments, {**own, **spool, **environment}, folder / "server.out") as process:
        wait_until_listening(port)
        load(port, requests, WARM_UP_SECONDS)
        yield Door(port, process)
