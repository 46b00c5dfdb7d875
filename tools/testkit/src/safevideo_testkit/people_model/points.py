"""The numbered I/O of one replica, and what happens at a chosen number: a fault, or a stop until another ended.

A point is a statement, a commit, a command of Redis, a call of the store of documents, or a call of Sharegram.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, NoReturn, TypeVar

Result = TypeVar("Result")


class Kind(StrEnum):
    """The kind of an I/O."""

    STATEMENT = "statement"
    COMMIT = "commit"
    REDIS = "redis"
    FILE = "file"
    HTTP = "http"


class Fault(StrEnum):
    """The event at a point. The last three come after the effect, of which the caller hears nothing."""

    DISCONNECTED = "disconnected"
    TIMED_OUT = "timed out"
    DEADLOCK = "deadlock"
    CANCELLED = "cancelled"
    KILLED = "killed"
    UNANSWERED = "unanswered"
    CANCELLED_AFTER = "cancelled after"
    KILLED_AFTER = "killed after"

    def __repr__(self) -> str:
        """Return what can be pasted into a test."""
        return str(self.__class__.__name__) + "." + self.name


AFTER: Final = frozenset({Fault.UNANSWERED, Fault.CANCELLED_AFTER, Fault.KILLED_AFTER})
_BEFORE: Final = (Fault.DISCONNECTED, Fault.TIMED_OUT, Fault.CANCELLED, Fault.KILLED)
FAULTS: Final = {
    # A statement whose transaction is lost had no effect, so after it is as before it.
    Kind.STATEMENT: (*_BEFORE, Fault.DEADLOCK),
    Kind.COMMIT: (*_BEFORE, Fault.DEADLOCK, *sorted(AFTER)),
    Kind.REDIS: (*_BEFORE, *sorted(AFTER)),
    Kind.FILE: (*_BEFORE, *sorted(AFTER)),
    Kind.HTTP: (*_BEFORE, *sorted(AFTER)),
}
"""The faults that are tried at each kind of point."""


class Killed(BaseException):
    """The process is dead: nothing of it has an effect any more. No handler of an error catches it."""


class Point(NamedTuple):
    """An I/O of an operation."""

    kind: Kind
    text: str


Raise = Callable[[Fault], NoReturn]
"""Raises the error that the client of a dependency raises for a fault."""


@dataclass(slots=True)
class Points:
    """The points of a replica in the order in which they are reached, from the last `begin`."""

    reached: list[Point] = field(default_factory=list)
    fault_at: int | None = None
    fault: Fault | None = None
    stop_at: int | None = None
    is_stopped: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    is_dead: bool = False
    in_progress: Point | None = None
    _task: "asyncio.Task[object] | None" = None

    def begin(self, *, fault_at: int | None = None, fault: Fault | None = None, stop_at: int | None = None) -> None:
        """Count from 0 again, with something that happens at a number, or nothing."""
        self.reached = []
        self.fault_at, self.fault, self.stop_at = fault_at, fault, stop_at
        self.is_stopped, self.go_on = asyncio.Event(), asyncio.Event()
        self.is_dead, self.in_progress = False, None
        self._task = asyncio.current_task()

    def own(self, task: "asyncio.Task[object] | None") -> None:
        """Say which task runs the operation: the one that a cancellation reaches."""
        self._task = task

    async def before(self, kind: Kind, text: str, fail: Raise) -> Fault | None:
        """Come to a point. Return the fault that follows its effect, if there is one."""
        if self.is_dead:
            raise Killed
        number = len(self.reached)
        self.in_progress = Point(kind, text)
        self.reached.append(self.in_progress)
        if number == self.stop_at:
            self.is_stopped.set()
            await self.go_on.wait()
        if number != self.fault_at or self.fault is None:
            return None
        if self.fault in AFTER:
            return self.fault
        return await self.happen(self.fault, fail)

    async def happen(self, fault: Fault, fail: Raise) -> NoReturn:
        """Let a fault happen."""
        if fault in (Fault.KILLED, Fault.KILLED_AFTER):
            self.is_dead = True
            raise Killed
        if fault in (Fault.CANCELLED, Fault.CANCELLED_AFTER):
            assert self._task is not None
            self._task.cancel()
            await asyncio.Event().wait()
        fail(fault)

    async def around(self, kind: Kind, text: str, effect: Callable[[], Awaitable[Result]], fail: Raise) -> Result:
        """Come to a point, have its effect, and return its result."""
        afterwards = await self.before(kind, text, fail)
        result = await effect()
        if afterwards is not None:
            await self.happen(afterwards, fail)
        self.in_progress = None
        return result
