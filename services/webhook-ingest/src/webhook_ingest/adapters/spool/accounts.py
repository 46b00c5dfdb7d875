"""What is in the spool and what is on its way there, counted on the event loop."""

from collections.abc import Iterable, Mapping
from typing import Final

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS, size_of
from safevideo_common.messaging.port import Message

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RECORD_BYTES: Final = 512
"""What a record has beyond key and value, about, until it is written and weighed."""


class Accounts:
    """`keys` has each key of which anything is in the spool or on its way: the number of its events.

    What was written and turns out to be unreadable is never counted out; `settle` mends that when the spool is empty.
    """

    def __init__(self, max_bytes: int) -> None:
        self.keys: dict[bytes, int] = {}
        self.events = 0
        """On disk and not delivered."""
        self.entered = 0
        """Events that were ever counted in."""
        self._max_bytes = max_bytes
        self._waiting = 0
        self._waiting_bytes = 0

    def enter(self, message: Message, disk_bytes: int) -> None:
        """It is to be written. Raises `LogUnavailable` when the spool would grow too large, or too much waits."""
        size = size_of(message) + RECORD_BYTES
        self.check_room(disk_bytes + size)
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise LogUnavailable("Too many messages await the disk.", retry_after=RETRY_AFTER_SECONDS)
        self._waiting += 1
        self._waiting_bytes += size
        self.entered += 1
        self.keys[message.key] = self.keys.get(message.key, 0) + 1

    def check_room(self, disk_bytes: int) -> None:
        """Raises `LogUnavailable` when the spool, with `disk_bytes` on disk, would be too large."""
        if disk_bytes + self._waiting_bytes > self._max_bytes:
            raise LogUnavailable("The event log is away and the spool is full.", retry_after=RETRY_AFTER_SECONDS)

    def written(self, messages: Iterable[Message]) -> None:
        """They wait no longer: they are on disk."""
        self.events += self._waited(messages)

    def refused(self, messages: Iterable[Message]) -> None:
        """They wait no longer: the disk did not take them."""
        messages = list(messages)
        self._waited(messages)
        self._forget(messages)

    def adopted(self, keys: Mapping[bytes, int]) -> None:
        """These lie on disk already."""
        found = sum(keys.values())
        self.events += found
        self.entered += found
        for key, events in keys.items():
            self.keys[key] = self.keys.get(key, 0) + events

    def left(self, messages: Iterable[Message]) -> None:
        """The log has them."""
        self.events -= self._forget(messages)

    def settle(self) -> None:
        """Nothing is in the spool or on its way."""
        self.events = 0
        self.keys.clear()

    def _waited(self, messages: Iterable[Message]) -> int:
        sizes = [size_of(message) + RECORD_BYTES for message in messages]
        self._waiting -= len(sizes)
        self._waiting_bytes -= sum(sizes)
        return len(sizes)

    def _forget(self, messages: Iterable[Message]) -> int:
        forgotten = 0
        keys = self.keys
        for message in messages:
            forgotten += 1
            if (others := keys.get(message.key, 1) - 1) > 0:
                keys[message.key] = others
            else:
                keys.pop(message.key, None)
        return forgotten
