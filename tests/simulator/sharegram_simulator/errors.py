"""Why a request is refused: a code, a status, and what the caller may know. `web/failures.py` renders them."""

from collections.abc import Mapping
from typing import ClassVar


class Refusal(Exception):
    """Base of every refusal."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, details: Mapping[str, object] | None = None, retry_after: float | str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after = retry_after
        """Sent as `Retry-After`: seconds, or a text as it is."""


class Invalid(Refusal):
    """The request makes no sense; `details` has one entry a field."""

    code = "VALIDATION_ERROR"
    status = 400


class Unauthorized(Refusal):
    """The call is not proven to be the integration's; `details.reason` says which check refused it."""

    code = "UNAUTHORIZED"
    status = 401


class NotFound(Refusal):
    """No such performer, verification or path."""

    code = "NOT_FOUND"
    status = 404


class TooSlow(Refusal):
    """The caller took longer over its body than a request may take."""

    code = "REQUEST_TIMEOUT"
    status = 408


class LimitReached(Refusal):
    """The simulator keeps everything in memory and takes no more of this kind."""

    code = "LIMIT_REACHED"
    status = 409


class IdempotencyKeyReused(Refusal):
    """The idempotency key stands for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422


class RateLimited(Refusal):
    """A fault on purpose: too many requests."""

    code = "RATE_LIMITED"
    status = 429


class Broken(Refusal):
    """A fault on purpose: Sharegram is there and fails, with a status of 500 to 599."""

    def __init__(self, message: str, *, status: int, retry_after: float | str | None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.answered_status = status


class Dropped(Exception):
    """A fault on purpose: the connection is gone, there is no answer."""


class Unavailable(Refusal):
    """Not now: the webhook queue is full, or delivery has stopped."""

    code = "SERVICE_UNAVAILABLE"
    status = 503
