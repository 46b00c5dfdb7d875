"""The failures of a call to Sharegram: one class for each way to handle them, and one table of what each reason means.

A message names no address, no header and no value of a body. It holds the words that operators search for, such as
`ECONNREFUSED`, `ETIMEDOUT` and `503 Service Unavailable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Literal

from safevideo_common.errors import Deferral, InternalError, Overloaded, SafeVideoError, ServiceUnavailable

MAX_RETRY_AFTER: Final = 300
"""Seconds. A longer `Retry-After`, of Sharegram or of our own answers, is cut to this."""
CREDENTIALS_SECONDS: Final = 60
"""The time between two calls while Sharegram refuses our credentials."""

BreakerEffect = Literal["failure", "success", "none"]


class FailureReason(StrEnum):
    """The reason of a failed call; also the value of the metric's label `outcome`."""

    REFUSED = "refused"
    RESET = "reset"
    STALE_CONNECTION = "stale_connection"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    TLS = "tls"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server_error"
    CREDENTIALS = "credentials"
    REJECTED = "rejected"
    NOT_HTTP = "not_http"
    REDIRECT = "redirect"
    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    INVALID_FIELD = "invalid_field"
    QUEUE_FULL = "queue_full"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """The handling of one reason: may a repeatable call be tried again, and what the breaker records."""

    is_transient: bool
    breaker: BreakerEffect


RULES: Final[Mapping[FailureReason, FailureRule]] = {
    FailureReason.REFUSED: FailureRule(is_transient=True, breaker="failure"),
    FailureReason.RESET: FailureRule(is_transient=True, breaker="failure"),
    # The peer closed an idle connection, which every server does. It says nothing about the server.
    FailureReason.STALE_CONNECTION: FailureRule(is_transient=True, breaker="none"),
    FailureReason.UNREACHABLE: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.UNRESOLVED: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.TLS: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.TIMEOUT: FailureRule(is_transient=True, breaker="failure"),
    # The caller had less time than a healthy Sharegram may take.
    FailureReason.DEADLINE: FailureRule(is_transient=False, breaker="none"),
    FailureReason.RATE_LIMITED: FailureRule(is_transient=True, breaker="failure"),
    FailureReason.UNAVAILABLE: FailureRule(is_transient=True, breaker="failure"),
    FailureReason.SERVER_ERROR: FailureRule(is_transient=False, breaker="failure"),
    # Sharegram works; our credentials or our request are wrong.
    FailureReason.CREDENTIALS: FailureRule(is_transient=False, breaker="success"),
    FailureReason.REJECTED: FailureRule(is_transient=False, breaker="success"),
    FailureReason.NOT_HTTP: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.REDIRECT: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.NOT_JSON: FailureRule(is_transient=False, breaker="failure"),
    FailureReason.TOO_LARGE: FailureRule(is_transient=False, breaker="failure"),
    # One record is wrong; the next one may be well.
    FailureReason.INVALID_FIELD: FailureRule(is_transient=False, breaker="success"),
    FailureReason.QUEUE_FULL: FailureRule(is_transient=False, breaker="none"),
    FailureReason.BUDGET: FailureRule(is_transient=True, breaker="none"),
}
"""The contract's §10 by reason: 4xx other than 429 is no failure, and only what may pass is tried again."""


class CallError(SafeVideoError):
    """Base of the failures of one try. `reason` is the row of `RULES` that applies."""

    def __init__(
        self,
        reason: FailureReason,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, details=details, retry_after=retry_after)
        self.reason: Final = reason

    @property
    def rule(self) -> FailureRule:
        """Return the handling of this failure."""
        return RULES[self.reason]


class SharegramUnavailable(CallError, ServiceUnavailable):
    """Sharegram does not answer, or says that it cannot: the same call may succeed later."""


class SharegramRejected(CallError):
    """Sharegram refuses this request for what it says (4xx). `details.code` is Sharegram's code: no retry fixes it."""

    code = "SHAREGRAM_REJECTED"
    status = 502

    def __init__(self, sharegram_status: int, message: str, *, sharegram_code: str | None) -> None:
        details = {"status": sharegram_status, **({"code": sharegram_code} if sharegram_code else {})}
        super().__init__(FailureReason.REJECTED, message, details=details)
        self.sharegram_status: Final = sharegram_status


class InvalidResponse(CallError):
    """Sharegram's answer is not what the contract says. `details` names the field, never its value."""

    code = "SHAREGRAM_INVALID_RESPONSE"
    status = 502


class CallQueueFull(CallError, Overloaded):
    """Too many calls of this process wait for a place. Sharegram was not called."""


class CredentialsRejected(CallError, Deferral):
    """Sharegram refuses our API key, signature or clock (401, 403): calls wait until an operator fixes that."""

    code = "SHAREGRAM_CREDENTIALS_REJECTED"


class RetryLater(Deferral):
    """The next try is due in `retry_after` seconds, which is too long to keep a slot or a caller waiting."""

    def __init__(self, cause: CallError, seconds: int) -> None:
        super().__init__(f"{cause.message}; the next try is due in {seconds} s", retry_after=seconds)
        self.reason: Final = cause.reason


class IdempotencyKeyConflict(InternalError):
    """The key of this work was stored for another body. Changed content is new work, with a name of its own."""

    code: ClassVar[str] = "IDEMPOTENCY_KEY_CONFLICT"
