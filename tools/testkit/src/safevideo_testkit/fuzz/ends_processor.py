"""Webhooks at the ends of every type on their way through a worker's processor into a database."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from itertools import count
from typing import Any, Final

from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select

from kyc_worker.verifications.handler import VerificationHandler
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox, kyc_requests
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.domain.outcomes import Status
from safevideo_common.events.topics import KYC_WORKER, SYNC_WORKER
from safevideo_common.inbox.dead_letters import DlqLimit
from safevideo_common.inbox.handler import Delivery, EventHandler
from safevideo_common.inbox.metrics import ConsumerMetrics
from safevideo_common.inbox.processor import BatchProcessor, ConsumerContext, LivePolicy
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff
from safevideo_testkit.fuzz.ends import End
from safevideo_testkit.fuzz.webhook_ends import delivered
from safevideo_testkit.harness.replay import RecordingInvalidator
from sync_worker.performers.handler import PerformerHandler

AT: Final = datetime(2026, 11, 24, tzinfo=UTC)
NAMED: Final = frozenset({"BODY_INVALID", "PERFORMER_MISMATCH", "CONTRADICTORY_RESULT", "ID_CONFLICT"})
"""The codes with which a worker refuses an event. Every other one is an exception that nobody named."""
BATCH: Final = 250


class EndsProcessor:
    """The processor of a worker on a database. `process` raises if an event is dead without a code that we named."""

    def __init__(self, group: str, database: Database, logger: FilteringBoundLogger) -> None:
        self._database = database
        self._numbers = count()
        handlers: dict[str, EventHandler[Any, Any]] = {
            KYC_WORKER: VerificationHandler(utc_now, KycRules(auto_approve_score=0)),
            SYNC_WORKER: PerformerHandler(utc_now, RecordingInvalidator()),
        }
        consumer: ConsumerContext[Any, Any] = ConsumerContext(
            group, handlers[group], database, Backoff(1.0, 8.0), utc_now, logger,
            ConsumerMetrics(CollectorRegistry()), DlqLimit(1.0, 1_000_000, 1_000_000),
        )  # fmt: skip
        self._processor = BatchProcessor(consumer, LivePolicy(consumer))

    async def process(self, ends: Iterable[End]) -> Counter[str]:
        """Process the webhooks that webhook-ingest takes, each of another performer. Count them by what they became."""
        batch: list[Delivery] = []
        for end in ends:
            number = next(self._numbers)
            delivery = delivered(_of_another_performer(end.document, number), number)
            if delivery is not None:
                batch.append(delivery)
            if len(batch) == BATCH:
                await self._process(batch)
                batch = []
        await self._process(batch)
        return await self._outcomes()

    async def _process(self, batch: Sequence[Delivery]) -> None:
        rows = [
            {
                "performer_id": f"sg_{each.offset}",
                "verification_id": f"ver_{each.offset}",
                "status": KycStatus.IN_PROGRESS,
                "created_at": AT,
                "updated_at": AT,
                "document_expires_on": date.max,
            }
            for each in batch
        ]
        if rows:
            async with self._database.transaction() as tx:
                await tx.execute(insert(kyc_requests), rows)
            await self._processor.process(batch)

    async def _outcomes(self) -> Counter[str]:
        async with self._database.read_connection() as reading:
            found = (await reading.execute(select(event_inbox.c.status, event_inbox.c.reason))).all()
        dead = {row.reason for row in found if row.status == Status.DEAD and row.reason.partition(":")[0] not in NAMED}
        assert not dead, f"events are dead by what nobody named: {dead}"
        return Counter(row.status for row in found)


def _of_another_performer(document: bytes, number: int) -> bytes:
    """Return the document with ids of its own: so each value is written, not only the last one of a performer."""
    for name in (b"sg", b"ver", b"evt"):
        document = document.replace(b'"%b_1"' % name, b'"%b_%d"' % (name, number))
    return document
