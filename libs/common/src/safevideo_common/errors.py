"""Every failure the outside can see, one class each: its stable code, its HTTP status, and what may be said about it.

The codes are those of the contract, §2. A handler raises one of these; the base web app renders it
(`web/middleware.py`) and nothing else builds an error body.
"""

from collections.abc import Mapping
from typing import ClassVar


class SafeVideoError(Exception):
    """Base of every error with a stable code. `message` may be shown; `details` names fields, never their values."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, details: Mapping[str, object] | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after = retry_after
        """Seconds, sent as `Retry-After`."""


class ValidationFailed(SafeVideoError):
    """The request is well authenticated and makes no sense; `details` has one entry a field."""

    code = "VALIDATION_ERROR"
    status = 400


class Unauthorized(SafeVideoError):
    """No credentials, or credentials that name no one."""

    code = "UNAUTHORIZED"
    status = 401


class WebhookSignatureInvalid(SafeVideoError):
    """The webhook is not proven to be Sharegram's; `details.reason` says which check refused it."""

    code = "WEBHOOK_SIGNATURE_INVALID"
    status = 401


class Forbidden(SafeVideoError):
    """Known, but not allowed."""

    code = "FORBIDDEN"
    status = 403


class NotFound(SafeVideoError):
    """No such path or thing."""

    code = "NOT_FOUND"
    status = 404


class PerformerNotFound(NotFound):
    """No such performer."""

    code = "PERFORMER_NOT_FOUND"


class JobNotFound(NotFound):
    """No such job."""


class MethodNotAllowed(SafeVideoError):
    """The path exists and does not take this method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class InvalidStatusTransition(SafeVideoError):
    """The thing is there, and the status that it has does not allow this; the message says which it is."""

    code = "INVALID_STATUS_TRANSITION"
    status = 409


class JobNotCancellable(SafeVideoError):
    """The job is finished: there is nothing left to cancel."""

    code = "JOB_NOT_CANCELLABLE"
    status = 409


class RequestTimedOut(SafeVideoError):
    """The sender took longer over its body than a request may take."""

    code = "REQUEST_TIMEOUT"
    status = 408


class PayloadTooLarge(SafeVideoError):
    """The body is over the limit of the path."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMediaType(SafeVideoError):
    """The body is encoded in a way that is not taken here."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class RateLimited(SafeVideoError):
    """More than this caller may ask for in the time; `retry_after` says when to come again."""

    code = "RATE_LIMITED"
    status = 429


class ServiceUnavailable(SafeVideoError):
    """Something this request needs is away; `retry_after` says when to come again."""

    code = "SERVICE_UNAVAILABLE"
    status = 503


class Overloaded(ServiceUnavailable):
    """This process has as much in hand as it takes: refused at once, before anything was read."""


class BrokerUnavailable(ServiceUnavailable):
    """The event log gave no acknowledgement in time. The message may still arrive: publish it under the same id."""


class DatabaseUnavailable(ServiceUnavailable):
    """The database does not answer, not in time, or takes no writes. A commit may have gone through all the same."""


class DatabaseConflict(ServiceUnavailable):
    """Another transaction was quicker, and nothing of this one was written: run it again at once, from its reads on."""


class DataRejected(SafeVideoError):
    """The database will never take these values: they are too long, out of range or break a constraint."""


class InternalError(SafeVideoError):
    """A fault of ours. The reason is in the log under the request id, never in the answer."""


class StartupError(Exception):
    """The process must not start as configured. The message says what is wrong and which command mends it."""


class SchemaBehind(StartupError):
    """The database's schema is not the one this build was written for."""
