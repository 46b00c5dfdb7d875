"""What a type of job is made of: a handler, and what a run offers to it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class JobInterrupted(Exception):
    """Base of what ends a run from outside. A handler lets it pass; the engine knows what to write."""


class LeaseLost(JobInterrupted):
    """Another worker has the job, or an operator has reset it: this run writes nothing any more."""


class JobCancelled(JobInterrupted):
    """Somebody has asked for it."""


class JobShutdown(JobInterrupted):
    """The worker stops: the job goes back to the queue with what it has saved."""


class PermanentJobError(Exception):
    """Trying again would not help: the job fails at once. The message is a sentence without values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RetryableJobError(Exception):
    """It may go better later: the job is put off, at most for as many tries as it has. Likewise without values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class JobContext(Protocol):
    """One try of a job, as its handler sees it."""

    @property
    def job_id(self) -> int:
        """The row's id."""
        ...

    @property
    def job_type(self) -> str:
        """As it was registered."""
        ...

    @property
    def parameters(self) -> Mapping[str, object]:
        """As they were asked for; check them, and raise `PermanentJobError` for what makes no sense."""
        ...

    @property
    def cursor(self) -> Mapping[str, object] | None:
        """Where the last try left off, None in a fresh run; after a step it is what the step has saved."""
        ...

    @property
    def tries(self) -> int:
        """Which try this is, from 1."""
        ...

    @property
    def request_id(self) -> str | None:
        """Of the request that asked for the job."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether the worker is about to stop: the next checkpoint raises `JobShutdown`."""
        ...

    def step(
        self, cursor: Mapping[str, object] | None = None, *, processed: int | None = None, total: int | None = None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction of the work's own, which also saves how far the work is: both are committed, or neither.

        `cursor` is where the next try goes on, `processed` and `total` are items since the beginning; what is None
        stays as it was. It extends the lease, so it must be over within the lease's time. Raises `LeaseLost` or
        `JobCancelled` before anything is done; `JobShutdown` after the commit, when the worker stops; and the errors of
        the database, on which the job is put off and goes on at its last step.
        """
        ...

    async def seal(
        self,
        tx: AsyncConnection,
        cursor: Mapping[str, object] | None = None,
        *,
        processed: int | None = None,
        total: int | None = None,
    ) -> None:
        """What a step does, at the end of a transaction of the handler's own: for one that works in several at once.

        Others at this job wait from here to its commit, so nothing but that may follow. Raises `LeaseLost` or
        `JobCancelled`: then the transaction must fail.
        """
        ...

    async def check(self) -> None:
        """A checkpoint between steps: raises `LeaseLost`, `JobCancelled` or `JobShutdown`. It costs next to nothing.

        Call it every few seconds of work that has no steps.
        """
        ...


class JobHandler(Protocol):
    """Does jobs of one type. A job may be run again from its last step, whatever died, so a step must stand that."""

    async def run(self, job: JobContext) -> Mapping[str, object] | None:
        """Do the work and return its result, which everybody sees who sees the table.

        Raises `PermanentJobError` to fail at once; whatever else it raises is tried again later. Work that blocks goes
        off the event loop (`asyncio.to_thread`): the lease of every job in this process is extended on it.
        """
        ...
