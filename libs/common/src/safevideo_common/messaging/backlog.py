"""The bound on what a publisher has accepted and not yet seen acknowledged."""

from typing import Final

from safevideo_common.errors import LogUnavailable, PayloadTooLarge
from safevideo_common.messaging.port import MAX_VALUE_BYTES, Message

MAX_MESSAGES: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024
RETRY_AFTER_SECONDS: Final = 5


class Backlog:
    """Counts messages and bytes: an outage costs a bounded amount of memory, and beyond it is refused at once."""

    __slots__ = ("_bytes", "_max_bytes", "_max_messages", "_messages")

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0

    def admit(self, size: int, messages: int = 1) -> None:
        """Count in messages of together `size` bytes. Raises `LogUnavailable` when there is not room for all."""
        if self._messages + messages > self._max_messages or self._bytes + size > self._max_bytes:
            raise LogUnavailable("Too many messages await the event log.", retry_after=RETRY_AFTER_SECONDS)
        self._messages += messages
        self._bytes += size

    def release(self, messages: int, size: int) -> None:
        """Count out messages of together `size` bytes, acknowledged or given up."""
        self._messages -= messages
        self._bytes -= size


def check_size(message: Message) -> None:
    """Raises `PayloadTooLarge` for a value over `MAX_VALUE_BYTES`."""
    if len(message.value) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"A message holds at most {MAX_VALUE_BYTES} bytes.")


def size_of(message: Message) -> int:
    """Bytes that it keeps in memory, about: headers are bounded by those who write them."""
    return len(message.value) + len(message.key)
