"""One examination for many callers: the health address is open to all, and must not become a way to flood the parts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final, Self

from gateway.handlers.health import Examined, Overall, Part, examine, overall
from safevideo_common.cancellation import ended
from safevideo_common.clock import Clock

FRESH_SECONDS: Final = 1.0
"""How long a result is given out before the parts are asked again."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the parts answered, and what follows for the whole."""

    asked_at: datetime
    parts: Sequence[Examined]
    state: Overall


class SharedExamination:
    """Asks the parts once at a time, and again once the answers are older than `FRESH_SECONDS`.

    An examination ends by itself, also when nobody waits for it any more; leaving the context cancels it.
    """

    def __init__(self, parts: Sequence[Part], clock: Clock, *, seconds: Callable[[], float] = monotonic) -> None:
        self._parts = parts
        self._clock = clock
        self._seconds = seconds
        self._latest: asyncio.Task[Examination] | None = None
        self._fresh_until = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        if self._latest is not None:
            await ended(self._latest)

    async def latest(self) -> Examination:
        """The running examination's result, or the last one's while it is fresh. Takes as long as the slowest part."""
        if self._latest is None or (self._latest.done() and self._seconds() >= self._fresh_until):
            self._latest = asyncio.create_task(self._examine(), name="health-examination")
        return await asyncio.shield(self._latest)  # a caller that goes away must not end it for the others

    async def _examine(self) -> Examination:
        asked_at = self._clock()
        parts = await examine(self._parts)
        self._fresh_until = self._seconds() + FRESH_SECONDS
        return Examination(asked_at, parts, overall(parts))
