"""The start of a command beside what it imports: the CPU time of whole processes, and their wall-clock time.

Run it alone: `python tests/load/command_bench.py`. Each round starts each program once; the figures are the least of
all rounds. The commands read an empty SQLite database.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

ROUNDS: Final = 7
SECONDS: Final = 120.0
SAFEVIDEO: Final = str(Path(sys.executable).with_name("safevideo"))
PROGRAMS: Final = (
    (sys.executable, "-c", "pass"),
    (sys.executable, "-c", "import sqlalchemy"),
    (sys.executable, "-c", "import sqlalchemy.ext.asyncio, pydantic_settings, typer"),
    (SAFEVIDEO, "--help"),
    (SAFEVIDEO, "jobs", "list"),
    (SAFEVIDEO, "events", "list"),
    (SAFEVIDEO, "keys", "list"),
)
LIMIT: Final = PROGRAMS[1]


class Cost(NamedTuple):
    cpu_seconds: float
    seconds: float


def cost(program: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run the program to its end."""
    before, began = os.times(), perf_counter()
    subprocess.run(program, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=SECONDS)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(cpu, perf_counter() - began)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{folder}/safevideo.db"
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "SAFEVIDEO_ENV": "development"}
        cost((SAFEVIDEO, "migrate"), environment)
        rounds = [{program: cost(program, environment) for program in PROGRAMS} for _ in range(ROUNDS)]
    least = {program: Cost(*map(min, zip(*(each[program] for each in rounds), strict=True))) for program in PROGRAMS}
    table = Table("program", "CPU, s", "of import sqlalchemy", "wall clock, s")
    for program, its in least.items():
        name = " ".join([Path(program[0]).name, *program[1:]])
        ratio = its.cpu_seconds / least[LIMIT].cpu_seconds
        table.add_row(name, f"{its.cpu_seconds:.2f}", f"{ratio:.2f}", f"{its.seconds:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
