"""The layers around one call, from the outside in; each knows only the next.

    CallMetrics         count, measure, log
    FallbackGate        no call leaves while fallback mode is on
    CredentialsGate     one call a minute while Sharegram refuses our credentials
    Retries             retry.py: the one owner of waits between tries
    ConcurrencyLimit    concurrency.py: a place among the calls in flight
    BreakerLayer        a permit of the circuit breaker
    BudgetLayer         a token of the rate budget
    TryTimeout          the time of one try
    ResponseReader      http.py: status and body become a result or an error
    SigningTransport    http.py: headers and signature, anew for each try
    HttpTransport       transport.py: one HTTP request

The deadline of the caller travels with the call; each layer that waits ends before it.
"""

import asyncio
from math import ceil
from time import perf_counter
from typing import Protocol

from safevideo_common.clock import Clock, rfc3339
from safevideo_common.errors import FallbackActive, SafeVideoError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.errors import (
    CREDENTIALS_SECONDS,
    MAX_RETRY_AFTER,
    CallError,
    CredentialsRejected,
    FailureReason,
    RetryLater,
    SharegramUnavailable,
)
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import HEALTH_SECONDS, OutgoingCall
from safevideo_common.sharegram.port import CallBreaker, CallBudget, FallbackSwitch


class CallLayer(Protocol):
    """A layer, or the chain that begins with it."""

    async def send(self, call: OutgoingCall) -> object:
        """Return the decoded response; raise a `SafeVideoError`."""
        ...


class CallMetrics:
    """Counts, measures and logs each call, without bodies and secrets."""

    def __init__(self, below: CallLayer, metrics: SharegramMetrics, logger: FilteringBoundLogger) -> None:
        self._below = below
        self._metrics = metrics
        self._logger = logger

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`."""
        started = perf_counter()
        try:
            result = await self._below.send(call)
        except SafeVideoError as error:
            seconds = perf_counter() - started
            self._metrics.observe_call(call.operation.name, _outcome_of(error), seconds)
            self._logger.warning(
                "Sharegram call failed",
                code=error.code,
                operation=call.operation.name,
                reason=error.message,
                tries=call.tries,
                ms=round(seconds * 1000, 1),
                request_id=call.caller.request_id,
            )
            raise
        seconds = perf_counter() - started
        self._metrics.observe_call(call.operation.name, "ok", seconds)
        self._logger.info(
            "Sharegram called",
            operation=call.operation.name,
            tries=call.tries,
            ms=round(seconds * 1000, 1),
            request_id=call.caller.request_id,
        )
        return result


def _outcome_of(error: SafeVideoError) -> str:
    if isinstance(error, CallError | RetryLater):
        return error.reason.value
    return error.code.lower()


class FallbackGate:
    """Rejects every call while fallback mode is on."""

    def __init__(self, below: CallLayer, fallback: FallbackSwitch, clock: Clock) -> None:
        self._below = below
        self._fallback = fallback
        self._clock = clock

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `FallbackActive`."""
        until = self._fallback.until()
        if until is not None:
            seconds = ceil((until - self._clock()).total_seconds())
            raise FallbackActive(
                "Fallback mode is on: Sharegram is not called",
                details={"fallbackUntil": rfc3339(until)},
                retry_after=max(1, min(seconds, MAX_RETRY_AFTER)),
            )
        return await self._below.send(call)


class CredentialsGate:
    """Slows calls to one a minute while Sharegram answers 401 or 403: only an operator can fix that."""

    def __init__(self, below: CallLayer) -> None:
        self._below = below
        self._rejection: CredentialsRejected | None = None
        self._next_at = 0.0

    def rejected_seconds(self) -> float:
        """Return the seconds until the next call may pass; 0 unless our credentials are refused."""
        if self._rejection is None:
            return 0.0
        return max(0.0, self._next_at - asyncio.get_running_loop().time())

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `CredentialsRejected`."""
        if not call.operation.is_signed:
            return await self._below.send(call)
        if self._rejection is not None:
            seconds = self.rejected_seconds()
            if seconds > 0:
                raise CredentialsRejected(
                    self._rejection.reason,
                    self._rejection.message,
                    details=self._rejection.details,
                    retry_after=ceil(seconds),
                )
            self._next_at = asyncio.get_running_loop().time() + CREDENTIALS_SECONDS
        try:
            result = await self._below.send(call)
        except CredentialsRejected as rejection:
            self._rejection = rejection
            self._next_at = asyncio.get_running_loop().time() + CREDENTIALS_SECONDS
            raise
        self._rejection = None
        return result


class BreakerLayer:
    """Sends a call under a permit of the breaker, and reports what became of it."""

    def __init__(self, below: CallLayer, breaker: CallBreaker) -> None:
        self._below = below
        self._breaker = breaker

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `CircuitBreakerOpen`."""
        permit = await self._breaker.acquire(call.operation.try_seconds)
        try:
            result = await self._below.send(call)
        except CallError as error:
            match error.rule.breaker:
                case "failure":
                    permit.fail()
                case "success":
                    permit.succeed()
                case "none":
                    permit.release()
            raise
        except BaseException:  # cancelled, or never sent
            permit.release()
            raise
        permit.succeed()
        return result


class BudgetLayer:
    """Takes a token of the rate budget, and holds the budget of all processes when Sharegram says `Retry-After`."""

    def __init__(self, below: CallLayer, budget: CallBudget) -> None:
        self._below = below
        self._budget = budget

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. Raises `SharegramUnavailable` with the seconds to wait if there is no token."""
        seconds = await self._budget.take()
        if seconds > 0:
            message = "the rate budget towards Sharegram is used up"
            raise SharegramUnavailable(FailureReason.BUDGET, message, retry_after=ceil(seconds))
        try:
            return await self._below.send(call)
        except CallError as error:
            if error.retry_after is not None:
                self._budget.hold(error.retry_after)
            raise


class TryTimeout:
    """Bounds and measures one try."""

    def __init__(self, below: CallLayer, metrics: SharegramMetrics) -> None:
        self._below = below
        self._metrics = metrics

    async def send(self, call: OutgoingCall) -> object:
        """See `CallLayer`. A try that the caller's deadline cuts short says nothing about Sharegram."""
        loop = asyncio.get_running_loop()
        seconds = min(call.operation.try_seconds, call.caller.deadline - loop.time())
        if seconds <= 0:
            raise SharegramUnavailable(FailureReason.DEADLINE, "ETIMEDOUT: the caller's time was over before the call")
        call.tries += 1
        started = perf_counter()
        try:
            async with asyncio.timeout(seconds):
                return await self._below.send(call)
        except TimeoutError:
            reason = FailureReason.TIMEOUT if seconds >= HEALTH_SECONDS else FailureReason.DEADLINE
            raise SharegramUnavailable(reason, f"ETIMEDOUT: no answer within {seconds:.3g} s") from None
        finally:
            self._metrics.observe_try(call.operation.name, perf_counter() - started)
