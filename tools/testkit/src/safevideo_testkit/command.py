"""The command `safevideo` without its start: a process that has imported everything forks itself for each command.

A start takes a second and a half of a core, most of it imports. A fork takes some milliseconds and runs the same code
with the arguments, the environment, the folder, and the input and output of the caller. The script that users type is
started by the tests of `make run`.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Final

import orjson

from safevideo_cli.app import NOUNS, main
from safevideo_devstack.backends import die_with_parent

SECONDS: Final = 180.0

_CLIENT: Final = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int(server.recv(16) or b"1"))
"""

Run = Callable[..., CompletedProcess[str]]
"""Runs the command with these arguments; keywords change its environment."""


def command_runner(*before: str, **environment: str) -> Run:
    """Return a function that runs the command with `environment` and `PATH`, and nothing else of ours."""

    def run(*arguments: str, **changes: str) -> CompletedProcess[str]:
        return run_command([*before, *arguments], environment | changes)

    return run


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> CompletedProcess[str]:
    """Run the command to its end. Raises `TimeoutExpired` after `SECONDS`."""
    return subprocess.run(
        [command_path(), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@cache
def command_path() -> Path:
    """Return the path of a `safevideo` that starts at once, until this process ends. Its folder may be put on PATH."""
    folder = TemporaryDirectory(prefix="safevideo-")  # a short path, since that of a socket has at most 100 bytes
    path, client = Path(folder.name, "socket"), Path(folder.name, "safevideo")
    client.write_text(_CLIENT.format(python=sys.executable, path=str(path)))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, die_with_parent.__file__, str(os.getpid()), sys.executable, "-m", __name__, str(path)],
        stdout=subprocess.PIPE,
    )

    def stop() -> None:
        server.terminate()
        server.communicate()
        folder.cleanup()

    atexit.register(stop)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return client


def serve(path: str) -> None:
    """Serve commands until the process is ended."""
    for noun in NOUNS:
        import_module(f"safevideo_cli.{noun}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel removes children that have ended
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(connection)
            connection.close()


def _run(connection: socket.socket) -> None:
    """Run the command of one connection as this process; never return."""
    header, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as stream:
        arguments, folder, environment = orjson.loads(stream.read(int.from_bytes(header, "big")))
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["safevideo", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - shown as Python would show it
        code = 1
        sys.excepthook(*sys.exc_info())
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError):
            output.flush()
    connection.sendall(str(code).encode())
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
