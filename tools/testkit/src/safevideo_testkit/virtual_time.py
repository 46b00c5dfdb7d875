"""Tests without waiting: an event loop whose clock jumps to the next timer when nothing else can run.

For code that neither uses a thread nor a socket: of work outside of the loop, the clock would take no notice.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Sequence
from typing import ParamSpec

P = ParamSpec("P")


def in_virtual_time(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test function in an event loop of its own with a virtual clock."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that waits for no timer."""

    def __init__(self) -> None:
        self._selector_with_clock = _SkippingSelector()
        super().__init__(self._selector_with_clock)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._selector_with_clock.now


class _SkippingSelector(selectors.DefaultSelector):
    """A selector that moves its clock instead of waiting for a timeout."""

    now = 0.0

    def select(self, timeout: float | None = None) -> "Sequence[tuple[selectors.SelectorKey, int]]":  # type: ignore[override]
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
        return ready
