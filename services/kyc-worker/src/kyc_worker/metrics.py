"""The metrics of kyc-worker: requests that wait, and documents that cannot be read."""

from collections.abc import Mapping
from datetime import datetime
from math import nan
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
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
    """Measures requests that wait for a result or a person, and documents whose files cannot be read."""

    def __init__(self, database: Database, registry: CollectorRegistry, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._oldest = gauge(metric_catalog.KYC_OLDEST_SECONDS, registry)
        self._flagged = gauge(metric_catalog.KYC_FLAGGED_REQUESTS, registry)
        self._unreadable = gauge(metric_catalog.KYC_UNREADABLE_DOCUMENTS, registry)

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
        except SafeVideoError:
            self._oldest.clear()
            self._flagged.set(nan)
            self._unreadable.set(nan)
            return
        self._set_oldest(oldest)
        self._flagged.set(flagged)
        self._unreadable.set(unreadable)

    def _set_oldest(self, oldest: Mapping[KycStatus, datetime]) -> None:
        now = self._clock()
        for status in MEASURED:
            since = oldest.get(status)
            self._oldest.labels(status.value).set(0 if since is None else max(0.0, (now - since).total_seconds()))
