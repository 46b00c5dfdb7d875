"""The metric and log lines of orphaned spools: their processes are gone, so only others can speak of them."""

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import gauge
from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.fail_fast_redis import RedisUnavailable
from safevideo_common.webhooks.spool_reports import SpoolReports

POLL_SECONDS: Final = 10.0


class OrphanedSpoolMonitor:
    """Keeps the gauge of orphaned events. Without Redis it stays as it was."""

    def __init__(
        self,
        spools: SpoolReports,
        registry: CollectorRegistry,
        logger: FilteringBoundLogger,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._spools = spools
        self._events = gauge(metric_catalog.SPOOL_ORPHANED, registry)
        self._logger = logger
        self._poll_seconds = poll_seconds
        self._logged: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Read the reports until cancelled, and log each spool once when it is orphaned."""
        while True:
            try:
                summary = await self._spools.summarize()
            except RedisUnavailable:
                pass  # health says so
            else:
                self._events.set(sum(each.events for each in summary.orphaned))
                for each in summary.orphaned:
                    if each.process not in self._logged:
                        self._logger.error(
                            "Spool without a process", code="SPOOL_ORPHANED", process=each.process, events=each.events
                        )
                self._logged = frozenset(each.process for each in summary.orphaned)
            await asyncio.sleep(jittered(self._poll_seconds))
