"""The status of the integration, from what is stored (contract, §6)."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, TypedDict

from sqlalchemy import func, select

from safevideo_common.clock import Clock, TimestampText, format_timestamp, rfc3339
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs, event_inbox, kyc_requests, performers
from safevideo_common.domain.outcomes import Status
from safevideo_common.protections.integration import SharegramIntegration

RECENT: Final = timedelta(hours=24)
MAX_ERRORS: Final = 1000
"""Dead events that are counted, the newest first."""

_SYNC: Final = "performer_sync"


class SharegramStatusDocument(TypedDict):
    """The mirror of performers. The last sync is the newest job of type `performer_sync`."""

    enabled: bool
    lastSyncDate: TimestampText | None
    totalSyncedPerformers: int
    lastSyncStatus: str | None


class KycStatusDocument(TypedDict):
    """The number of KYC requests by status, and of all."""

    statistics: Mapping[str, int]
    totalRequests: int


class RecentErrorDocument(TypedDict):
    """A reason why events were dead-lettered in the last 24 hours."""

    code: str
    count: int
    lastAt: TimestampText


class ErrorsDocument(TypedDict):
    """The reasons, the most frequent first."""

    hasRecentErrors: bool
    recentErrors: list[RecentErrorDocument]


class SharegramIntegrationDocument(TypedDict):
    """The status of the integration with Sharegram."""

    sharegram: SharegramStatusDocument
    kyc: KycStatusDocument
    errors: ErrorsDocument


class IntegrationStatus:
    """Reads the status, from the database and from what this process knows of the integration."""

    def __init__(self, database: Database, integration: SharegramIntegration, clock: Clock) -> None:
        self._database = database
        self._integration = integration
        self._clock = clock

    async def read(self) -> SharegramIntegrationDocument:
        """Return the status as it is now. Raises the errors of the database."""
        job = batch_jobs.c
        last_sync = select(job.status, job.finished_at).where(job.job_type == _SYNC).order_by(job.created_at.desc())
        by_status = select(kyc_requests.c.status, func.count()).group_by(kyc_requests.c.status)
        async with self._database.read_connection() as reading:
            sync = (await reading.execute(last_sync.limit(1))).one_or_none()
            total = await reading.scalar(select(func.count()).select_from(performers)) or 0
            statistics = {str(status): int(count) for status, count in await reading.execute(by_status)}
            event = event_inbox.c
            dead = (
                select(event.reason, event.decided_at)
                .where(event.status == Status.DEAD, event.decided_at >= self._clock() - RECENT)
                .order_by(event.decided_at.desc())
                .limit(MAX_ERRORS)
            )
            failures = [(reason or "", at) for reason, at in await reading.execute(dead)]
        return {
            "sharegram": {
                "enabled": self._integration.is_enabled,
                "lastSyncDate": format_timestamp(sync.finished_at) if sync else None,
                "totalSyncedPerformers": total,
                "lastSyncStatus": sync.status if sync else None,
            },
            "kyc": {"statistics": statistics, "totalRequests": sum(statistics.values())},
            "errors": _errors(failures),
        }


def _errors(failures: list[tuple[str, datetime]]) -> ErrorsDocument:
    """Group failures, the newest first, by the code that their reason begins with."""
    counts, latest = Counter[str](), dict[str, datetime]()
    for reason, at in failures:
        code = reason.partition(":")[0]
        counts[code] += 1
        latest.setdefault(code, at)
    return {
        "hasRecentErrors": bool(counts),
        "recentErrors": [
            {"code": code, "count": count, "lastAt": rfc3339(latest[code])} for code, count in counts.most_common()
        ],
    }
