"""`safevideo-backends up|down|status|env`: backends that stay up in the background until `down`."""

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import Backends, Options, lifecycle, state

app = typer.Typer(help="Broker, database and cache for tests, demos and benchmarks.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="Folder of data, logs and the list of processes.")]
DEFAULT_FOLDER = Path(".run/backends")


@app.command()
def up(
    stack: Annotated[Literal["auto", "external", "docker", "local", "embedded"], typer.Option(envvar="STACK")] = "auto",
    folder: Folder = DEFAULT_FOLDER,
    three_brokers: Annotated[bool, typer.Option("--three-brokers", help="Three Kafka brokers instead of one.")] = False,
    bench: Annotated[bool, typer.Option("--bench", help="Kafka starts later and runs faster.")] = False,
) -> None:
    """Bring backends up, or show those that are up. They go on in the background."""
    options = Options(brokers=3 if three_brokers else 1, fast_start=not bench, die_with_parent=False)
    real = os.environ.get("REQUIRE_REAL_BACKENDS") == "1"
    backends = lifecycle.up(stack, folder=folder, options=options, require_real=real, say=_say)
    Console().print(backends_table(backends))


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the data as well.")] = False,
) -> None:
    """Stop what `up` started, also after a crash."""
    lifecycle.down(folder, forget=forget)


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Show what is up. Exit code 1 when something that was started does not run, or nothing was started."""
    found = state.find(folder)
    servers = lifecycle.status(folder)
    if found and found.backends:
        Console().print(backends_table(found.backends))
    for name, runs in servers.items():
        print(f"{name}: {'running' if runs else 'ended'}")
    if not found or not all(servers.values()):
        raise typer.Exit(1)


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print `export` lines for a shell: eval "$(safevideo-backends env)"."""
    found = state.find(folder)
    if not found or not found.backends:
        raise StartupError(f"No backends are up in {folder}; type: safevideo-backends up")
    for name, value in found.backends.environment().items():
        print(f"export {name}={shlex.quote(value)}")


def main() -> None:
    """Run the command line. Exit code 1 means that backends are unavailable or failed, 2 that the usage is wrong."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of every try while a broker starts
    try:
        app()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def backends_table(backends: Backends) -> Group:
    """Return a row for each backend with its version and start time, then the reasons why stacks were skipped."""
    table = Table(title=f"Backends: {backends.stack}", title_justify="left")
    for column in ("backend", "software", "version", "address"):
        table.add_column(column, overflow="fold")
    table.add_column("came up in", justify="right")
    for info in backends.infos:
        table.add_row(info.role, info.software, info.version or "-", info.address, f"{info.started_in_seconds:.1f} s")
    return Group(table, *(Text(f"not {reason}") for reason in backends.skipped))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
