"""Lists of keys, cut to what one statement takes."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

MAX_KEYS_PER_STATEMENT: Final = 500
"""MariaDB plans `IN` lists of 1,000 and more in another, slower way."""


def chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    """The distinct keys in ascending order, at most `MAX_KEYS_PER_STATEMENT` at a time.

    The order is everybody's order, so that transactions that lock the same rows wait for each other, and no two do so
    in a ring.
    """
    rest = iter(sorted(set(keys)))
    while chunk := list(islice(rest, MAX_KEYS_PER_STATEMENT)):
        yield chunk
