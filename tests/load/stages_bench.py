"""Where a webhook's CPU time goes, stage by stage, and what each stage costs alone.

The door runs with a sampler in it (`servers/sampled.py`) under the load of the other benches; the samples' shares of
the CPU time that the kernel counted are the microseconds of the stages. A second table says the same of forged ones.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from door import Door, open_door
from ingest_bench import BARE
from measured import generator
from payloads import write_requests
from rich.console import Group
from rich.table import Table
from stages import HTTP, STAGES, shares
from stages_alone import Alone, stages_alone
from wrk import REQUESTS_IN_TURN, command

SERVERS: Final = Path(__file__).parent / "servers"
SAMPLED: Final = str(SERVERS / "sampled.py")
LEAST: Final = (sys.executable, str(SERVERS / "least.py"), "{port}")
WRITTEN_WITHIN_SECONDS: Final = 10.0

AT_ONCE: Final = {"THROTTLED_CLIENT_DELAY_SECONDS": "0", "THROTTLED_CLIENT_CONNECTIONS_PER_SECOND": "1000000"}
"""Refusals are not held back, and connections taken: else wrk, which waits for answers, would send next to none."""


class Profile(NamedTuple):
    """CPU microseconds a request, in all and by stage."""

    micros: float
    stages: Mapping[str, float]


def stages_table(environment: Mapping[str, str], folder: Path, seconds: int) -> Group:
    """Both tables."""
    good, forged = folder / "good", folder / "forged"
    write_requests(good, REQUESTS_IN_TURN)
    write_requests(forged, REQUESTS_IN_TURN, "a-secret-that-nobody-has")
    bare = _served(BARE, environment, folder, good, seconds)
    least = _served(LEAST, environment, folder, good, seconds)
    alone = {
        HTTP: Alone(bare, least, "uvloop alone, no parser; beside it bare aiohttp"),
        **stages_alone(environment["KAFKA_BOOTSTRAP_SERVERS"], folder),
    }
    taken = _profile(environment, folder, good, good, seconds)
    refused = _profile({**environment, **AT_ONCE}, folder, good, forged, seconds, "close")
    return Group(_table_of_taken(taken, alone), _table_of_refused(refused))


def _served(server: Sequence[str], environment: Mapping[str, str], folder: Path, requests: Path, seconds: int) -> float:
    with open_door(environment, folder, requests, server) as door:
        return _micros(door, command(door.port, requests, seconds), seconds)


def _profile(
    environment: Mapping[str, str], folder: Path, warm_up: Path, requests: Path, seconds: int, *connection: str
) -> Profile:
    samples = folder / f"samples-{requests.name}"
    with open_door(environment, folder, warm_up, (sys.executable, SAMPLED, str(samples))) as door:
        os.kill(door.processes[0].pid, signal.SIGUSR1)
        micros = _micros(door, command(door.port, requests, seconds, *connection), seconds)
        os.kill(door.processes[0].pid, signal.SIGUSR1)
        _wait_for(samples)
    return Profile(micros, {stage: share * micros for stage, share in shares(samples).items()})


def _micros(door: Door, load: list[str], seconds: int) -> float:
    before = door.cpu_seconds()
    with generator(load, seconds) as running:
        done = running.result()["requests"]
    return (door.cpu_seconds() - before) / done * 1e6


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + WRITTEN_WITHIN_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the sampler did not write {file.name}")
        time.sleep(0.05)


def _table_of_taken(profile: Profile, alone: Mapping[str, Alone]) -> Table:
    table = Table("stage", "CPU µs", "share", "alone µs", "limit µs", "the limit is", title="a webhook that is taken")
    for stage in STAGES:
        micros = profile.stages[stage]
        own = alone.get(stage)
        limits = (f"{own.micros:.1f}", f"{own.least:.1f}", own.least_is) if own else ("", "", "")
        table.add_row(stage, f"{micros:.1f}", f"{micros / profile.micros:.0%}", *limits)
    least = sum(each.least for each in alone.values())
    table.add_section()
    table.add_row("in all", f"{profile.micros:.1f}", "100%", "", f"{least:.1f}", "their sum")
    return table


def _table_of_refused(profile: Profile) -> Table:
    table = Table("stage", "CPU µs", "share", title="a forged one on a connection of its own, its answer not held back")
    for stage, micros in profile.stages.items():
        table.add_row(stage, f"{micros:.1f}", f"{micros / profile.micros:.0%}")
    table.add_section()
    table.add_row("in all", f"{profile.micros:.1f}", "100%")
    return table
