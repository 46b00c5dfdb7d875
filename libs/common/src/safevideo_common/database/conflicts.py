"""Running a transaction again that met another one on the same rows."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from safevideo_common.errors import DatabaseConflict, DatabaseUnavailable
from safevideo_common.resilience.backoff import Backoff

CONFLICT_TRIES: Final = 5
CONFLICT_BACKOFF: Final = Backoff(initial=0.02, maximum=0.5)
"""Two transactions met on the same rows: the loser runs again at once, a little apart."""

_Result = TypeVar("_Result")


async def despite_conflicts(step: Callable[[], Awaitable[_Result]]) -> _Result:
    """The result of `step`, run again at once where another transaction was quicker. Raises `DatabaseUnavailable`."""
    for tries in range(1, CONFLICT_TRIES + 1):
        try:
            return await step()
        except DatabaseConflict:
            await asyncio.sleep(CONFLICT_BACKOFF.delay(tries))
    raise DatabaseUnavailable("other transactions were quicker each time")
