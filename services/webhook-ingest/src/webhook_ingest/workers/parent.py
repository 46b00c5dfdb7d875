"""The parent: it keeps its workers alive until it is told to stop, and ends when the last of them has."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.workers.forking import forked
from webhook_ingest.workers.heartbeats import Heartbeats

FIRST_DELAY_SECONDS: Final = 0.2
MOST_DELAY_SECONDS: Final = 30.0
"""A worker that dies is started again after 0.2 s, then twice as late each time, up to this; give or take a quarter."""

SOUND_SECONDS: Final = 60.0
"""A worker that lived so long had no trouble with its start: the delays begin anew."""

_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_PASSED_ON: Final = frozenset({signal.SIGHUP, signal.SIGUSR2})
_SIGNALS: Final = _STOP | _PASSED_ON | {signal.SIGCHLD}


@dataclass(slots=True)
class _Life:
    number: int
    began: float


class Parent:
    """Owns the workers 1 to `count`. `run(number)` is the life of one, in a process of its own."""

    def __init__(
        self,
        count: int,
        run: Callable[[int], None],
        heartbeats: Heartbeats,
        *,
        stop_seconds: float,
        log: FilteringBoundLogger,
    ) -> None:
        """`stop_seconds` is what they get to end once told; after that they are killed."""
        self._run = run
        self._heartbeats = heartbeats
        self._stop_seconds = stop_seconds
        self._log = log
        self._lives: dict[int, _Life] = {}
        self._due = dict.fromkeys(range(1, count + 1), 0.0)
        """Workers that do not run, and when each is to be started (monotonic seconds)."""
        self._deaths = dict.fromkeys(self._due, 0)

    def run_until_told(self, reopen_log: Callable[[], None]) -> bool:
        """Return after SIGTERM or SIGINT, once all have ended; False when some had to be killed.

        SIGHUP is passed on, and `reopen_log` called here; so is SIGUSR2: the memory that matters is the workers'.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            while (found := self._step(mask)) not in _STOP:
                if found == signal.SIGHUP:
                    reopen_log()
                if found in _PASSED_ON:
                    self._tell(found)
            return self._stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _step(self, mask: set[int]) -> int | None:
        for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
            del self._due[number]
            self._heartbeats.beat(number)  # from now on it has the time that one without a sign of life has
            pid = forked(lambda number=number: self._run(number), mask)  # type: ignore[misc]  # bound in the loop
            self._lives[pid] = _Life(number, time.monotonic())
        self._kill_silent()
        found = _next_signal(min([*self._due.values(), time.monotonic() + self._heartbeats.look_seconds]))
        for life, pid, status in self._ended():
            self._start_later(life, pid, status)
        return found

    def _kill_silent(self) -> None:
        """Whoever hangs takes no other signal. What it has answered is safe, and it is started again like any other."""
        pids = {life.number: pid for pid, life in self._lives.items()}
        for number in self._heartbeats.silent(list(pids)):
            self._log.error("Worker hangs, it is killed", code="WORKER_HUNG", worker=number, pid=pids[number])
            os.kill(pids[number], signal.SIGKILL)

    def _ended(self) -> list[tuple[_Life, int, int]]:
        """Who has ended; what is not one of ours (a container's first process inherits orphans) is only reaped."""
        ended = []
        while pid_and_status := _reaped():
            pid, status = pid_and_status
            if life := self._lives.pop(pid, None):
                ended.append((life, pid, status))
        return ended

    def _start_later(self, life: _Life, pid: int, status: int) -> None:
        now = time.monotonic()
        self._deaths[life.number] = 0 if now - life.began >= SOUND_SECONDS else self._deaths[life.number] + 1
        delay = delay_seconds(self._deaths[life.number])
        self._due[life.number] = now + delay
        self._log.error(
            "Worker died", code="WORKER_DIED", worker=life.number, pid=pid, status=status, again_in=round(delay, 1)
        )

    def _tell(self, number: int) -> None:
        for pid in self._lives:
            os.kill(pid, number)  # who has ended and is not reaped yet does not mind

    def _stop(self) -> bool:
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_seconds
        while self._lives and time.monotonic() < deadline:
            _next_signal(deadline)
            self._ended()
        in_order = not self._lives
        self._tell(signal.SIGKILL)
        for pid in self._lives:
            os.waitpid(pid, 0)
        return in_order


def delay_seconds(deaths: int) -> float:
    """Before a worker that died so many times in a row is started again."""
    most = min(MOST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(deaths - 1, 10)) if deaths else FIRST_DELAY_SECONDS
    return most * random.uniform(0.75, 1.25)  # noqa: S311 - workers that died together shall not start together


def _next_signal(until: float) -> int | None:
    found = signal.sigtimedwait(_SIGNALS, max(0.0, until - time.monotonic()))
    return found.si_signo if found else None


def _reaped() -> tuple[int, int] | None:
    """Pid and exit status (negative: the signal) of a child that has ended."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None
