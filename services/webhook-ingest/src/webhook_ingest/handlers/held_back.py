"""Answers that a suspect has to wait for."""

import asyncio


class HeldBack:
    """Holds back at most `places` answers at a time, each for `seconds`. Whoever finds no place is answered at once."""

    def __init__(self, *, places: int, seconds: float) -> None:
        self._places = places
        self._seconds = seconds

    async def hold(self) -> None:
        """Return when the answer may go out."""
        if self._places <= 0:
            return
        self._places -= 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self._places += 1
