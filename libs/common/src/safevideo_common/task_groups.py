"""What a group of tasks says when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def first_error() -> Iterator[None]:
    """Around an `asyncio.TaskGroup`: raise the error of the task that failed first, in place of a group of errors."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
