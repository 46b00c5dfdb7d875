"""The ports of the protections around a call to Sharegram, and defaults that protect from nothing.

`resilience` implements them for the whole fleet. The defaults serve tests, and commands that a person runs once.
"""

from datetime import datetime
from typing import Protocol


class BreakerPermit(Protocol):
    """The right to send one call. Exactly one of its methods is called, once. None of them waits or raises."""

    def succeed(self) -> None:
        """Report that Sharegram answered as it should; an error in the caller's own request counts as that."""
        ...

    def fail(self) -> None:
        """Report a failure of Sharegram: no answer in time, 429, 5xx, or a body that is not JSON."""
        ...

    def release(self) -> None:
        """Give the permit back without a statement: the call was cancelled, or never reached Sharegram."""
        ...


class CallBreaker(Protocol):
    """A circuit breaker as the client uses it."""

    async def acquire(self, seconds: float) -> BreakerPermit:
        """Return a permit for a call that takes at most `seconds`; the lease of a probe outlives them.

        Raises `CircuitBreakerOpen`. Without I/O while the breaker is closed or open; one round trip while half-open.
        """
        ...


class FallbackSwitch(Protocol):
    """Fallback mode as the client reads it."""

    def until(self) -> datetime | None:
        """Return the time at which fallback mode ends; None while it is off. Without I/O."""
        ...


class CallBudget(Protocol):
    """The rate budget towards Sharegram, shared by all processes."""

    async def take(self) -> float:
        """Take a token and return 0. Without a token, return the seconds until there is one and take nothing."""
        ...

    def hold(self, seconds: float) -> None:
        """Stop giving tokens to any process for `seconds`: Sharegram said `Retry-After`. Does not wait or raise."""
        ...


class NoBreaker:
    """A breaker that is always closed, and its permit."""

    async def acquire(self, seconds: float) -> BreakerPermit:
        """Return itself."""
        del seconds
        return self

    def succeed(self) -> None:
        """Do nothing."""

    def fail(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


class NoFallback:
    """A fallback mode that is always off."""

    def until(self) -> datetime | None:
        """Return None."""
        return None


class NoBudget:
    """A budget without a limit."""

    async def take(self) -> float:
        """Return 0."""
        return 0.0

    def hold(self, seconds: float) -> None:
        """Do nothing."""
