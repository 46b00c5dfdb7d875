"""Every error that a client can see, one class each with its stable code and HTTP status (contract, §2).

A handler raises one of these. Only the web app renders an error body.
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
    """The request is authenticated and invalid; `details` has one entry per field."""

    code = "VALIDATION_ERROR"
    status = 400


class MalformedRequest(ValidationFailed):
    """The request is not well-formed HTTP: its head, or the framing of its body."""


class Unauthorized(SafeVideoError):
    """No credentials, or credentials that identify no client."""

    code = "UNAUTHORIZED"
    status = 401


class CredentialsMissing(Unauthorized):
    """No credentials at all."""


class SsoAuthFailed(SafeVideoError):
    """The sign-in failed for a reason other than its token."""

    code = "SSO_AUTH_FAILED"
    status = 401


class SsoUnavailable(SafeVideoError):
    """No session can be made now: the provider, Redis or the database does not answer."""

    code = "SSO_AUTH_FAILED"
    status = 503


class InvalidSharegramToken(SafeVideoError):
    """A provider's token does not hold; `details.reason` names the check, and for times `details.now` is our clock."""

    code = "INVALID_SHAREGRAM_TOKEN"
    status = 401


class WebhookSignatureInvalid(SafeVideoError):
    """The webhook is not proven to be Sharegram's; `details.reason` says which check refused it."""

    code = "WEBHOOK_SIGNATURE_INVALID"
    status = 401


class Forbidden(SafeVideoError):
    """The caller is identified and lacks the role."""

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


class UserNotFound(NotFound):
    """No such user."""


class KycRequestNotFound(NotFound):
    """No such KYC request, or one of somebody else."""

    code = "KYC_REQUEST_NOT_FOUND"


class KycAlreadyInProgress(SafeVideoError):
    """The performer has an open or verified KYC request; `details.requestId` is its id."""

    code = "KYC_ALREADY_IN_PROGRESS"
    status = 409


class InvalidKycStatus(SafeVideoError):
    """The status of the KYC request does not allow the operation; `details.status` has it."""

    code = "INVALID_KYC_STATUS"
    status = 409


class InvalidPerformerStatus(SafeVideoError):
    """The status of the performer does not allow the operation; `details.status` has it."""

    code = "INVALID_PERFORMER_STATUS"
    status = 409


class KycNotVerified(SafeVideoError):
    """The performer has no verified KYC request, so nobody approves it."""

    code = "KYC_NOT_VERIFIED"
    status = 409


class UserMappingConflict(SafeVideoError):
    """More than one account could be meant: an operator merges them first."""

    code = "USER_MAPPING_CONFLICT"
    status = 409


class MethodNotAllowed(SafeVideoError):
    """The path exists and does not support this method."""

    code = "METHOD_NOT_ALLOWED"
    status = 405


class InvalidStatusTransition(SafeVideoError):
    """The current status of the resource does not allow the operation; the message names the status."""

    code = "INVALID_STATUS_TRANSITION"
    status = 409


class VersionConflict(SafeVideoError):
    """The resource has changed since the caller read it; `details.version` is its version now."""

    code = "VERSION_CONFLICT"
    status = 409


class LastAdmin(SafeVideoError):
    """Without this account nobody would be an admin, now or once the roles with an end have ended."""

    code = "LAST_ADMIN"
    status = 409


class LegalHold(SafeVideoError):
    """A legal hold keeps the data of this person. `details` names the hold."""

    code = "LEGAL_HOLD"
    status = 409


class JobNotCancellable(SafeVideoError):
    """The job is finished and cannot be cancelled."""

    code = "JOB_NOT_CANCELLABLE"
    status = 409


class IdempotencyKeyInUse(SafeVideoError):
    """The request that first used this idempotency key is still running."""

    code = "IDEMPOTENCY_KEY_IN_USE"
    status = 409


class IdempotencyKeyReused(SafeVideoError):
    """The idempotency key was used for another request."""

    code = "IDEMPOTENCY_KEY_REUSED"
    status = 422


