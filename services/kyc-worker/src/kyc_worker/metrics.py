"""The metrics of kyc-worker: requests that wait, documents that cannot be read, and files that are not deleted."""

from collections.abc import Mapping
from datetime import datetime
from math import nan
from typing import Final

from prometheus_client import CollectorRegistry

from kyc_worker.documents.store_mark import Refusal, read_refusal
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.documents import deletions
from safevideo_common.documents import store as documents
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.errors import SafeVideoError
from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import gauge
from safevideo_common.resilience.duty_cycle import DutyCycle

MEASURED: Final = (KycStatus.IN_PROGRESS, KycStatus.IN_REVIEW)
MEASURE_INTERVAL: Final = 60.0
MEASURE_SHARE: Final = 0.02
"""Maximum share of the time for measuring."""


class KycMonitor:
    """Measures requests that wait for a result or a person, and the files of documents."""

    def __init__(self, database: Database, registry: CollectorRegistry, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._oldest = gauge(metric_catalog.KYC_OLDEST_SECONDS, registry)
        self._flagged = gauge(metric_catalog.KYC_FLAGGED_REQUESTS, registry)
        self._unreadable = gauge(metric_catalog.KYC_UNREADABLE_DOCUMENTS, registry)
        self._deletion = gauge(metric_catalog.KYC_DOCUMENT_DELETION_OLDEST, registry)
        self._refused = gauge(metric_catalog.KYC_DOCUMENT_CLEANUP_REFUSED, registry)

    async def run(self) -> None:
        """Measure until cancelled."""
        await DutyCycle(MEASURE_SHARE).repeat(self.measure, MEASURE_INTERVAL)

    async def measure(self) -> None:
        """Measure once. If the database fails, the metrics have no values until the next time."""
        try:
            async with self._database.read_connection() as reading:
                oldest = await kyc_requests.oldest_by_status(reading, MEASURED)
                flagged = await kyc_requests.count_flagged(reading)
                unreadable = await documents.count_faulty(reading)
                deletion_due_at = await deletions.oldest_due(reading)
                refusal = await read_refusal(reading)
        except SafeVideoError:
            self._oldest.clear()
            self._refused.clear()
            for each in (self._flagged, self._unreadable, self._deletion):
                each.set(nan)
            return
        self._set_oldest(oldest)
        self._deletion.set(self._seconds_since(deletion_due_at))
        for reason in Refusal:
            self._refused.labels(reason.value).set(refusal == reason)
        self._flagged.set(flagged)
        self._unreadable.set(unreadable)

    def _set_oldest(self, oldest: Mapping[KycStatus, datetime]) -> None:
        for status in MEASURED:
            self._oldest.labels(status.value).set(self._seconds_since(oldest.get(status)))

    def _seconds_since(self, at: datetime | None) -> float:
        return 0.0 if at is None else max(0.0, (self._clock() - at).total_seconds())
