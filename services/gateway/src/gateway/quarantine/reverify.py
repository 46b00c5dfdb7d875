"""Verifying the quarantine again, after a secret was mended, and releasing what now holds."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
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
from safevideo_common.quarantine.store import Candidate, Quarantined, ReleasedWebhook
from safevideo_common.web.correlation import Correlation
from safevideo_common.webhooks.parsing import message_of, parse_webhook
from safevideo_common.webhooks.signatures import Scheme, WebhookSecret

# What becomes of a quarantined webhook when it is verified again. Pure, and nothing but bytes and headers goes in.


HOLDS: Final = "holds"
INVALID: Final = "invalid"
"""The signature holds, and the door would have answered 400: the body or an id is not as agreed."""

UNDECIPHERABLE: Final = "undecipherable"
"""Written under a key that `ENCRYPTION_KEY` does not have any more."""


class ReverifyResult(NamedTuple):
    """`reason` is `HOLDS`, and then there is a message to publish; or why not, in the words of `Refusal` or above."""

    row_id: int
    reason: str
    event_id: str = ""
    message: Message | None = None


def reverify_one(row: Quarantined, cipher: Cipher, scheme: Scheme, secrets: Sequence[WebhookSecret]) -> ReverifyResult:
    """Verify as the door would have at the moment of reception: that, and not now, is what a timestamp is judged by.

    A webhook that holds becomes the very message, under the very id, that the door would have published.
    """
    headers = _as_sent(row.headers)
    try:
        body = cipher.decrypt(row.body)
        scheme.verify(headers, body, secrets, row.received_at)
        envelope = parse_webhook(body, headers, Correlation(row.request_id, headers.get("traceparent", "")))
    except DecryptionFailed:
        return ReverifyResult(row.row_id, UNDECIPHERABLE)
    except WebhookSignatureInvalid as error:
        return ReverifyResult(row.row_id, str((error.details or {}).get("reason", "")))
    except ValidationFailed:
        return ReverifyResult(row.row_id, INVALID)
    return ReverifyResult(row.row_id, HOLDS, envelope.id, message_of(envelope, body))


def _as_sent(headers: Mapping[str, Sequence[str]]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([(name, value) for name, values in headers.items() for value in values]))


# Releasing from the quarantine: publish to the log, then mark and audit in one transaction.


RELEASED: Final = "webhooks.released"


class ReleaseResult(NamedTuple):
    """What the log has, and why it does not have the rest."""

    releases: list[ReleasedWebhook]
    failure: BrokerUnavailable | None = None


class ReleaseWebhooks:
    """A crash between publishing and marking means publishing again under the same id: the inbox makes it one event."""

    def __init__(self, database: Database, publisher: Producer, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock

    async def release(self, holding: Sequence[ReverifyResult], caller: Caller) -> ReleaseResult:
        """Publish in order of reception what holds, and mark what the log has acknowledged.

        Those of one performer go one after the other, and none of them after one that failed; performers go side by
        side. Raises the errors of `database/faults.py`.
        """
        lanes: dict[tuple[str, bytes], list[tuple[ReleasedWebhook, Message]]] = {}
        for verdict in holding:
            if message := verdict.message:
                release = ReleasedWebhook(verdict.row_id, verdict.event_id)
                lanes.setdefault((message.topic, message.key), []).append((release, message))
        results = await asyncio.gather(*map(self._published, lanes.values()))
        done = sorted(release for result in results for release in result.releases)
        if done:
            await self._mark(done, caller)
        return ReleaseResult(done, next((result.failure for result in results if result.failure), None))

    async def _published(self, lane: Sequence[tuple[ReleasedWebhook, Message]]) -> ReleaseResult:
        done: list[ReleasedWebhook] = []
        for release, message in lane:
            try:
                await self._publisher.publish(message)
            except BrokerUnavailable as error:
                return ReleaseResult(done, error)
            except PayloadTooLarge:  # by the topic's own limit: it would stand in the way of the others for ever
                continue
            done.append(release)
        return ReleaseResult(done)

    async def _mark(self, releases: Sequence[ReleasedWebhook], caller: Caller) -> None:
        details = {"ids": [each.row_id for each in releases], "eventIds": [each.event_id for each in releases]}
        async with self._database.transaction() as tx:
            await quarantine_store.mark_released(tx, releases, self._clock())
            await audit_store.record(tx, caller.did(RELEASED, self._clock, details))


# What a run over the quarantine is asked to do, and what it found and did.


class ReverifyRequest(NamedTuple):
    """What to do. `given` is a secret to use in place of the present ones, `ids` are rows to look at, None for all."""

    given: WebhookSecret | None
    ids: Collection[int] | None
    dry_run: bool


@dataclass(slots=True)
class ReverifyReport:
    """What a run found and did."""

    verdicts: dict[str, list[int]] = field(default_factory=dict)
    """Row ids by verdict, in order of reception."""
    released: list[int] = field(default_factory=list)
    is_complete: bool = True
    failure: BrokerUnavailable | None = None

    @property
    def checked(self) -> int:
        """How many were verified."""
        return sum(map(len, self.verdicts.values()))

    def add(self, verdicts: Sequence[ReverifyResult]) -> None:
        """Sort them in."""
        for verdict in verdicts:
            self.verdicts.setdefault(verdict.reason, []).append(verdict.row_id)

    def facts(self, asked: ReverifyRequest) -> dict[str, object]:
        """For the audit log: counts and choices."""
        return {
            "dryRun": asked.dry_run,
            "secretGiven": asked.given is not None,
            "idsGiven": asked.ids is not None,
            "verdicts": {reason: len(ids) for reason, ids in self.verdicts.items()},
            "released": len(self.released),
            "complete": self.is_complete and self.failure is None,
        }


BATCH_ROWS: Final = 100
BATCH_BYTES: Final = 8 << 20
RUN_SECONDS: Final = 25.0
"""After so long a run ends between two batches and says that there is more: proxies cut off an answer after 60 s."""

REVERIFIED: Final = "webhooks.reverified"

PresentSecrets = Callable[[], Awaitable[Sequence[WebhookSecret]]]
"""Gives the secrets that are valid now, from wherever they are kept."""


class ReverifyRejected:
    """One run at a time in this process; two of different replicas publish the same events under the same ids."""

    def __init__(
        self,
        database: Database,
        release: ReleaseWebhooks,
        cipher: Cipher | None,
        scheme: Scheme,
        present: PresentSecrets,
        *,
        clock: Clock,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._release = release
        self._cipher = cipher
        self._scheme = scheme
        self._present = present
        self._clock = clock
        self._seconds = seconds
        self._turn = asyncio.Lock()

    async def run(self, asked: ReverifyRequest, caller: Caller) -> ReverifyReport:
        """Verify what is not released yet, in order of reception, and release what holds unless it is a dry run.

        Raises `BrokerUnavailable` when the broker did not take all of it: what it took is marked, and the next run
        does the rest. Raises `ValidationFailed` when there is no secret to verify with, `ServiceUnavailable` without
        `ENCRYPTION_KEY`, and the errors of `database/faults.py`.
        """
        cipher = self._known_cipher()
        secrets = await self._secrets(asked)
        async with self._turn:
            report = await self._verified(asked, caller, cipher, secrets)
            async with self._database.transaction() as tx:
                await audit_store.record(tx, caller.did(REVERIFIED, self._clock, report.facts(asked)))
        if report.failure:
            raise report.failure
        return report

    async def _verified(
        self, asked: ReverifyRequest, caller: Caller, cipher: Cipher, secrets: Sequence[WebhookSecret]
    ) -> ReverifyReport:
        report, until = ReverifyReport(), self._seconds() + RUN_SECONDS
        async with self._database.reading() as reading:
            candidates = await quarantine_store.unreleased(reading, asked.ids)
        for row_ids in batches(candidates):
            if self._seconds() > until:
                report.is_complete = False
                break
            verdicts = await self._verdicts(row_ids, cipher, secrets)
            report.add(verdicts)
            if not asked.dry_run:
                done = await self._release.release([each for each in verdicts if each.reason == HOLDS], caller)
                report.released += [each.row_id for each in done.releases]
                if done.failure:
                    report.failure = done.failure
                    break
        return report

    async def _verdicts(
        self, row_ids: Sequence[int], cipher: Cipher, secrets: Sequence[WebhookSecret]
    ) -> list[ReverifyResult]:
        async with self._database.reading() as reading:
            rows = await quarantine_store.load(reading, row_ids)
        # A thread, for a batch of large bodies takes a tenth of a second.
        return await asyncio.to_thread(lambda: [reverify_one(row, cipher, self._scheme, secrets) for row in rows])

    def _known_cipher(self) -> Cipher:
        if self._cipher is None:
            raise ServiceUnavailable("ENCRYPTION_KEY is not set here, so nothing in quarantine can be read.")
        return self._cipher

    async def _secrets(self, asked: ReverifyRequest) -> Sequence[WebhookSecret]:
        secrets = (asked.given,) if asked.given else await self._present()
        if not secrets:
            raise ValidationFailed("No secret is configured here.", details={"secret": "must be given"})
        return secrets


def batches(candidates: Sequence[Candidate]) -> Iterator[list[int]]:
    """The row ids in order, at most `BATCH_ROWS` and, unless one alone has more, `BATCH_BYTES` at a time."""
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
