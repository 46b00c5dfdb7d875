"""Retries: the one owner of waits between the tries of a call.

- A call is tried again only if it is repeatable and its failure may pass (`RULES` in `errors.py`).
- The wait is random between 0 and an exponential ceiling (full jitter), and at least what `Retry-After` says.
- A wait over 5 s raises `RetryLater`: the job gives its slot back. A wait past the deadline raises the failure.
- Concurrent retries are at most a tenth of the active calls of the process, but 3 are always allowed.
- A rejection by the breaker, fallback mode or our own queue is not retried.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

from safevideo_common.sharegram.errors import CallError, FailureReason, RetryLater
from safevideo_common.sharegram.layers import CallLayer
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import OutgoingCall

MAX_WAIT_SECONDS: Final = 5.0
RETRY_SHARE: Final = 0.1
MIN_CONCURRENT_RETRIES: Final = 3
BUDGET_WAITS: Final = 20
"""Waits for a token of the rate budget, which are no retries: nothing was sent."""


@dataclass(frozen=True, slots=True)
class CallRetryPolicy:
    """The contract's §10: `maxRetries`, `initialDelay`, `maxDelay`, `backoffMultiplier`; delays in seconds here."""

    max_retries: int = 5
    initial_delay: float = 2.0
    max_delay: float = 60.0
    multiplier: float = 2.0

    def ceiling(self, retry: int) -> float:
        """Return the longest delay before this retry; 1 is the first."""
        return min(self.max_delay, self.initial_delay * self.multiplier ** (retry - 1))


class RetryBudget:
    """The bound on concurrent retries of the process (Envoy's `retry_budget`)."""

    def __init__(self) -> None:
        self.active_calls = 0
        self._retrying = 0

    def acquire(self) -> bool:
        """Return True if one more retry may begin; `release` ends it."""
        if self._retrying >= max(MIN_CONCURRENT_RETRIES, self.active_calls * RETRY_SHARE):
            return False
        self._retrying += 1
        return True

    def release(self) -> None:
        """End a retry."""
        self._retrying -= 1


class Retries:
    """Sends a call until it succeeds, or until its failure is final."""

    def __init__(
        self,
        below: CallLayer,
        policy: CallRetryPolicy,
        metrics: SharegramMetrics,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._below = below
        self._policy = policy
        self._metrics = metrics
        self._sleep = sleep
        self._uniform = uniform
        self._budget = RetryBudget()

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `RetryLater`, or the failure of the last try."""
        self._budget.active_calls += 1
        try:
            return await self._send(call)
        finally:
            self._budget.active_calls -= 1

    async def _send(self, call: OutgoingCall) -> object:
        try:
            return await self._below.send(call)
        except CallError as failure:
            last = failure
        retries = waits = 0
        while True:
            if last.reason is FailureReason.BUDGET:
                waits += 1
                is_retry = False
            else:
                retries += 1
                is_retry = True
            self._check(call, last, retries, waits)
            seconds = self._delay(last, retries)
            self._check_wait(call, last, seconds)
            if is_retry and not self._acquire(call):
                raise last
            try:
                await self._sleep(seconds)
                return await self._below.send(call)
            except CallError as failure:
                last = failure
            finally:
                if is_retry:
                    self._budget.release()

    def _check(self, call: OutgoingCall, failure: CallError, retries: int, waits: int) -> None:
        """Raise `failure` if there is no further try. A call that waits for the budget was not sent yet."""
        if not failure.rule.is_transient or retries > self._policy.max_retries or waits > BUDGET_WAITS:
            raise failure
        if failure.reason is not FailureReason.BUDGET and not call.is_repeatable:
            raise failure

    def _delay(self, failure: CallError, retry: int) -> float:
        if failure.reason is FailureReason.STALE_CONNECTION:
            return 0.0  # the next try opens a connection
        if failure.reason is FailureReason.BUDGET:
            return float(failure.retry_after or 0)
        jittered = self._uniform(0.0, self._policy.ceiling(retry))
        return max(jittered, failure.retry_after or 0.0)

    def _check_wait(self, call: OutgoingCall, failure: CallError, seconds: float) -> None:
        if seconds > MAX_WAIT_SECONDS:
            raise RetryLater(failure, ceil(seconds)) from failure
        if asyncio.get_running_loop().time() + seconds >= call.caller.deadline:
            raise failure

    def _acquire(self, call: OutgoingCall) -> bool:
        is_allowed = self._budget.acquire()
        self._metrics.count_retry(call.operation.name, is_allowed=is_allowed)
        return is_allowed
