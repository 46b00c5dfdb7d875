"""The interface for authors of job types: a handler, the context of one attempt, and the errors."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class JobInterrupted(Exception):
    """Base of the errors that stop an attempt from outside. A handler does not catch them."""


class LeaseLost(JobInterrupted):
    """Another worker has the job, or an operator has reset it. This attempt writes nothing from now on."""


class JobCancelled(JobInterrupted):
    """Cancellation of the job was requested."""


class JobShutdown(JobInterrupted):
    """The worker shuts down. The job returns to the queue with its last saved cursor."""


class PermanentJobError(Exception):
    """A failure that no retry can fix: the job fails at once. The message is a sentence without values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RetryableJobError(Exception):
    """A failure that a later attempt may not have. The message is a sentence without values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class JobGate(Protocol):
    """A dependency of some job types: while it is unavailable, jobs of these types are not claimed."""

    @property
    def changed(self) -> list[Callable[[], None]]:
        """Return the functions that are called when `capacity` may have risen."""
        ...

    def capacity(self) -> int | None:
        """Return how many jobs of one type may run at once in this process; None without a limit. Without I/O."""
        ...


class JobContext(Protocol):
    """An attempt of a job, as its handler sees it."""

    @property
    def job_id(self) -> int:
        """The id of the row."""
        ...

    @property
    def job_type(self) -> str:
        """The type under which the handler is registered."""
        ...

    @property
    def parameters(self) -> Mapping[str, object]:
        """The parameters of the job. Check them, and raise `PermanentJobError` if they are invalid."""
        ...

    @property
    def cursor(self) -> Mapping[str, object] | None:
        """The cursor that the last step saved, also in an earlier attempt. None in a new run."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        ...

    @property
    def request_id(self) -> str | None:
        """The id of the request that enqueued the job."""
        ...

    @property
    def is_shutting_down(self) -> bool:
        """True if the worker shuts down: the next `step` or `raise_if_stopped` raises `JobShutdown`."""
        ...

    def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction for a part of the work. It saves the progress too: both are committed, or neither.

        The next attempt continues at `cursor`. `processed` and `total` count items since the beginning. An argument
        that is None changes nothing. A step renews the lease, and must end within the lease's time.

        Raises `LeaseLost` or `JobCancelled` before any work is done, and `JobShutdown` after the commit. Raises the
        errors of the database; let them pass, and the next attempt continues at the last step.
        """
        ...

    async def checkpoint(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None:
        """Save the progress at the end of a transaction of the handler, for a handler with several at once.

        The row of the job stays locked until the commit, so the commit must follow directly. Raises `LeaseLost` or
        `JobCancelled`; then the handler must roll back.
        """
        ...

    async def raise_if_stopped(self) -> None:
        """Raise `LeaseLost`, `JobCancelled` or `JobShutdown` if the attempt must end.

        Call it every few seconds of work without steps. It reads the row at most once a second.
        """
        ...


class JobHandler(Protocol):
    """The work of one job type. An attempt may repeat the work after the last step, so each step must allow that."""

    async def run(self, job: JobContext) -> Mapping[str, object] | None:
        """Do the work, and return its result, which every reader of the table sees.

        Raises `PermanentJobError` to fail at once. A `Deferral` uses no attempt and keeps the cursor; every other error
        leads to a retry. Blocking work runs in a thread
        (`asyncio.to_thread`), because the event loop renews the leases of all jobs of the process.
        """
        ...
