"""Verifying the quarantine again, after a secret was mended, and releasing what now holds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import monotonic
from typing import Final

from gateway.handlers.releasing import ReleaseWebhooks
from gateway.handlers.reports import Asked, Report
from gateway.handlers.verdicts import HOLDS, Verdict, verdict_on
from safevideo_common.clock import Clock
from safevideo_common.database import audit_log, rejected_webhooks
from safevideo_common.database.audit_log import Caller
from safevideo_common.database.engine import Database
from safevideo_common.database.rejected_webhooks import Candidate
from safevideo_common.encryption import Cipher
from safevideo_common.errors import ServiceUnavailable, ValidationFailed
from safevideo_common.sharegram.webhook_signatures import Scheme, WebhookSecret

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

    async def run(self, asked: Asked, caller: Caller) -> Report:
        """Verify what is not released yet, in order of reception, and release what holds unless it is a dry run.

        Raises `LogUnavailable` when the log did not take all of it: what it took is marked, and the next run does the
        rest. Raises `ValidationFailed` when there is no secret to verify with, `ServiceUnavailable` without
        `ENCRYPTION_KEY`, and the errors of `database/faults.py`.
        """
        cipher = self._known_cipher()
        secrets = await self._secrets(asked)
        async with self._turn:
            report = await self._verified(asked, caller, cipher, secrets)
            async with self._database.transaction() as tx:
                await audit_log.record(tx, caller.did(REVERIFIED, self._clock, report.facts(asked)))
        if report.failure:
            raise report.failure
        return report

    async def _verified(
        self, asked: Asked, caller: Caller, cipher: Cipher, secrets: Sequence[WebhookSecret]
    ) -> Report:
        report, until = Report(), self._seconds() + RUN_SECONDS
        async with self._database.reading() as reading:
            candidates = await rejected_webhooks.unreleased(reading, asked.ids)
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
    ) -> list[Verdict]:
        async with self._database.reading() as reading:
            rows = await rejected_webhooks.load(reading, row_ids)
        # A thread, for a batch of large bodies takes a tenth of a second.
        return await asyncio.to_thread(lambda: [verdict_on(row, cipher, self._scheme, secrets) for row in rows])

    def _known_cipher(self) -> Cipher:
        if self._cipher is None:
            raise ServiceUnavailable("ENCRYPTION_KEY is not set here, so nothing in quarantine can be read.")
        return self._cipher

    async def _secrets(self, asked: Asked) -> Sequence[WebhookSecret]:
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
