"""The memory of the service, which has its keys, and a converter of documents that somebody has taken over."""

import subprocess
import sys
from errno import EACCES, EPERM
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, os, sys
from gateway.documents.isolation import make_undumpable

class Range(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

libc = ctypes.CDLL(None, use_errno=True)
secret = ctypes.create_string_buffer(b"a secret")
address, pid = ctypes.addressof(secret), os.getpid()
if os.geteuid() == 0:  # who may read everything
    os.setuid(65534)
libc.prctl(4, 1, 0, 0, 0)  # as a program is when it starts
if sys.argv[1] == "protected":
    make_undumpable()
if os.fork() == 0:
    ctypes.memset(address, 0, 8)
    found = ctypes.create_string_buffer(8)
    here, there = Range(ctypes.addressof(found), 8), Range(address, 8)
    count = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    print(found.raw.decode() if count == 8 else ctypes.get_errno())
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            print(memory.read(8).decode())
    except OSError as error:
        print(error.errno)
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
CONVERTER = """
import os, signal, socket
from gateway.documents.isolation import give_up_privileges, refuse_system_calls

give_up_privileges()
refuse_system_calls()
parent = os.getppid()
for call in (
    lambda: os.kill(parent, signal.SIGTERM),
    lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
    lambda: os.sched_setaffinity(parent, {0}),
    lambda: os.execv("/bin/true", ["true"]),
    socket.socket,
    lambda: print(len(os.urandom(4))),
):
    try:
        call()
    except OSError as error:
        print(error.errno)
"""
SERVICE = """
import ctypes
from gateway.__main__ import main
try:
    main()
except SystemExit:
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")


def run(program: str, *arguments: str) -> list[str]:
    """Return the lines that a program has printed."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True, env={}).stdout.split(
        "\n"
    )[:-1]


def test_child_of_a_protected_process_cannot_read_its_memory() -> None:
    first, second = run(PROGRAM, "protected")
    assert int(first) in {EPERM, EACCES}
    assert int(second) in {EPERM, EACCES}


@pytest.mark.parametrize("is_allowed", [not SCOPE.exists() or SCOPE.read_text().strip() == "0"])
def test_child_of_another_process_can_unless_the_whole_machine_forbids_it(is_allowed: bool) -> None:
    assert (run(PROGRAM, "as it is") == ["a secret"] * 2) == is_allowed


def test_converter_reaches_no_other_process_program_or_network() -> None:
    assert run(CONVERTER) == [str(EPERM)] * 5 + ["4"]


def test_service_is_protected_from_its_start() -> None:
    assert run(SERVICE)[-1] == "0"
