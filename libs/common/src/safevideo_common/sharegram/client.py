"""The client of Sharegram's API: a typed method for each call of the contract's §11.

    async with open_sharegram(settings, protections, keys, registry, logger, utc_now) as sharegram:
        started = await sharegram.start_verification(
            SharegramCaller.job(job.request_id), work=f"kyc-verify:{request_id}", performer_id=…, fields=…
        )

Every method raises the classes of `errors.py`, `FallbackActive` and `CircuitBreakerOpen`. A `Deferral` among them means
that the work waits and runs again; `SharegramRejected` and `InvalidResponse` do not pass by waiting.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from secrets import token_hex
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from prometheus_client import CollectorRegistry

from safevideo_common.clock import Clock, rfc3339
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram import operations
from safevideo_common.sharegram.concurrency import ConcurrencyLimit
from safevideo_common.sharegram.errors import InvalidResponse
from safevideo_common.sharegram.http import ResponseReader, SharegramCredentials, SigningTransport, decoded_record
from safevideo_common.sharegram.idempotency import IdempotencyKeys, work_of
from safevideo_common.sharegram.layers import (
    BreakerLayer,
    BudgetLayer,
    CallLayer,
    CallMetrics,
    CredentialsGate,
    FallbackGate,
    TryTimeout,
)
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import (
    FaceMatch,
    Operation,
    OutgoingCall,
    PerformerRecord,
    RawPerformerPage,
    RegisteredWebhook,
    RiskScore,
    SharegramCaller,
    SharegramHealth,
    StartedVerification,
    UploadedDocument,
    VerificationState,
)
from safevideo_common.sharegram.port import CallBreaker, CallBudget, FallbackSwitch, NoBreaker, NoBudget, NoFallback
from safevideo_common.sharegram.retry import Retries
from safevideo_common.sharegram.settings import SharegramSettings
from safevideo_common.sharegram.transport import HttpTransport
from safevideo_common.tls import TlsFiles, client_context

JSON: Final = "application/json"
MAX_PAGE: Final = 500

Result = TypeVar("Result")

_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]{1,64}")


@dataclass(frozen=True, slots=True)
class CallProtections:
    """The protections that all processes share, by default none; and the keys that are valid now."""

    breaker: CallBreaker = field(default_factory=NoBreaker)
    fallback: FallbackSwitch = field(default_factory=NoFallback)
    budget: CallBudget = field(default_factory=NoBudget)
    credentials: Callable[[], SharegramCredentials | None] | None = None
    """None: those of the settings."""


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document to be uploaded. `field` is the name of its form field, such as `idFront`."""

    field: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class PerformerPage:
    """A page of performers. `invalid` has an error for each record that could not be read; the others are good."""

    performers: Sequence[PerformerRecord]
    invalid: Sequence[InvalidResponse]
    next_cursor: str | None


