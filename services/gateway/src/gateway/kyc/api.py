"""`/api/v1/kyc`: requests, documents, status and decisions (contract, §4)."""

import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Annotated, Final, Literal, NotRequired, TypedDict

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, MODERATORS, Endpoint, Returns, Shape
from gateway.http.idempotency import keep_response
from gateway.http.query import PageQuery, parse_query, row_id_of
from gateway.http.rate_limits import RateLimitClass
from gateway.http.sentence import Lines
from gateway.http.visibility import is_reviewer
from gateway.kyc.service import KycService, Submission
from gateway.kyc.uploads import UploadService
from safevideo_common.auth.api_keys import Role
from safevideo_common.auth.principal import PRINCIPAL
from safevideo_common.clock import Clock, TimestampText, format_timestamp, rfc3339
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents.store import Step
from safevideo_common.domain.kyc import KycStatus, RejectionReason
from safevideo_common.domain.kyc_documents import IDENTITY_TYPES, MAX_DOCUMENT_BYTES, DocumentType, Side, Slot
from safevideo_common.errors import (
    FeatureDisabled,
    FileRequired,
    IntegrationNotConfigured,
    InvalidKycStatus,
    InvalidStatusTransition,
    KycAlreadyInProgress,
    KycRequestNotFound,
    UnsupportedDocument,
    ValidationFailed,
)
from safevideo_common.jobs.model import Job
from safevideo_common.kyc.standing import KycDecisionDocument, ProviderResultDocument, standing
from safevideo_common.web.responses import success

PATH: Final = "/api/v1/kyc"
PERFORMERS: Final = frozenset({Role.PERFORMER})
REVIEWERS: Final = MODERATORS
"""Those who read the requests of others: they see the list of requests that wait for a person. Admins decide."""
READERS: Final = REVIEWERS | PERFORMERS
NO_REVIEWERS: Final[frozenset[Role]] = frozenset()
ADULT_YEARS: Final = 18
_FIRST_BIRTH: Final = date(1900, 1, 1)
ESTIMATES: Final = {KycStatus.IN_PROGRESS: timedelta(days=1), KycStatus.IN_REVIEW: timedelta(days=2)}
"""The time that a request usually takes in a status, from its last change."""

_CODES: Final = (
    "AF AX AL DZ AS AD AO AI AQ AG AR AM AW AU AT AZ BS BH BD BB BY BE BZ BJ BM BT BO BQ BA BW BV BR "
    "IO BN BG BF BI CV KH CM CA KY CF TD CL CN CX CC CO KM CG CD CK CR CI HR CU CW CY CZ DK DJ DM DO "
    "EC EG SV GQ ER EE SZ ET FK FO FJ FI FR GF PF TF GA GM GE DE GH GI GR GL GD GP GU GT GG GN GW GY "
    "HT HM VA HN HK HU IS IN ID IR IQ IE IM IL IT JM JP JE JO KZ KE KI KP KR KW KG LA LV LB LS LR LY "
    "LI LT LU MO MG MW MY MV ML MT MH MQ MR MU YT MX FM MD MC MN ME MS MA MZ MM NA NR NP NL NC NZ NI "
    "NE NG NU NF MK MP NO OM PK PW PS PA PG PY PE PH PN PL PT PR QA RE RO RU RW BL SH KN LC MF PM VC "
    "WS SM ST SA SN RS SC SL SG SX SK SI SB SO ZA GS SS ES LK SD SR SJ SE CH SY TW TJ TZ TH TL TG TK "
    "TO TT TN TR TM TC TV UG UA AE GB US UM UY UZ VU VE VN VG VI WF EH YE ZM ZW "
)
_COUNTRIES: Final = frozenset(_CODES.split())
"""ISO 3166-1, alpha-2."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _iso_date(value: object) -> object:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("must be a date such as 1990-05-17")
    return value


def _country(value: str) -> str:
    if value not in _COUNTRIES:
        raise ValueError("must be a country of ISO 3166-1, two capital letters")
    return value


Text = Annotated[
    str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]+$")
]
CalendarDate = Annotated[date, BeforeValidator(_iso_date), Field(strict=False)]
Country = Annotated[str, StringConstraints(min_length=2, max_length=2), AfterValidator(_country)]
Notes = Annotated[Lines, StringConstraints(max_length=2000)]


class AddressBody(Body):
    """An address."""

    street: Text
    city: Text
    state: Text | None = None
    postal_code: Text
    country: Country


class KycSubmissionBody(Body):
    """The applicant, and the identity document whose pictures follow."""

    first_name: Text
    last_name: Text
    birth_date: CalendarDate
    nationality: Country
    address: AddressBody
    document_type: Annotated[DocumentType, Field(strict=False)]
    document_number: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ./-]{3,64}$")]
    document_expiry_date: CalendarDate


class ApprovalBody(Body):
    """A reviewer's notes."""

    notes: Notes | None = None


