"""`/api/v1/admin/webhooks/rejected`: list, show, verify again. No response has a body or a signature."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NotRequired, TypedDict

from aiohttp import web
from pydantic import Field, SecretStr

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMIN_PATH, ADMINS, READERS, Endpoint, Returns, Shape
from gateway.http.query import KeyedPageQuery, StorableTimestamp, parse_query, row_id_of
from gateway.quarantine.reverify import VALID, ReverifyReport, ReverifyRequest, ReverifyService
from safevideo_common.database.engine import Database
from safevideo_common.errors import NotFound, ValidationFailed
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.quarantine.queries import RejectedDocument, RejectedFilter, rejected_document
from safevideo_common.weak_secrets import MIN_SECRET_LENGTH, explain_weak_secret
from safevideo_common.web.responses import success
from safevideo_common.webhooks.signatures import WebhookSecret, name_of_secret

MAX_IDS: Final = 10_000


class RejectedQuery(KeyedPageQuery):
    """The filter of the list. `from` and `to` are a range of `receivedAt`, without its end."""

    reason: str | None = Field(None, pattern=r"^[a-z_]{1,64}$")
    released: Literal["true", "false"] | None = None
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> RejectedFilter:
        """Return the filter of the quarantine."""
        return RejectedFilter(self.reason, self.released and self.released == "true", self.from_, self.to)


class ReverifyBody(Body):
    """The webhooks to verify again, and the secret. Without `dryRun: false` nothing is released."""

    secret: SecretStr | None = Field(None, min_length=MIN_SECRET_LENGTH, max_length=512)
    ids: list[Annotated[int, Field(ge=1, lt=10**18)]] | None = Field(None, max_length=MAX_IDS)
    dry_run: bool = True

    def request(self) -> ReverifyRequest:
        """Return the options of the run. Raises `ValidationFailed` for a malformed secret."""
        secret = None if self.secret is None else _webhook_secret(self.secret)
        return ReverifyRequest(secret, None if self.ids is None else frozenset(self.ids), self.dry_run)


class ResultDocument(TypedDict):
    """The rows with the same result."""

    count: int
    ids: list[int]
    schemes: NotRequired[dict[str, list[int]]]
    """Of the valid ones: the ids by the scheme that was verified."""


ReverifyDocument = TypedDict(  # noqa: UP013 - a name of the wire that our own code does not use
    "ReverifyDocument",
    {"dryRun": bool, "complete": bool, "checked": int, "released": int, "verdicts": dict[str, ResultDocument]},
)


_REJECTED: Final[RejectedDocument] = {
    "id": 5,
    "receivedAt": "2026-11-24T20:58:25.123Z",
    "lastSeenAt": "2026-11-24T21:03:25.123Z",
    "timesSeen": 3,
    "reason": "mismatch",
    "code": "WEBHOOK_SIGNATURE_INVALID",
    "scheme": "sharegram",
    "eventId": "evt_1002",
    "timestamp": "1764017905",
    "bodyBytes": 214,
    "bodySha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "remote": "192.0.2.10",
    "requestId": "0f8fad5bd9cb469fa16570867728950e",
    "releasedAt": None,
    "releasedEventId": None,
}
_REVERIFIED: Final[ReverifyDocument] = {
    "dryRun": True,
    "complete": True,
    "checked": 3,
    "released": 0,
    "verdicts": {
        "holds": {"count": 2, "ids": [5, 7], "schemes": {"sharegram": [5, 7]}},
        "mismatch": {"count": 1, "ids": [6]},
    },
}


class QuarantineApi:
    """The endpoints of rejected webhooks."""

    def __init__(self, database: Database, reverify: ReverifyService, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._reverify = reverify
        self._logger = logger.bind(stream="audit")

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path = f"{ADMIN_PATH}/webhooks/rejected"
        page = Returns(RejectedDocument, _REJECTED, shape=Shape.PAGE)
        one = Returns(RejectedDocument, _REJECTED)
        run = Returns(ReverifyDocument, _REVERIFIED)
        dry_run = {"dryRun": True}
        return [
            Endpoint("GET", path, self.list, READERS, page, query=RejectedQuery),
            Endpoint("GET", f"{path}/{{id}}", self.show, READERS, one, (NotFound,)),
            Endpoint("POST", f"{path}/reverify", self.reverify, ADMINS, run, body=ReverifyBody, body_example=dry_run),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return one page of rejected webhooks, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(RejectedQuery, request)
        async with self._database.read_connection() as connection:
            records, total = await quarantine_queries.find(
                connection, query.filter(), page=query.page, limit=query.limit, order=query.order, after=query.after
            )
        return query.response(map(rejected_document, records), total)

    async def show(self, request: web.Request) -> web.Response:
        """Return one rejected webhook. An old one may be evicted after it was listed.

        Raises `NotFound`, `ValidationFailed`.
        """
        async with self._database.read_connection() as connection:
            record = await quarantine_queries.get(connection, row_id_of(request))
        if record is None:
            raise NotFound("There is no such webhook in quarantine.")
        return success(rejected_document(record))

    async def reverify(self, request: web.Request) -> web.Response:
        """Verify rejected webhooks again, and release the valid ones unless it is a dry run.

        Raises `ValidationFailed`, `BrokerUnavailable`.
        """
        options = (await parse_body(ReverifyBody, request)).request()
        caller = caller_of(request)
        report = await self._reverify.run(options, caller)
        self._logger.info(
            "Rejected webhooks verified again",
            actor=caller.name,
            dry_run=options.dry_run,
            checked=report.checked,
            released=len(report.released),
            request_id=caller.request_id,
        )
        return success(report_document(report, options))


def report_document(report: ReverifyReport, request: ReverifyRequest) -> ReverifyDocument:
    """Return the JSON document of a run: counts and row ids by reason."""
    return {
        "dryRun": request.dry_run,
        "complete": report.is_complete,
        "checked": report.checked,
        "released": len(report.released),
        "verdicts": {reason: _result(report, reason) for reason in report.row_ids},
    }


def _result(report: ReverifyReport, reason: str) -> ResultDocument:
    ids = report.row_ids[reason]
    if reason == VALID:
        return {"count": len(ids), "ids": ids, "schemes": report.by_scheme}
    return {"count": len(ids), "ids": ids}


def _webhook_secret(secret: SecretStr) -> WebhookSecret:
    if reason := explain_weak_secret(secret.get_secret_value()):
        raise ValidationFailed("Invalid secret.", details={"secret": reason})
    try:
        key = secret.get_secret_value().encode()
        return WebhookSecret(name_of_secret(key), key)
    except ValueError:  # the error of a surrogate would quote the secret
        raise ValidationFailed("Invalid secret.", details={"secret": "is not well-formed"}) from None
