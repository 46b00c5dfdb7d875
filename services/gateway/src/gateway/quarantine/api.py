"""`/api/v1/admin/webhooks/rejected`: list, show, verify again. Bodies and signatures are never shown."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field, SecretStr

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.query import PageQuery, StorableTimestamp, pagination, parse_query, row_id_of
from gateway.quarantine.reverify import ReverifyRejected, ReverifyReport, ReverifyRequest
from safevideo_common.clock import format_timestamp, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.paging import Order
from safevideo_common.errors import NotFound, ValidationFailed
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.quarantine.queries import RejectedFilter, RejectedRecord
from safevideo_common.web.responses import success
from safevideo_common.webhooks.signatures import WebhookSecret

# The quarantine as operators see it: every webhook that was refused and is kept, without its body.


class BrowseRejected:
    """Reads the quarantine. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: RejectedFilter, *, page: int, limit: int, order: Order
    ) -> tuple[list[RejectedRecord], int]:
        """One page by time of reception, counted from 1, and the number of all that match."""
        async with self._database.reading() as reading:
            return await quarantine_queries.find(reading, wanted, page=page, limit=limit, order=order)

    async def one(self, row_id: int) -> RejectedRecord:
        """The facts of one. Raises `NotFound`: it may have been evicted since it was listed."""
        async with self._database.reading() as reading:
            record = await quarantine_queries.get(reading, row_id)
        if record is None:
            raise NotFound("There is no such webhook in quarantine.")
        return record


MAX_IDS: Final = 10_000
_EVENT_IDS: Final = ("X-Sharegram-Event-Id", "webhook-id")
_TIMESTAMPS: Final = ("X-Sharegram-Timestamp", "webhook-timestamp")


class RejectedQuery(PageQuery):
    """Filters of the list; `from` and `to` are about `receivedAt`, the end excluded."""

    reason: str | None = Field(None, pattern=r"^[a-z_]{1,64}$")
    released: Literal["true", "false"] | None = None
    from_: StorableTimestamp | None = Field(None, alias="from")
    to: StorableTimestamp | None = None

    def filter(self) -> RejectedFilter:
        """As the quarantine wants it."""
        return RejectedFilter(self.reason, self.released and self.released == "true", self.from_, self.to)


class ReverifyBody(Body):
    """What to verify again, and with which secret. Without `dryRun: false` nothing is released."""

    secret: SecretStr | None = Field(None, min_length=1, max_length=512)
    ids: list[Annotated[int, Field(ge=1, lt=10**18)]] | None = Field(None, max_length=MAX_IDS)
    dry_run: bool = True

    def asked(self) -> ReverifyRequest:
        """As the handler wants it. Raises `ValidationFailed` for a secret that can be none."""
        return ReverifyRequest(_given(self.secret), None if self.ids is None else frozenset(self.ids), self.dry_run)


class QuarantineApi:
    """The quarantine."""

    def __init__(self, browse: BrowseRejected, reverify: ReverifyRejected, log: FilteringBoundLogger) -> None:
        self._browse = browse
        self._reverify = reverify
        self._log = log.bind(stream="audit")

    async def list(self, request: web.Request) -> web.Response:
        """One page, the newest first unless asked otherwise. Raises `ValidationFailed`."""
        query = parse_query(RejectedQuery, request)
        records, total = await self._browse.page(query.filter(), page=query.page, limit=query.limit, order=query.order)
        extra = {"pagination": pagination(query.page, query.limit, total)}
        return success([rejected_json(record) for record in records], extra=extra)

    async def show(self, request: web.Request) -> web.Response:
        """The facts of one. Raises `NotFound`, and `ValidationFailed` for what can be no id."""
        return success(rejected_json(await self._browse.one(row_id_of(request))))

    async def reverify(self, request: web.Request) -> web.Response:
        """Verify again, and release unless it is a dry run. Raises `ValidationFailed`, `BrokerUnavailable`."""
        asked = (await parse_body(ReverifyBody, request)).asked()
        caller = caller_of(request)
        report = await self._reverify.run(asked, caller)
        self._log.info(
            "Rejected webhooks verified again",
            actor=caller.name,
            dry_run=asked.dry_run,
            checked=report.checked,
            released=len(report.released),
            request_id=caller.request_id,
        )
        return success(report_json(report, asked))


def rejected_json(record: RejectedRecord) -> dict[str, object]:
    """A rejected webhook as the API shows it."""
    return {
        "id": record.row_id,
        "receivedAt": rfc3339(record.received_at),
        "lastSeenAt": rfc3339(record.last_seen_at),
        "timesSeen": record.times_seen,
        "reason": record.reason,
        "code": record.code,
        "scheme": record.scheme,
        "eventId": _sent(record, _EVENT_IDS),
        "timestamp": _sent(record, _TIMESTAMPS),
        "bodyBytes": record.body_bytes,
        "bodySha256": record.body_sha256,
        "remote": record.remote,
        "requestId": record.request_id,
        "releasedAt": format_timestamp(record.released_at),
        "releasedEventId": record.released_event_id,
    }


def report_json(report: ReverifyReport, asked: ReverifyRequest) -> dict[str, object]:
    """A run as the API shows it: counts and row ids by verdict."""
    return {
        "dryRun": asked.dry_run,
        "complete": report.is_complete,
        "checked": report.checked,
        "released": len(report.released),
        "verdicts": {reason: {"count": len(ids), "ids": ids} for reason, ids in report.verdicts.items()},
    }


def _given(secret: SecretStr | None) -> WebhookSecret | None:
    if secret is None:
        return None
    try:
        return WebhookSecret("given", secret.get_secret_value().encode())
    except ValueError:  # of a surrogate it would quote the secret itself
        raise ValidationFailed("This is no secret.", details={"secret": "is not well-formed"}) from None


def _sent(record: RejectedRecord, names: Sequence[str]) -> str | None:
    """The first value of the first of these headers that was sent."""
    return next((record.headers[name][0] for name in names if record.headers.get(name)), None)