class RejectionBody(Body):
    """The reason, and a reviewer's notes. After `underage` and `suspicious` the performer cannot submit again."""

    reason: Annotated[RejectionReason, Field(strict=False)]
    notes: Notes | None = None


class PendingQuery(PageQuery):
    """The page of requests that wait for a person, the oldest first."""

    order: Literal["asc", "desc"] = "asc"


class ResyncBody(Body):
    """The requests whose results are fetched."""

    request_ids: list[Annotated[int, Field(ge=1, lt=10**18)]] = Field(min_length=1, max_length=500)


class ResyncDocument(TypedDict):
    """The job that fetches results, the requests that it is for, and the ids that are none."""

    jobId: int
    accepted: list[int]
    notFound: list[int]


class SubmittedDocument(TypedDict):
    """A new request."""

    requestId: int
    status: str
    performerId: str
    submittedAt: TimestampText


class KycDocumentDocument(TypedDict):
    """An uploaded document."""

    documentId: int
    documentType: str
    status: str
    uploadedAt: TimestampText


class VerificationStepDocument(TypedDict):
    """A step, ours or a check of the provider."""

    stepType: str
    status: str
    completedAt: NotRequired[TimestampText | None]


class VerificationStatusDocument(TypedDict):
    """A request. `riskScore` is from 0 to 100, higher is safer; null until the provider has reported one.

    `provider` and `decision` are the newest result and the last decision. The later word of the two that says something
    new is `status`. `reviewReason` is for reviewers. `supersededBy` is the later request that took its place.
    """

    requestId: int
    performerId: str
    status: str
    provider: ProviderResultDocument | None
    decision: KycDecisionDocument | None
    expiresAt: TimestampText | None
    reviewReason: str | None
    supersededBy: int | None
    verificationSteps: list[VerificationStepDocument]
    riskScore: float | None
    estimatedCompletionTime: TimestampText | None


class KycRequestDocument(TypedDict):
    """A request as reviewers see it in a list and after a decision."""

    requestId: int
    performerId: str
    status: str
    riskScore: float | None
    reviewReason: str | None
    submittedAt: TimestampText
    updatedAt: TimestampText


_AT: Final = "2026-11-24T20:58:25.123Z"
_SUBMITTED: Final[SubmittedDocument] = {
    "requestId": 123, "status": "pending", "performerId": "sg_ada", "submittedAt": _AT,
}  # fmt: skip
_UPLOADED: Final[KycDocumentDocument] = {
    "documentId": 7, "documentType": "passport", "status": "uploaded", "uploadedAt": _AT,
}  # fmt: skip
_STATUS: Final[VerificationStatusDocument] = {
    "requestId": 123,
    "performerId": "sg_ada",
    "status": "in_review",
    "provider": {"status": "passed", "riskScore": 71.5, "version": None, "reportedAt": _AT},
    "decision": None,
    "expiresAt": None,
    "reviewReason": None,
    "supersededBy": None,
    "verificationSteps": [{"stepType": "document_upload", "status": "completed", "completedAt": _AT}],
    "riskScore": 71.5,
    "estimatedCompletionTime": "2026-11-26T20:58:25.123Z",
}
_REQUEST: Final[KycRequestDocument] = {
    "requestId": 123, "performerId": "sg_ada", "status": "in_review", "riskScore": 71.5, "reviewReason": None,
    "submittedAt": _AT, "updatedAt": _AT,
}  # fmt: skip
_RESYNC: Final[ResyncDocument] = {"jobId": 9, "accepted": [123, 456], "notFound": [789]}
_SUBMISSION: Final = {
    "firstName": "Ada",
    "lastName": "Lovelace",
    "birthDate": "1990-05-17",
    "nationality": "GB",
    "address": {"street": "12 St James's Square", "city": "London", "postalCode": "SW1Y 4JH", "country": "GB"},
    "documentType": "passport",
    "documentNumber": "123456789",
    "documentExpiryDate": "2031-05-17",
}
_FORM: Final = {
    "description": f"One file, at most {MAX_DOCUMENT_BYTES} bytes: JPEG, PNG, WebP, HEIC or PDF.",
    "properties": {
        "documentType": {"type": "string", "enum": list(DocumentType)},
        "side": {"type": "string", "enum": list(Side), "default": Side.FRONT},
        **{slot.field: {"type": "string", "contentMediaType": "application/octet-stream"} for slot in Slot},
    },
    "required": ["documentType"],
}


