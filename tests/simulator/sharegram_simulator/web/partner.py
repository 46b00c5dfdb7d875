"""The partner API under `/v1`: what the integration calls. Credentials, idempotency and faults are layers around it."""

from email import message_from_bytes
from typing import Annotated, Final
from uuid import uuid4
from zlib import crc32

from aiohttp import web
from pydantic import AwareDatetime, ConfigDict, Field, HttpUrl
from pydantic.alias_generators import to_camel

from sharegram_simulator.clock import rfc3339, utc_now
from sharegram_simulator.errors import Invalid
from sharegram_simulator.provider import Provider
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.web.answers import ExternalId, Json, Wire, json_answer, read_body, read_json, read_query
from sharegram_simulator.web.cursors import read_cursor, write_cursor

PAGE: Final = 100
PAGE_LIMIT: Final = 500


class Documents:
    """The number of uploaded documents. Their bytes are not stored."""

    def __init__(self) -> None:
        self.count = 0


class PageQuery(Wire):
    """The query of the performer list."""

    updated_since: AwareDatetime | None = None
    cursor: Annotated[str, Field(max_length=1000)] | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE


class AboutPerformer(Wire):
    """The common fields of KYC calls. All other fields are accepted and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)
    __pydantic_extra__: dict[str, Json]

    performer_id: ExternalId


class Registration(Wire):
    """The registration of webhooks: their address and types."""

    url: HttpUrl
    events: Annotated[frozenset[str], Field(min_length=1, max_length=100)] | None = None


class PartnerApi:
    """The handlers, each as small as what it stands in for."""

    def __init__(self, provider: Provider, documents: Documents, receiver: Receiver) -> None:
        self._provider = provider
        self._documents = documents
        self._receiver = receiver

    def routes(self) -> list[web.RouteDef]:
        """Return the routes. HEAD is answered wherever GET is."""
        return [
            web.get("/v1/health", self.health),
            web.post("/v1/kyc/documents", self.upload_document),
            web.post("/v1/kyc/verify", self.start_verification),
            web.get("/v1/kyc/verify/{verification_id}", self.show_verification),
            web.post("/v1/kyc/face-match", self.match_faces),
            web.get("/v1/kyc/risk-score/{performer_id}", self.show_risk_score),
            web.get("/v1/performers", self.list_performers),
            web.get("/v1/performers/{performer_id}", self.show_performer),
            web.post("/v1/webhooks", self.register_webhook),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Sharegram is up."""
        return json_answer({"status": "ok", "timestamp": rfc3339(utc_now())})

    async def upload_document(self, request: web.Request) -> web.Response:
        """Take a multipart form with at least one file; count it and forget it."""
        if not _has_file(request.headers.get("Content-Type", ""), await read_body(request)):
            raise Invalid("A multipart form with a file is required.", details={"body": "no file"})
        self._documents.count += 1
        return json_answer({"documentId": f"doc_{uuid4().hex}", "status": "accepted"}, 201)

    async def start_verification(self, request: web.Request) -> web.Response:
        """Begin a verification; `/_sim/verifications/{id}` finishes it."""
        about = await read_json(request, AboutPerformer)
        verification = self._provider.start_verification(about.performer_id)
        return json_answer({"verificationId": verification.verification_id, "status": verification.status}, 201)

    async def show_verification(self, request: web.Request) -> web.Response:
        """Return the state of a verification, with the result that the webhook has too."""
        return json_answer(self._provider.verifications.get(request.match_info["verification_id"]).as_json())

    async def match_faces(self, request: web.Request) -> web.Response:
        """Every face matches, as well as the performer's id lets it: the same answer each time."""
        about = await read_json(request, AboutPerformer)
        return json_answer({"performerId": about.performer_id, "match": True, "score": _score_of(about.performer_id)})

    async def show_risk_score(self, request: web.Request) -> web.Response:
        """The score of the newest verdict; a plausible one for a performer without any."""
        performer_id = request.match_info["performer_id"]
        verdict = self._provider.verifications.newest_verdict(performer_id)
        if verdict is None:
            self._provider.performers.get(performer_id)
        score = _score_of(performer_id) if verdict is None else verdict.risk_score
        return json_answer({"performerId": performer_id, "riskScore": score})

    async def list_performers(self, request: web.Request) -> web.Response:
        """A page in the order of (updatedAt, id). One who changes during a scan comes again at its end."""
        query = read_query(request, PageQuery)
        after = None if query.cursor is None else read_cursor(query.cursor)
        found = self._provider.performers.page(query.updated_since, after, query.limit + 1)
        page, more = found[: query.limit], len(found) > query.limit
        next_cursor = write_cursor(page[-1].place) if more else None
        return json_answer({"performers": [performer.as_json() for performer in page], "nextCursor": next_cursor})

    async def show_performer(self, request: web.Request) -> web.Response:
        """Return a performer."""
        return json_answer(self._provider.performers.get(request.match_info["performer_id"]).as_json())

    async def register_webhook(self, request: web.Request) -> web.Response:
        """Send webhooks to this address from now on, of the named types only."""
        registration = await read_json(request, Registration)
        self._receiver.url, self._receiver.events = str(registration.url), registration.events
        events = None if registration.events is None else sorted(registration.events)
        return json_answer({"webhookId": f"wh_{uuid4().hex}", "url": self._receiver.url, "events": events}, 201)


def _has_file(content_type: str, body: bytes) -> bool:
    form = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return form.get_content_type() == "multipart/form-data" and any(part.get_filename() for part in form.walk())


def _score_of(performer_id: str) -> int:
    """From 60 to 99, always the same for one performer."""
    return 60 + crc32(performer_id.encode()) % 40
