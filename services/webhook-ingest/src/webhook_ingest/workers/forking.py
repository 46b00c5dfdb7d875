"""A process made by `fork`, from one that has neither a thread nor an event loop."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1


def forked(life: Callable[[], None], mask: Iterable[int]) -> int:
    """Run `life` in a new process and return its pid. The process ends with it, as `sys.exit` in it says.

    `mask` holds the signals that it has blocked. It gets SIGTERM when this process dies (on Linux).
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(life, mask, parent)
    return pid


def _live(life: Callable[[], None], mask: Iterable[int], parent: int) -> NoReturn:
    status = 1
    try:
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # until there is a handler; by default it would end the process
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _tether(parent)
        life()
        status = 0
    except SystemExit as end:
        status = _status(end)
    except BaseException:  # noqa: BLE001 - nothing may get back into the code of the parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _status(end: SystemExit) -> int:
    if isinstance(end.code, str):
        sys.stderr.write(f"{end.code}\n")
        return 1
    return end.code or 0


def _tether(parent: int) -> None:
    """Only Linux has one; elsewhere a parent that is killed leaves its workers running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the tether was tied
            sys.exit(1)
