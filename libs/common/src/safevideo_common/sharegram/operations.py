"""The operations of Sharegram's API (contract, §11), the shapes of their answers, and one call on its way down."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from secrets import token_hex
from typing import Annotated, Final, Self

import msgspec

from safevideo_common.events.envelope import ExternalId, Timestamp, Version, check_event_time
from safevideo_common.events.kyc import Checks, no_checks

API_SECONDS: Final = 10.0
JOB_SECONDS: Final = 120.0
TRY_SECONDS: Final = 30.0
HEALTH_SECONDS: Final = 5.0
MEBIBYTE: Final = 1 << 20

Cursor = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
"""A place in a list: it is stored, and sent back in a query."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Address = Annotated[str, msgspec.Meta(max_length=2048)]
Score = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Repeatable(Enum):
    """The reason for which a second try has no second effect."""

    BY_NATURE = "by nature"
    """It reads, and changes nothing."""
    BY_KEY = "by key"
    """Sharegram answers a repeated idempotency key with its first answer."""
    NEVER = "never"
    """A person requests it, sees the failure and decides. It is sent once, over a new connection."""


class SharegramHealth(msgspec.Struct, frozen=True):
    """The answer of `GET /health`."""

    status: str


class UploadedDocument(msgspec.Struct, frozen=True, rename="camel"):
    """A document as Sharegram stored it."""

    document_id: ExternalId
    status: str


class StartedVerification(msgspec.Struct, frozen=True, rename="camel"):
    """A verification that has begun."""

    verification_id: ExternalId
    status: str


class VerificationOutcome(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a verification. `risk_score` is 0 to 100, higher is safer."""

    status: str
    risk_score: float | None = None
    checks: Checks = msgspec.field(default_factory=no_checks)


class VerificationState(msgspec.Struct, frozen=True, rename="camel"):
    """A verification; `result` is None while it is pending."""

    verification_id: ExternalId
    performer_id: ExternalId
    status: str
    result: VerificationOutcome | None
    updated_at: Timestamp

    def __post_init__(self) -> None:
        check_event_time(self.updated_at)


class FaceMatch(msgspec.Struct, frozen=True, rename="camel"):
    """The comparison of the selfie with the document. `score` is 0 to 100."""

    performer_id: ExternalId
    match: bool
    score: Score


class RiskScore(msgspec.Struct, frozen=True, rename="camel"):
    """The newest risk score of a performer, 0 to 100, higher is safer."""

    performer_id: ExternalId
    risk_score: Score


class PerformerProfile(msgspec.Struct, frozen=True, rename="camel"):
    """The profile at the master. An absent field is None."""

    username: str | None = None
    display_name: str | None = None
    email: str | None = None
    profile_image: str | None = None
    bio: str | None = None
    verified: bool | None = None


class PerformerRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A performer at the master. Pages are in the order of (`updated_at`, `performer_id`)."""

    performer_id: ExternalId
    profile: PerformerProfile
    status: str
    version: Version
    updated_at: Timestamp

    def __post_init__(self) -> None:
        check_event_time(self.updated_at)


class RawPerformerPage(msgspec.Struct, frozen=True, rename="camel"):
    """A page of the list, with records that are not read yet: one bad record must not hide the others."""

    performers: Sequence[msgspec.Raw]
    next_cursor: Cursor | None


class RegisteredWebhook(msgspec.Struct, frozen=True, rename="camel"):
    """The registration of our webhook endpoint. `events` is None if all types are sent."""

    webhook_id: Name
    url: Address
    events: Annotated[Sequence[Name], msgspec.Meta(max_length=100)] | None


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of the contract's §11."""

    name: str
    """The value of the metrics' label `operation`."""
    method: str
    repeatable: Repeatable
    response: type
    try_seconds: float = TRY_SECONDS
    is_signed: bool = True
    max_response_bytes: int = MEBIBYTE


HEALTH: Final = Operation(
    "health", "GET", Repeatable.BY_NATURE, SharegramHealth, try_seconds=HEALTH_SECONDS, is_signed=False
)
UPLOAD_DOCUMENT: Final = Operation("upload_document", "POST", Repeatable.BY_KEY, UploadedDocument)
START_VERIFICATION: Final = Operation("start_verification", "POST", Repeatable.BY_KEY, StartedVerification)
SHOW_VERIFICATION: Final = Operation("show_verification", "GET", Repeatable.BY_NATURE, VerificationState)
MATCH_FACES: Final = Operation("match_faces", "POST", Repeatable.BY_KEY, FaceMatch)
SHOW_RISK_SCORE: Final = Operation("show_risk_score", "GET", Repeatable.BY_NATURE, RiskScore)
LIST_PERFORMERS: Final = Operation(
    "list_performers", "GET", Repeatable.BY_NATURE, RawPerformerPage, max_response_bytes=8 * MEBIBYTE
)
SHOW_PERFORMER: Final = Operation("show_performer", "GET", Repeatable.BY_NATURE, PerformerRecord)
REGISTER_WEBHOOK: Final = Operation("register_webhook", "POST", Repeatable.NEVER, RegisteredWebhook)

OPERATIONS: Final = (
    HEALTH,
    UPLOAD_DOCUMENT,
    START_VERIFICATION,
    SHOW_VERIFICATION,
    MATCH_FACES,
    SHOW_RISK_SCORE,
    LIST_PERFORMERS,
    SHOW_PERFORMER,
    REGISTER_WEBHOOK,
)


class CallerKind(StrEnum):
    """The queue in which a call waits for its place."""

    API = "api"
    """A person waits for the answer."""
    JOB = "job"


@dataclass(frozen=True, slots=True)
class SharegramCaller:
    """The origin of calls: its queue, its deadline, and the request id that the calls carry."""

    kind: CallerKind
    deadline: float
    """By the clock of the event loop. All tries and waits of a call end before it."""
    request_id: str

    @classmethod
    def api(cls, request_id: str | None = None, *, seconds: float = API_SECONDS) -> Self:
        """Return a caller for whom a person waits. Call this inside of the event loop."""
        return cls(CallerKind.API, _in_seconds(seconds), request_id or token_hex(16))

    @classmethod
    def job(cls, request_id: str | None = None, *, seconds: float = JOB_SECONDS) -> Self:
        """Return a job as the caller; `seconds` are those that the job still has."""
        return cls(CallerKind.JOB, _in_seconds(seconds), request_id or token_hex(16))


@dataclass(slots=True)
class OutgoingCall:
    """A call on its way down through the layers. Only `tries` changes."""

    operation: Operation
    caller: SharegramCaller
    path: str
    """From the base address on, percent-encoded."""
    query: str = ""
    body: bytes = b""
    content_type: str | None = None
    idempotency_key: str | None = None
    tries: int = field(default=0)

    @property
    def is_repeatable(self) -> bool:
        """Return True if a second try has no second effect."""
        match self.operation.repeatable:
            case Repeatable.BY_NATURE:
                return True
            case Repeatable.BY_KEY:
                return self.idempotency_key is not None
            case Repeatable.NEVER:
                return False


def _in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
