"""Messages on their way to the log, oldest first; when one fails, all can be called back in one step."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable

BEFORE_PUBLISHER_SECONDS: Final = 0.1
"""By so much is our deadline before the publisher's own, which fails one message after the other: between two failures
it could still send a later message of the same key. Calling all back in one step leaves no such gap."""

Task = asyncio.Task[Any]  # what the task is about is its owner's business


class PublishRecalled(Exception):
    """The message was called back before it was acknowledged. The log may have it all the same, or get it later."""


class InFlightPublishes:
    """Publishes through `publisher`. A task has one message in the air at a time.

    It is in the way of every message, and costs each less than a microsecond: `docs/adr/0006` says why it is there.
    """

    def __init__(self, publisher: Producer, on_failure: Callable[[], None], seconds: float) -> None:
        """`on_failure` is called as soon as one has failed, or had no acknowledgement for `seconds`.

        It must call back the others: whatever they are, they must not overtake the one that failed.
        """
        self._publisher = publisher
        self._on_failure = on_failure
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._aloft: dict[Task, tuple[float, Message, int]] = {}
        self._called_back: dict[Task, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, message: Message) -> tuple[TopicPartition, int]:
        """Partition and offset, once the log has it. Raises `PublishRecalled`, and whatever else publishing raises."""
        task: Task = asyncio.current_task(self._loop)  # type: ignore[assignment]  # a coroutine that runs has one
        self._aloft[task] = (self._loop.time(), message, task.cancelling())
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check)
        try:
            return await self._publisher.publish(message)
        except BrokerUnavailable as failure:
            self._on_failure()
            raise PublishRecalled from failure
        except asyncio.CancelledError:
            if self._is_ours(task):
                raise PublishRecalled from None
            raise
        finally:
            self._aloft.pop(task, None)

    def call_back(self) -> Sequence[tuple[Task, Message]]:
        """Recall all publishes in flight, oldest first, with their tasks; `send` raises `PublishRecalled` in each."""
        aloft, self._aloft = self._aloft, {}
        failed = asyncio.current_task(self._loop)  # the one whose failure this is about knows already
        for task, (_, _, cancellations) in aloft.items():
            if task is not failed:
                self._called_back[task] = cancellations
                task.cancel()  # it ends the future that it waits for at once, so the publisher sends it no more
        return [(task, message) for task, (_, message, _) in aloft.items()]

    def close(self) -> None:
        """Watch the time no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        if not self._aloft:
            return
        since, _, _ = next(iter(self._aloft.values()))
        if (left := since + self._seconds - self._loop.time()) > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._on_failure()

    def _is_ours(self, task: Task) -> bool:
        """Whether we alone cancelled it since its start; then that is undone."""
        cancellations = self._called_back.pop(task, None)
        return cancellations is not None and task.uncancel() <= cancellations