class KycApi:
    """The endpoints of KYC requests."""

    def __init__(
        self, kyc: KycService, uploads: UploadService, require_enabled: Callable[[], None], clock: Clock
    ) -> None:
        """`require_enabled` raises `FeatureDisabled` while the feature is switched off."""
        self._kyc = kyc
        self._uploads = uploads
        self._require_enabled = require_enabled
        self._clock = clock

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        decided = Returns(KycRequestDocument, _REQUEST)
        errors = (KycRequestNotFound, InvalidKycStatus, InvalidStatusTransition)
        return [
            Endpoint(
                "POST", f"{PATH}/submit", self.submit, PERFORMERS, Returns(SubmittedDocument, _SUBMITTED, status=201),
                (
                    KycAlreadyInProgress, InvalidKycStatus, InvalidStatusTransition, IntegrationNotConfigured,
                    FeatureDisabled,
                ),
                body=KycSubmissionBody, body_example=_SUBMISSION, rate_limit=RateLimitClass.KYC_SUBMISSION,
                takes_idempotency_key=True,
            ),
            Endpoint(
                "POST", f"{PATH}/{{id}}/documents", self.upload, PERFORMERS,
                Returns(KycDocumentDocument, _UPLOADED, status=201),
                (*errors, FileRequired, UnsupportedDocument, IntegrationNotConfigured), form=_FORM,
                rate_limit=RateLimitClass.DOCUMENT_UPLOAD,
            ),
            Endpoint(
                "GET", f"{PATH}/{{id}}/status", self.status, READERS, Returns(VerificationStatusDocument, _STATUS),
                errors,
            ),
            Endpoint(
                "GET", f"{PATH}/pending", self.pending, REVIEWERS,
                Returns(KycRequestDocument, _REQUEST, shape=Shape.PAGE), query=PendingQuery,
            ),
            Endpoint(
                "POST", f"{PATH}/{{id}}/approve", self.approve, ADMINS, decided, errors, body=ApprovalBody,
                body_example={"notes": "The pictures match."},
            ),
            Endpoint(
                "POST", f"{PATH}/{{id}}/reject", self.reject, ADMINS, decided, errors, body=RejectionBody,
                body_example={"reason": "document_unclear", "notes": "The number cannot be read."},
            ),
            Endpoint("POST", f"{PATH}/{{id}}/reopen", self.reopen, ADMINS, decided, errors),
            Endpoint(
                "POST", f"{ADMIN_PATH}/kyc/resync", self.resync, ADMINS, Returns(ResyncDocument, _RESYNC, status=202),
                (KycRequestNotFound,), takes_idempotency_key=True, body=ResyncBody,
                body_example={"requestIds": [123, 456, 789]},
            ),
        ]  # fmt: skip

    async def submit(self, request: web.Request) -> web.Response:
        """Submit a KYC request. Its documents follow, and the last required one begins the verification.

        Raises `KycAlreadyInProgress`, `InvalidKycStatus`, `ValidationFailed`, and `InvalidStatusTransition` once the
        erasure of the person has started.
        """
        self._require_enabled()
        body = await parse_body(KycSubmissionBody, request)
        check_submission(body, self._clock().date())
        applicant = body.model_dump(mode="json", by_alias=True)
        submission = Submission(body.document_type, body.document_expiry_date, applicant)

        async def keep(tx: AsyncConnection, stored: StoredKycRequest) -> None:
            await keep_response(request, tx, 201, _submitted_document(stored))

        stored = await self._kyc.submit(request[PRINCIPAL], submission, caller_of(request), keep)
        self._uploads.expect()
        return success(_submitted_document(stored), status=201)

    async def upload(self, request: web.Request) -> web.Response:
        """Upload a document. Another one for the same side replaces it until the verification begins.

        Raises `KycRequestNotFound`, `InvalidKycStatus`, `FileRequired`, `UnsupportedDocument`, `ValidationFailed`.
        """
        stored = await self._kyc.get(row_id_of(request), request[PRINCIPAL], NO_REVIEWERS)
        uploaded, document = await self._uploads.upload(request, stored, caller_of(request))
        uploaded_document: KycDocumentDocument = {
            "documentId": uploaded.id,
            "documentType": document.document_type,
            "status": "uploaded",
            "uploadedAt": rfc3339(document.uploaded_at),
        }
        return success(uploaded_document, status=201)

    async def status(self, request: web.Request) -> web.Response:
        """Return the status of a request to its owner or a reviewer. Raises `KycRequestNotFound`."""
        stored = await self._kyc.get(row_id_of(request), request[PRINCIPAL], REVIEWERS)
        return success(
            _status_document(
                stored, await self._kyc.steps(stored.request.id), for_reviewer=is_reviewer(request[PRINCIPAL].role)
            )
        )

    async def pending(self, request: web.Request) -> web.Response:
        """Return one page of the requests that wait for a person, the oldest first."""
        query = parse_query(PendingQuery, request)
        found, total = await self._kyc.pending(page=query.page, limit=query.limit, order=query.order)
        return query.response(map(_request_document, found), total)

    async def approve(self, request: web.Request) -> web.Response:
        """Verify a request by a person's decision. Raises `KycRequestNotFound`, `InvalidKycStatus`."""
        body = await parse_body(ApprovalBody, request)
        return success(_request_document(await self._kyc.approve(row_id_of(request), body.notes, caller_of(request))))

    async def reject(self, request: web.Request) -> web.Response:
        """Reject a request by a person's decision. Raises `KycRequestNotFound`, `InvalidKycStatus`."""
        body = await parse_body(RejectionBody, request)
        stored = await self._kyc.reject(row_id_of(request), body.reason, body.notes, caller_of(request))
        return success(_request_document(stored))

    async def reopen(self, request: web.Request) -> web.Response:
        """Allow a new submission after a final rejection. Raises `KycRequestNotFound`, `InvalidKycStatus`."""
        return success(_request_document(await self._kyc.reopen(row_id_of(request), caller_of(request))))

    async def resync(self, request: web.Request) -> web.Response:
        """Fetch the results of requests from Sharegram, and apply them as if their webhooks had come.

        Raises `KycRequestNotFound` if there is none of them.
        """
        body = await parse_body(ResyncBody, request)
        documents: list[ResyncDocument] = []

        async def keep(tx: AsyncConnection, job: Job, accepted: Sequence[int]) -> None:
            missing = sorted(set(body.request_ids) - set(accepted))
            documents[:] = [{"jobId": job.id, "accepted": list(accepted), "notFound": missing}]
            await keep_response(request, tx, 202, documents[0])

        await self._kyc.resync(body.request_ids, caller_of(request), keep)
        return success(documents[0], status=202)


