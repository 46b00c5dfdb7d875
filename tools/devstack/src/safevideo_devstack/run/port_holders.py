"""Which process listens on a port, as far as the operating system tells this user (Linux: /proc)."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_LISTENING: Final = "0A"  # TCP_LISTEN, as in the column `st` of proc_net_tcp
_LONGEST_COMMAND: Final = 100


def holder_of(port: int, proc: Path = Path("/proc")) -> str:
    """For people: `process 123 (python -m http.server)`, or that it cannot be told."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    for process in proc.glob("[0-9]*"):
        if sockets & set(_open_files(process)):
            return f"process {process.name} ({_command(process)})"
    return "a process that this user cannot see" if sockets else "a process that cannot be told"


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    yield inode


def _open_files(process: Path) -> Iterator[str]:
    with suppress(OSError):  # another user's, or it has ended meanwhile
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                yield str(descriptor.readlink())


def _command(process: Path) -> str:
    with suppress(OSError):
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return "".join(character if character.isprintable() else "?" for character in words)[:_LONGEST_COMMAND]
    return "its command is not known"