class RequestTimedOut(SafeVideoError):
    """The sender took too long to send its body."""

    code = "REQUEST_TIMEOUT"
    status = 408


class ClientGone(SafeVideoError):
    """The client closed the connection before its body was complete. Nobody receives the response."""

    code = "CLIENT_GONE"
    status = 499  # as in nginx; it appears in metrics and logs only


class PayloadTooLarge(SafeVideoError):
    """The body is over the limit of the path."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class FileRequired(ValidationFailed):
    """The form has no file."""

    code = "FILE_REQUIRED"


class UnsupportedDocument(SafeVideoError):
    """The uploaded document cannot be read or is of no accepted kind. The message is for the person who sent it."""

    code = "UNSUPPORTED_DOCUMENT"
    status = 400


class UnsupportedMediaType(SafeVideoError):
    """The encoding of the body is not supported."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class RateLimited(SafeVideoError):
    """The caller exceeded its rate limit; `retry_after` says when to retry."""

    code = "RATE_LIMITED"
    status = 429


class SyncRateLimited(SafeVideoError):
    """The last sync is too recent; `retry_after` says when to retry."""

    code = "SYNC_RATE_LIMITED"
    status = 429


class SyncAlreadyInProgress(SafeVideoError):
    """A sync of all performers is queued or running; `details.jobId` names it."""

    code = "SYNC_ALREADY_IN_PROGRESS"
    status = 409


class SyncJobsNotFound(NotFound):
    """No sync has been started yet."""

    code = "NO_SYNC_JOBS_FOUND"


class ServiceUnavailable(SafeVideoError):
    """A dependency of this request is unavailable; `retry_after` says when to retry."""

    code = "SERVICE_UNAVAILABLE"
    status = 503


class Overloaded(ServiceUnavailable):
    """An overload: the process is at its limit and rejects the request before it reads anything."""


class BrokerUnavailable(ServiceUnavailable):
    """The broker did not acknowledge in time. The message may still arrive: publish it again under the same id."""


class DatabaseUnavailable(ServiceUnavailable):
    """The database does not answer in time or accepts no writes. A commit may have succeeded nevertheless."""


class FilesUnavailable(ServiceUnavailable):
    """The store of documents does not answer in time, or refuses. A write may have succeeded nevertheless."""


class DatabaseConflict(ServiceUnavailable):
    """Another transaction won the conflict and nothing was written: run this one again, including its reads."""


class RowLocked(DatabaseConflict):
    """Another transaction has kept a row locked for longer than the longest wait."""


class DataRejected(SafeVideoError):
    """The database always rejects these values: they are too long, out of range or break a constraint."""

    code = "DATA_REJECTED"


class Deferral(ServiceUnavailable):
    """The work has to wait for a dependency that is known to be unavailable; it did nothing wrong.

    `retry_after` is the longest time to wait. A job that raises this is deferred: it uses no attempt and keeps its
    cursor. A caller of the API gets 503 with `Retry-After`.
    """


class CircuitBreakerOpen(Deferral):
    """The circuit breaker rejects the call; `retry_after` is at most 300."""

    code = "CIRCUIT_BREAKER_OPEN"


class FallbackActive(Deferral):
    """Fallback mode is on and no call goes out; `retry_after` is at most 300, `details.fallbackUntil` has its end."""


class IntegrationNotConfigured(Deferral):
    """There is nothing to call with: the integration or the provider is not configured, or it is switched off."""

    code = "INTEGRATION_NOT_CONFIGURED"


class FeatureDisabled(ServiceUnavailable):
    """A feature flag has switched this off."""

    code = "FEATURE_DISABLED"


class InternalError(SafeVideoError):
    """A bug of ours. The log has the reason under the request id, the response never has it."""


class StartupError(Exception):
    """The configuration does not allow a start. The message says what is wrong and which command fixes it."""


class SchemaBehind(StartupError):
    """The database has an older schema than this build needs."""
