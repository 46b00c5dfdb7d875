"""Isolation of a process that reads hostile documents from the memory of others, on Linux."""

import ctypes
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9


def make_undumpable() -> None:
    """Forbid other processes of this user to read or trace this process, and the kernel to dump its memory.

    A program that this process starts may be dumped again, until it says the same. Root may read it still.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def give_up_privileges() -> None:
    """Do as `make_undumpable` does, gain no right by starting programs, and end with the thread that has started it."""
    make_undumpable()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
