"""Isolation of a process that reads hostile documents from the memory of others, on Linux."""

import ctypes
import errno
import os
import struct
import sys
from typing import Final, NamedTuple

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_SIGKILL: Final = 9

# Classic BPF over `struct seccomp_data`: the number of the call, then the architecture.
_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_RETURN: Final = 0x06
_NUMBER_AT: Final = 0
_ARCHITECTURE_AT: Final = 4
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_X32: Final = 0x40000000
"""From here on, calls of x86-64 by other numbers."""


class _Machine(NamedTuple):
    """An architecture, and the numbers of the system calls that are refused on it."""

    architecture: int
    refused: tuple[int, ...]


_MACHINES: Final = {
    "x86_64": _Machine(
        0xC000003E,
        (
            *(62, 200, 234, 129, 297, 424, 434, 438),  # signals to others: kill, tkill, tgkill, …, pidfd_…
            *(101, 310, 311, 312, 440, 448, 256, 279),  # memory of others: ptrace, process_vm_…, kcmp, move_pages, …
            *(141, 302, 203, 144, 142, 314, 251),  # limits and priority of others: setpriority, prlimit64, sched_…
            *(41, 53, 57, 58, 59, 322),  # socket, socketpair, fork, vfork, execve, execveat
            *(425, 298, 321, 323, 250, 248, 249),  # io_uring_setup, perf_event_open, bpf, userfaultfd, keys
        ),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (
            *(129, 130, 131, 138, 240, 424, 434, 438),
            *(117, 270, 271, 272, 440, 448, 238, 239),
            *(140, 261, 122, 119, 118, 274, 30),
            *(198, 199, 221, 281),
            *(425, 241, 280, 282, 219, 217, 218),
        ),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


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


def refuse_system_calls() -> None:
    """Refuse the calls that reach other processes, programs or networks. For a process without privileges to gain.

    Where the kernel or the architecture has no filter, all other limits hold still.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or sys.platform != "linux":
        return
    checks = [(_JUMP_IF_AT_LEAST, _X32), *((_JUMP_IF_EQUAL, number) for number in machine.refused)]
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 0, len(checks) + 2, machine.architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((code, len(checks) - index, 0, value) for index, (code, value) in enumerate(checks)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    program = _Program(len(instructions), b"".join(struct.pack("HBBI", *each) for each in instructions))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
