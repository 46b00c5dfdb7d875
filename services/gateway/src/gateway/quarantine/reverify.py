"""Verification of quarantined webhooks again, after a secret was fixed, and release of those that are valid now.

A valid webhook is published as the message, with the id, that webhook-ingest would have published. It is marked as
released after the broker's acknowledgement. A crash between the two publishes it again with the same id, and the inbox
recognises the duplicate.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.broker.port import Producer
from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.errors import (
    BrokerUnavailable,
    PayloadTooLarge,
    ServiceUnavailable,
    ValidationFailed,
    WebhookSignatureInvalid,
)
from safevideo_common.quarantine import store as quarantine_store
from safevideo_common.quarantine.store import Candidate, ReleasedWebhook, StoredRejection
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import SCHEMES, SchemeName, WebhookSecret

BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 8 << 20
RUN_SECONDS: Final = 25.0
"""A run stops between two batches after this time and reports that it is incomplete: proxies time out after 60 s."""

REVERIFIED: Final = "webhooks.reverified"
RELEASED: Final = "webhooks.released"

_SINGLE_SCHEMES: Final[Sequence[SchemeName]] = ("sharegram", "standard")

VALID: Final = "holds"
INVALID_BODY: Final = "invalid"
"""The signature is valid, but webhook-ingest would have answered 400 because of the body or an id."""
NOT_DECRYPTABLE: Final = "undecipherable"
"""Encrypted with a key that is no longer in `ENCRYPTION_KEY`."""

CurrentSecrets = Callable[[], Awaitable[Sequence[WebhookSecret]]]


class ReverifyRequest(NamedTuple):
    """The options of a run: a secret to use in place of the current ones, and the rows to verify (None for all)."""

    secret: WebhookSecret | None
    row_ids: Collection[int] | None
    dry_run: bool


class ReverifyResult(NamedTuple):
    """The result of one row: `VALID` with the message to publish, or the reason that it is not valid."""

    row_id: int
    reason: str
    event_id: str = ""
    scheme: str = ""
    """The schemes that were verified: `sharegram`, `standard`, or both joined by a plus sign."""
    secret_name: str = ""
    message: Message | None = None


@dataclass(slots=True)
class ReverifyReport:
    """The results of a run."""

    row_ids: dict[str, list[int]] = field(default_factory=dict)
    """Row ids by reason, in order of reception."""
    by_scheme: dict[str, list[int]] = field(default_factory=dict)
    """Row ids of the valid webhooks by the scheme that was verified."""
    released: list[int] = field(default_factory=list)
    is_complete: bool = True
    failure: BrokerUnavailable | None = None

    @property
    def checked(self) -> int:
        """Return the number of rows that were verified."""
        return sum(map(len, self.row_ids.values()))

    def to_document(self, request: ReverifyRequest, current: Sequence[WebhookSecret]) -> dict[str, object]:
        """Return options and counts for the audit log. A given secret is named as the log names one of ours."""
        return {
            "dryRun": request.dry_run,
            "secret": request.secret and request.secret.name,
            "secretIsConfigured": not request.secret or request.secret.key in {each.key for each in current},
            "idsGiven": request.row_ids is not None,
            "verdicts": {reason: len(ids) for reason, ids in self.row_ids.items()},
            "released": len(self.released),
            "complete": self.is_complete and self.failure is None,
        }


class ReverifyService:
    """A run at a time per process. Concurrent runs of two replicas publish the same events with the same ids."""

    def __init__(
        self,
        database: Database,
        producer: Producer,
        cipher: Cipher | None,
        scheme: SchemeName,
        current_secrets: CurrentSecrets,
        *,
        clock: Clock,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._producer = producer
        self._cipher = cipher
        self._scheme = scheme
        self._current_secrets = current_secrets
        self._clock = clock
        self._seconds = seconds
        self._lock = asyncio.Lock()

    async def run(self, request: ReverifyRequest, caller: Caller) -> ReverifyReport:
        """Verify rows that are not released, in order of reception. Release the valid ones unless it is a dry run.

        Raises `BrokerUnavailable` if the broker did not acknowledge all: what it did is marked, the next run does the
        rest. Raises `ValidationFailed` without a secret, `ServiceUnavailable` without `ENCRYPTION_KEY`, and the errors
        of `database/errors.py`.
        """
        if self._cipher is None:
            raise ServiceUnavailable("ENCRYPTION_KEY is not set here, so nothing in quarantine can be read.")
        current = await self._current_secrets()
        secrets = (request.secret,) if request.secret else current
        if not secrets:
            raise ValidationFailed("No secret is configured here.", details={"secret": "must be given"})
        async with self._lock:
            report = await self._run(request, caller, self._cipher, secrets)
            async with self._database.transaction() as tx:
                details = report.to_document(request, current)
                await audit_store.record(tx, caller.entry(REVERIFIED, self._clock, details))
        if report.failure:
            raise report.failure
        return report

    async def _run(
        self, request: ReverifyRequest, caller: Caller, cipher: Cipher, secrets: Sequence[WebhookSecret]
    ) -> ReverifyReport:
        report, deadline = ReverifyReport(), self._seconds() + RUN_SECONDS
        async with self._database.read_connection() as connection:
            candidates = await quarantine_store.unreleased(connection, request.row_ids)
        for batch in _batches(candidates):
            if self._seconds() > deadline:
                report.is_complete = False
                break
            results = await self._verify(batch, cipher, secrets)
            for result in results:
                report.row_ids.setdefault(result.reason, []).append(result.row_id)
                if result.scheme:
                    report.by_scheme.setdefault(result.scheme, []).append(result.row_id)
            if not request.dry_run:
                releases, report.failure = await self._release(results, caller)
                report.released += [each.row_id for each in releases]
                if report.failure:
                    break
        return report

    async def _verify(
        self, row_ids: Sequence[int], cipher: Cipher, secrets: Sequence[WebhookSecret]
    ) -> list[ReverifyResult]:
        async with self._database.read_connection() as connection:
            rows = await quarantine_store.load(connection, row_ids)
        # In a thread: a batch of large bodies takes a tenth of a second.
        return await asyncio.to_thread(lambda: [reverify_one(row, cipher, self._scheme, secrets) for row in rows])

    async def _release(
        self, results: Sequence[ReverifyResult], caller: Caller
    ) -> tuple[list[ReleasedWebhook], BrokerUnavailable | None]:
        """Publish the valid webhooks and mark those that the broker acknowledged. Return these, and the first failure.

        The webhooks of one performer are published one after the other, and none after a failed one. Performers are
        published concurrently.
        """
        by_key: dict[tuple[str, bytes], list[tuple[ReleasedWebhook, Message]]] = {}
        for result in results:
            if message := result.message:
                release = ReleasedWebhook(result.row_id, result.event_id)
                by_key.setdefault((message.topic, message.key), []).append((release, message))
        published = await asyncio.gather(*map(self._publish_in_order, by_key.values()))
        releases = sorted(release for done, _ in published for release in done)
        if releases:
            ids = {each.row_id for each in releases}
            secrets = sorted({result.secret_name for result in results if result.row_id in ids})
            await self._mark_released(releases, secrets, caller)
        return releases, next((failure for _, failure in published if failure), None)

    async def _publish_in_order(
        self, webhooks: Sequence[tuple[ReleasedWebhook, Message]]
    ) -> tuple[list[ReleasedWebhook], BrokerUnavailable | None]:
        done: list[ReleasedWebhook] = []
        for release, message in webhooks:
            try:
                await self._producer.publish(message)
            except BrokerUnavailable as error:
                return done, error
            except PayloadTooLarge:  # by the limit of the topic: it would block the later ones forever
                continue
            done.append(release)
        return done, None

    async def _mark_released(self, releases: Sequence[ReleasedWebhook], secrets: Sequence[str], caller: Caller) -> None:
        details = {
            "ids": [each.row_id for each in releases],
            "eventIds": [each.event_id for each in releases],
            "secrets": secrets,
        }
        async with self._database.transaction() as tx:
            await quarantine_store.mark_released(tx, releases, self._clock())
            await audit_store.record(tx, caller.entry(RELEASED, self._clock, details))


def reverify_one(
    row: StoredRejection, cipher: Cipher, scheme: SchemeName, secrets: Sequence[WebhookSecret]
) -> ReverifyResult:
    """Verify with the time of receipt, not the current time, as webhook-ingest would have."""
    headers = CIMultiDictProxy(CIMultiDict([(name, value) for name, values in row.headers.items() for value in values]))
    try:
        body = cipher.decrypt(row.body, row.fingerprint)
        secret = SCHEMES[scheme].verify(headers, body, secrets, row.received_at)
        correlation = Correlation(row.request_id, headers.get("traceparent", ""))
        envelope = parse_webhook(body, headers, SCHEMES[scheme].identity(headers), correlation)
    except DecryptionFailed:
        return ReverifyResult(row.row_id, NOT_DECRYPTABLE)
    except WebhookSignatureInvalid as error:
        return ReverifyResult(row.row_id, str((error.details or {}).get("reason", "")))
    except ValidationFailed:
        return ReverifyResult(row.row_id, INVALID_BODY)
    claimed = (each for each in _SINGLE_SCHEMES if scheme in ("any", each) and SCHEMES[each].is_present(headers))
    return ReverifyResult(row.row_id, VALID, envelope.id, "+".join(claimed), secret.name, message_of(envelope, body))


def _batches(candidates: Sequence[Candidate]) -> Iterator[list[int]]:
    """Split the row ids, in order, at `BATCH_ROWS` and at `BATCH_BYTES`. A larger body is a batch by itself."""
    batch: list[int] = []
    size = 0
    for candidate in candidates:
        if batch and (len(batch) == BATCH_ROWS or size + candidate.body_bytes > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(candidate.row_id)
        size += candidate.body_bytes
    if batch:
        yield batch
