"""Runs a command that dies with its parent: `python die_with_parent.py PARENT_PID COMMAND…`.

A test run that is killed cannot stop its servers, so the kernel does. A pre-exec function would do the same, but may
deadlock in a process that has threads. The kernel watches the thread that started the command: it must live as long
as the parent.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become `command`. Only Linux ends it with the parent; elsewhere it outlives a parent that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
