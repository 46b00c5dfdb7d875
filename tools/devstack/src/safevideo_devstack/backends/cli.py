"""`safevideo-backends up|down|status|env`: backends that stay up in the background until `down`."""

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import Options, lifecycle, state
from safevideo_devstack.backends.table import render

app = typer.Typer(help="Log, database and cache for tests, demos and benchmarks.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option(help="Where data, logs and the list of processes live.")]
DEFAULT_FOLDER = Path(".run/backends")


@app.command()
def up(
    stack: Annotated[Literal["auto", "given", "docker", "local", "embedded"], typer.Option(envvar="STACK")] = "auto",
    folder: Folder = DEFAULT_FOLDER,
    three_brokers: Annotated[bool, typer.Option("--three-brokers", help="Three Kafka brokers instead of one.")] = False,
    bench: Annotated[bool, typer.Option("--bench", help="Kafka starts later and runs faster.")] = False,
) -> None:
    """Bring backends up, or show those that are. They go on in the background."""
    options = Options(brokers=3 if three_brokers else 1, fast_start=not bench, tethered=False)
    real = os.environ.get("REQUIRE_REAL_BACKENDS") == "1"
    backends = lifecycle.up(stack, folder=folder, options=options, require_real=real, say=_say)
    Console().print(render(backends))


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
    found = state.read(folder)
    servers = lifecycle.status(folder)
    if found and found.backends:
        Console().print(render(found.backends))
    for name, runs in servers.items():
        print(f"{name}: {'running' if runs else 'ended'}")
    if not found or not all(servers.values()):
        raise typer.Exit(1)


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print `export` lines for a shell: eval "$(safevideo-backends env)"."""
    found = state.read(folder)
    if not found or not found.backends:
        raise StartupError(f"No backends are up in {folder}; type: safevideo-backends up")
    for name, value in found.backends.environment().items():
        print(f"export {name}={shlex.quote(value)}")


def main() -> None:
    """Run the command line. Exit code 1 says that backends cannot be had or failed, 2 that the usage is wrong."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of every try while a broker starts
    try:
        app()
    except StartupError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
