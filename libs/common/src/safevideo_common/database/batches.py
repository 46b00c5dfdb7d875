"""Lists of keys, split into the size of one statement."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

MAX_KEYS_PER_STATEMENT: Final = 500
"""MariaDB plans `IN` lists of 1,000 and more in a slower way."""


Key = TypeVar("Key", str, int)
Item = TypeVar("Item")


def chunks(keys: Iterable[Key]) -> Iterator[list[Key]]:
    """Yield the distinct keys in ascending order, at most `MAX_KEYS_PER_STATEMENT` at a time.

    Every transaction locks rows in this order, so two of them never wait for each other in a deadlock.
    """
    yield from batched(sorted(set(keys)))


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in their order, at most `MAX_KEYS_PER_STATEMENT` at a time."""
    rest = iter(items)
    while batch := list(islice(rest, MAX_KEYS_PER_STATEMENT)):
        yield batch