class SharegramClient:
    """Sharegram's API. One object a process: its connections, limits and retry budget are those of the process."""

    def __init__(
        self, calls: CallLayer, probes: CallLayer, credentials: CredentialsGate, keys: IdempotencyKeys
    ) -> None:
        """Make a client. `calls` is the chain of all layers; `probes` has no retry, no breaker and no budget."""
        self._calls = calls
        self._probes = probes
        self._credentials = credentials
        self._keys = keys

    def credentials_rejected_seconds(self) -> float:
        """Return the seconds for which no signed call is sent because Sharegram refuses our credentials; 0 if none."""
        return self._credentials.rejected_seconds()

    async def health(self, caller: SharegramCaller) -> SharegramHealth:
        """Ask for Sharegram's health, once. The breaker does not hear of it."""
        return _typed(await self._probes.send(OutgoingCall(operations.HEALTH, caller, "/health")), SharegramHealth)

    async def upload_document(
        self, caller: SharegramCaller, *, work: str, document: DocumentFile, form: Mapping[str, str]
    ) -> UploadedDocument:
        """Upload a document with the text fields of `form`. The same work and content is stored once."""
        boundary, body = multipart_body(document, form)
        content_type = f"multipart/form-data; boundary={boundary}"
        return await self._write(
            operations.UPLOAD_DOCUMENT, caller, "/kyc/documents", work, body, UploadedDocument, content_type
        )

    async def start_verification(
        self, caller: SharegramCaller, *, work: str, performer_id: str, fields: Mapping[str, object]
    ) -> StartedVerification:
        """Begin a verification of a performer. The same work begins one verification, however often it is sent."""
        body = _json_body({"performerId": performer_id, **fields})
        return await self._write(operations.START_VERIFICATION, caller, "/kyc/verify", work, body, StartedVerification)

    async def verification(self, caller: SharegramCaller, verification_id: str) -> VerificationState:
        """Return a verification. Raises `SharegramRejected` with status 404 if there is none."""
        path = f"/kyc/verify/{_segment(verification_id)}"
        return await self._read(operations.SHOW_VERIFICATION, caller, path, VerificationState)

    async def match_faces(
        self, caller: SharegramCaller, *, work: str, performer_id: str, fields: Mapping[str, object]
    ) -> FaceMatch:
        """Compare the performer's selfie with the document."""
        body = _json_body({"performerId": performer_id, **fields})
        return await self._write(operations.MATCH_FACES, caller, "/kyc/face-match", work, body, FaceMatch)

    async def risk_score(self, caller: SharegramCaller, performer_id: str) -> RiskScore:
        """Return the newest risk score. Raises `SharegramRejected` with status 404 for an unknown performer."""
        path = f"/kyc/risk-score/{_segment(performer_id)}"
        return await self._read(operations.SHOW_RISK_SCORE, caller, path, RiskScore)

    async def performers(
        self,
        caller: SharegramCaller,
        *,
        updated_since: datetime | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> PerformerPage:
        """Return a page of performers that changed at or after `updated_since`, in the order of (change, id).

        `cursor` is `next_cursor` of the page before, and None begins. A performer that changes meanwhile comes again.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit must be 1 to {MAX_PAGE}")
        query = {"limit": str(limit)}
        if updated_since is not None:
            query["updatedSince"] = rfc3339(updated_since)
        if cursor is not None:
            query["cursor"] = cursor
        raw = await self._read(operations.LIST_PERFORMERS, caller, "/performers", RawPerformerPage, urlencode(query))
        return _page(raw)

    async def performer(self, caller: SharegramCaller, performer_id: str) -> PerformerRecord:
        """Return a performer. Raises `SharegramRejected` with status 404 if there is none."""
        return await self._read(
            operations.SHOW_PERFORMER, caller, f"/performers/{_segment(performer_id)}", PerformerRecord
        )

    async def register_webhook(
        self, caller: SharegramCaller, *, url: str, events: Sequence[str] | None = None
    ) -> RegisteredWebhook:
        """Register our webhook endpoint for `events`, or for all. Sent once: after a failure the caller decides."""
        body = _json_body({"url": url, **({} if events is None else {"events": list(events)})})
        call = OutgoingCall(operations.REGISTER_WEBHOOK, caller, "/webhooks", "", body, JSON, f"sv-{token_hex(16)}")
        return _typed(await self._calls.send(call), RegisteredWebhook)

    async def _read(
        self, operation: Operation, caller: SharegramCaller, path: str, kind: type[Result], query: str = ""
    ) -> Result:
        call = OutgoingCall(operation, caller, path, f"?{query}" if query else "")
        return _typed(await self._calls.send(call), kind)

    async def _write(
        self,
        operation: Operation,
        caller: SharegramCaller,
        path: str,
        work: str,
        body: bytes,
        kind: type[Result],
        content_type: str = JSON,
    ) -> Result:
        """Send a write under the key of its work, which is stored first."""
        key = await self._keys.reserve(work_of(operation, work), body)
        return _typed(await self._calls.send(OutgoingCall(operation, caller, path, "", body, content_type, key)), kind)


@asynccontextmanager
async def open_sharegram(
    settings: SharegramSettings,
    protections: CallProtections,
    keys: IdempotencyKeys,
    registry: CollectorRegistry,
    logger: FilteringBoundLogger,
    clock: Clock,
) -> AsyncIterator[SharegramClient]:
    """Open the client. It connects with its first call. Raises `StartupError` for an unusable `SHAREGRAM_CA_FILE`.

    Without `SHAREGRAM_API_URL` every call raises `IntegrationNotConfigured`.
    """
    metrics = SharegramMetrics(registry)
    credentials = protections.credentials or settings.credentials

    tls = client_context("SHAREGRAM_CA_FILE", TlsFiles(settings.sharegram_ca_file))
    async with HttpTransport.open(tls) as transport:
        signing = SigningTransport(transport, settings.sharegram_api_url, credentials, clock)
        once = TryTimeout(ResponseReader(signing, clock), metrics)
        guarded = BreakerLayer(BudgetLayer(once, protections.budget), protections.breaker)
        limited = ConcurrencyLimit(guarded, settings.sharegram_max_concurrent_calls, metrics)
        gate = CredentialsGate(Retries(limited, settings.retry_policy(), metrics))
        yield SharegramClient(
            CallMetrics(FallbackGate(gate, protections.fallback, clock), metrics, logger),
            CallMetrics(FallbackGate(once, protections.fallback, clock), metrics, logger),
            gate,
            keys,
        )


def multipart_body(document: DocumentFile, form: Mapping[str, str]) -> tuple[str, bytes]:
    """Return boundary and body of a form. The same input is the same bytes, as the idempotency key requires.

    Raises `ValueError` for a field name or media type that is not a plain word.
    """
    if not _MEDIA_TYPE.fullmatch(document.media_type) or not all(map(_FIELD_NAME.fullmatch, [document.field, *form])):
        raise ValueError("a form has plain field names and a media type")
    parts = [
        *(
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + text.encode()
            for name, text in sorted(form.items())
        ),
        (
            f'Content-Disposition: form-data; name="{document.field}"; filename="{document.field}"\r\n'
            f"Content-Type: {document.media_type}\r\n\r\n"
        ).encode()
        + document.content,
    ]
    digest = sha256()
    for part in parts:
        digest.update(sha256(part).digest())
    boundary = f"safevideo-{digest.hexdigest()[:40]}"  # nobody can place a hash of the content into the content
    opening = f"--{boundary}\r\n".encode()
    return boundary, b"".join(opening + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def _page(raw: RawPerformerPage) -> PerformerPage:
    performers: list[PerformerRecord] = []
    invalid: list[InvalidResponse] = []
    for record in raw.performers:
        try:
            performers.append(decoded_record(record, PerformerRecord))
        except InvalidResponse as error:
            invalid.append(error)
    return PerformerPage(performers, invalid, raw.next_cursor)


def _typed(result: object, kind: type[Result]) -> Result:
    assert isinstance(result, kind)
    return result


def _json_body(fields: Mapping[str, object]) -> bytes:
    """Return JSON with sorted keys: the same fields are the same bytes."""
    return msgspec.json.encode(fields, order="sorted")


def _segment(text: str) -> str:
    return quote(text, safe="")
