"""The command `safevideo` in a process of its own, without the time that its imports take.

Python's fork server imports the command once a test run, and each call is a fork of it: with its own environment,
arguments, standard streams and exit code. The script that users type is started by the tests of `make run`.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Final

from safevideo_cli.app import NOUNS, main

SECONDS: Final = 180.0

Run = Callable[..., CompletedProcess[str]]
"""Runs the command with these arguments; keywords change its environment."""


def command_runner(*before: str, **environment: str) -> Run:
    """Return a function that runs the command with `environment` and `PATH`, and nothing else of ours."""

    def run(*arguments: str, **changes: str) -> CompletedProcess[str]:
        return run_command([*before, *arguments], environment | changes)

    return run


def run_command(arguments: list[str], environment: Mapping[str, str], *, text: str = "") -> CompletedProcess[str]:
    """Run the command on the standard input `text`. Raises `TimeoutExpired` after `SECONDS`."""
    with TemporaryDirectory(prefix="safevideo-command-") as folder:
        streams = Path(folder)
        (streams / "0").write_text(text)
        process = _context().Process(
            target=_main, args=(arguments, {"PATH": os.environ["PATH"], **environment}, folder), name="safevideo"
        )
        process.start()
        process.join(SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        process.close()
        if code is None:
            raise TimeoutExpired(arguments, SECONDS)
        return CompletedProcess(arguments, code, (streams / "1").read_text(), (streams / "2").read_text())


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *(f"safevideo_cli.{noun}" for noun in NOUNS)])
    return context


def _main(arguments: list[str], environment: Mapping[str, str], folder: str) -> None:
    for number, flags in enumerate([os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT]):
        os.dup2(os.open(os.path.join(folder, str(number)), flags), number)  # noqa: PTH118
    sys.stdin, sys.stdout, sys.stderr = (open(n, "rw"[n > 0], encoding="utf-8") for n in range(3))  # noqa: SIM115, PTH123
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["safevideo", *arguments]
    main()