def check_submission(body: KycSubmissionBody, today: date) -> None:
    """Raise `ValidationFailed` for dates that cannot be, and for a document that is no identity document."""
    wrong: dict[str, str] = {}
    if not _FIRST_BIRTH <= body.birth_date <= today or _birthday(body.birth_date, ADULT_YEARS) > today:
        wrong["birthDate"] = f"must be {ADULT_YEARS} years ago or more"
    if body.document_expiry_date <= today:
        wrong["documentExpiryDate"] = "must be in the future"
    if body.document_type not in IDENTITY_TYPES:
        wrong["documentType"] = f"must be one of {', '.join(IDENTITY_TYPES)}"
    if wrong:
        raise ValidationFailed("Some members of the body are wrong.", details=wrong)


def _submitted_document(stored: StoredKycRequest) -> SubmittedDocument:
    return {
        "requestId": stored.request.id,
        "status": stored.request.status,
        "performerId": stored.request.performer_id,
        "submittedAt": rfc3339(stored.created_at),
    }


def _birthday(born: date, age: int) -> date:
    """Return the day on which someone becomes `age`; after 29 February it is 1 March."""
    year = born.year + age
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def _status_document(
    stored: StoredKycRequest, steps: Sequence[Step], *, for_reviewer: bool
) -> VerificationStatusDocument:
    request = stored.request
    visible_steps: list[VerificationStepDocument] = [
        {"stepType": each.step_type, "status": each.status, "completedAt": format_timestamp(each.completed_at)}
        for each in steps
    ]
    checks = (request.result or {}).get("checks")
    if isinstance(checks, dict):
        visible_steps += [{"stepType": str(name), "status": str(status)} for name, status in checks.items()]
    estimate = ESTIMATES.get(request.status)
    return {
        **standing(stored, for_reviewer=for_reviewer),
        "verificationSteps": visible_steps,
        "riskScore": request.risk_score,
        "estimatedCompletionTime": format_timestamp(stored.updated_at + estimate if estimate else None),
    }


def _request_document(stored: StoredKycRequest) -> KycRequestDocument:
    return {
        "requestId": stored.request.id,
        "performerId": stored.request.performer_id,
        "status": stored.request.status,
        "riskScore": stored.request.risk_score,
        "reviewReason": stored.review_reason,
        "submittedAt": rfc3339(stored.created_at),
        "updatedAt": rfc3339(stored.updated_at),
    }
