"""`/api/v1/admin/webhooks/rejected`: list, show, verify again. No response has a body or a signature."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field, SecretStr

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.query import PageQuery, StorableTimestamp, parse_query, row_id_of
from gateway.quarantine.reverify import ReverifyReport, ReverifyRequest, ReverifyService
from safevideo_common.clock import format_timestamp, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.errors import NotFound, ValidationFailed
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.quarantine.queries import RejectedFilter, RejectedRecord
from safevideo_common.web.responses import success
from safevideo_common.webhooks.signatures import WebhookSecret

MAX_IDS: Final = 10_000
_EVENT_IDS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_TIMESTAMPS: Final = ("X-Sharegram-Timestamp", "webhook-timestamp")


class RejectedQuery(PageQuery):
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

    secret: SecretStr | None = Field(None, min_length=1, max_length=512)
    ids: list[Annotated[int, Field(ge=1, lt=10**18)]] | None = Field(None, max_length=MAX_IDS)
    dry_run: bool = True

    def request(self) -> ReverifyRequest:
        """Return the options of the run. Raises `ValidationFailed` for a malformed secret."""
        secret = None if self.secret is None else _webhook_secret(self.secret)
        return ReverifyRequest(secret, None if self.ids is None else frozenset(self.ids), self.dry_run)


class QuarantineApi:
    """The endpoints of rejected webhooks."""

    def __init__(self, database: Database, reverify: ReverifyService, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._reverify = reverify
        self._logger = logger.bind(stream="audit")

    async def list(self, request: web.Request) -> web.Response:
        """Return one page, by default the newest first. Raises `ValidationFailed`."""
        query = parse_query(RejectedQuery, request)
        async with self._database.read_connection() as connection:
            records, total = await quarantine_queries.find(
                connection, query.filter(), page=query.page, limit=query.limit, order=query.order
            )
        return query.response(map(rejected_document, records), total)

    async def show(self, request: web.Request) -> web.Response:
        """Return one webhook. Raises `NotFound`, also if it was evicted after it was listed, and `ValidationFailed`."""
        async with self._database.read_connection() as connection:
            record = await quarantine_queries.get(connection, row_id_of(request))
        if record is None:
            raise NotFound("There is no such webhook in quarantine.")
        return success(rejected_document(record))

    async def reverify(self, request: web.Request) -> web.Response:
        """Verify again, and release unless it is a dry run. Raises `ValidationFailed`, `BrokerUnavailable`."""
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


def rejected_document(record: RejectedRecord) -> dict[str, object]:
    """Return the JSON document of a rejected webhook."""
    return {
        "id": record.row_id,
        "receivedAt": rfc3339(record.received_at),
        "lastSeenAt": rfc3339(record.last_seen_at),
        "timesSeen": record.times_seen,
        "reason": record.reason,
        "code": record.code,
        "scheme": record.scheme,
        "eventId": _first_header(record, _EVENT_IDS),
        "timestamp": _first_header(record, _TIMESTAMPS),
        "bodyBytes": record.body_bytes,
        "bodySha256": record.body_sha256,
        "remote": record.remote,
        "requestId": record.request_id,
        "releasedAt": format_timestamp(record.released_at),
        "releasedEventId": record.released_event_id,
    }


def report_document(report: ReverifyReport, request: ReverifyRequest) -> dict[str, object]:
    """Return the JSON document of a run: counts and row ids by reason."""
    return {
        "dryRun": request.dry_run,
        "complete": report.is_complete,
        "checked": report.checked,
        "released": len(report.released),
        "verdicts": {reason: {"count": len(ids), "ids": ids} for reason, ids in report.row_ids.items()},
    }


def _webhook_secret(secret: SecretStr) -> WebhookSecret:
    try:
        return WebhookSecret("given", secret.get_secret_value().encode())
    except ValueError:  # the error of a surrogate would quote the secret
        raise ValidationFailed("Invalid secret.", details={"secret": "is not well-formed"}) from None


def _first_header(record: RejectedRecord, names: Sequence[str]) -> str | None:
    """Return the first value of the first of these headers that was sent."""
    return next((record.headers[name][0] for name in names if record.headers.get(name)), None)
