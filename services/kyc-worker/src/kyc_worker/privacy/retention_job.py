"""The job `kyc_retention`: deletes the documents and the applicant of requests that were decided long ago.

The request itself, its decision and its reason stay. The rows of documents go with the applicant in one transaction,
which lets their files be deleted after it. A legal hold keeps everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.documents import store as documents
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.jobs.handler import JobContext
from safevideo_common.kyc.requests import lock_request
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.privacy.holds import active_holds
from safevideo_common.privacy.jobs import RETENTION_JOB
from safevideo_common.users.person import person_of_performer

DELETED_ACTION: Final = "kyc.data_deleted"
CHUNK: Final = 100


@dataclass(frozen=True, slots=True)
class RetentionPeriods:
    """The time from the last change of a request to the deletion of its data, in days."""

    verified_days: int
    """Of verified and expired requests."""
    rejected_days: int

    def by_status(self) -> Mapping[KycStatus, timedelta]:
        """Return the period of each status whose data is deleted. An open request is not among them."""
        verified, rejected = timedelta(days=self.verified_days), timedelta(days=self.rejected_days)
        return {KycStatus.VERIFIED: verified, KycStatus.EXPIRED: verified, KycStatus.REJECTED: rejected}


class RetentionMetrics:
    """Requests whose data was deleted, and requests that a legal hold keeps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deleted: Final = counter(metric_catalog.KYC_DATA_DELETED, registry)
        self.held_requests: Final = gauge(metric_catalog.KYC_DATA_HELD, registry)
        for reason in ("retention", "erasure"):
            self.deleted.labels(reason)


class RetentionJob:
    """The handler. Its cursor is the last request that is done."""

    def __init__(
        self,
        database: Database,
        periods: RetentionPeriods,
        metrics: RetentionMetrics,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._periods = periods.by_status()
        self._metrics = metrics
        self._clock = clock
        self._logger = logger

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Return the numbers of requests whose data was deleted, and of those that a legal hold keeps.

        Raises the errors of the database; another attempt goes on at the cursor.
        """
        after, deleted, held_back = (_number(job, name) for name in ("after", "deleted", "held"))
        while request_ids := await self._due(after):
            for after in request_ids:
                done = await self._delete(job, after, deleted, held_back)
                deleted, held_back = deleted + (done == "deleted"), held_back + (done == "held")
        self._metrics.held_requests.set(held_back)
        if deleted:
            self._logger.info("KYC data deleted after its retention", requests=deleted)
        if held_back:
            self._logger.info("KYC data kept by legal holds", requests=held_back)
        return {"deleted": deleted, "held": held_back}

    async def _due(self, after: int) -> list[int]:
        before = {status: self._clock() - period for status, period in self._periods.items()}
        async with self._database.read_connection() as reading:
            return await kyc_requests.with_data_decided_before(reading, before, after, CHUNK)

    async def _delete(self, job: JobContext, request_id: int, deleted: int, held_back: int) -> str:
        """Delete the data of one request in one transaction, and return what was done: deleted, held, or nothing."""
        done = "nothing"
        async with job.step() as tx:
            stored = await lock_request(tx, request_id)
            if stored is not None and (self._is_due(stored) or await kyc_requests.is_abandoned(tx, request_id)):
                person = await person_of_performer(tx, stored.request.performer_id)
                done = "held" if await active_holds(tx, person) else "deleted"
            if done == "deleted":
                files = await delete_request_data(tx, request_id, self._clock())
                details = {"requestId": request_id, "files": files, "reason": "retention"}
                await audit_store.record(tx, _entry(job, self._clock(), details))
            cursor = {
                "after": request_id,
                "deleted": deleted + (done == "deleted"),
                "held": held_back + (done == "held"),
            }
            await job.checkpoint(tx, cursor)
        if done == "deleted":
            self._metrics.deleted.labels("retention").inc()
        return done

    def _is_due(self, stored: StoredKycRequest) -> bool:
        period = self._periods.get(stored.request.status)
        return period is not None and stored.updated_at < self._clock() - period


async def delete_request_data(tx: AsyncConnection, request_id: int, now: datetime) -> int:
    """Delete the rows of a locked request's documents and its applicant. Return the number of documents.

    Their files are deleted after the commit, by the deleter.
    """
    removed = await documents.remove_of_request(tx, request_id, now)
    await kyc_requests.set_values(tx, request_id, applicant=None)
    return removed


def _entry(job: JobContext, at: datetime, details: Mapping[str, object]) -> AuditEntry:
    target = f"kyc_request:{details['requestId']}"
    return AuditEntry(at, RETENTION_JOB, "system", DELETED_ACTION, None, job.request_id, details, target)


def _number(job: JobContext, name: str) -> int:
    value = (job.cursor or {}).get(name)
    return value if isinstance(value, int) else 0
