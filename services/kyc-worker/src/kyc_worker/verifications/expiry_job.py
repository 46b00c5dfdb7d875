"""The job `kyc_expiry`: announces the end of verified requests, and ends those whose time is over."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.privacy.retention_job import delete_request_data
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.domain.kyc import KycRules, KycStatus
from safevideo_common.jobs.handler import JobContext
from safevideo_common.kyc.decisions import CLOCK, EXPIRED, record_decision, record_expiry_step
from safevideo_common.kyc.requests import lock_request
from safevideo_common.privacy.holds import active_holds
from safevideo_common.users.person import person_of_performer

PAGE: Final = 200


class ExpiryJob:
    """The handler. Each request is one step, and its row says what is due: a repetition does nothing twice.

    - A verified request is announced 30 and 7 days before its end, and expires at its end.
    - A request whose documents never came expires after `patience`. Its documents and its applicant are deleted.
      What a legal hold keeps is due for the retention once the hold is released.
    """

    def __init__(
        self,
        database: Database,
        rules: KycRules,
        patience: timedelta,
        clock: Clock,
    ) -> None:
        self._database = database
        self._rules = rules
        self._patience = patience
        self._clock = clock

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`. It has no cursor: what is done is not due any more."""
        now = self._clock()
        counts = {"warned": 0, "expired": 0, "abandoned": 0}
        async for request_id in self._ids(partial(kyc_requests.expiry_due, now=now)):
            async with job.step(processed=sum(counts.values())) as tx:
                done = await record_expiry_step(tx, request_id, now, self._rules)
            if done is not None:
                counts[done] += 1
        async for request_id in self._ids(partial(kyc_requests.without_documents_since, before=now - self._patience)):
            async with job.step(processed=sum(counts.values())) as tx:
                counts["abandoned"] += await self._abandon(tx, request_id, now)
        return counts

    async def _ids(self, find: Callable[..., Awaitable[list[int]]]) -> AsyncIterator[int]:
        """Yield the ids page by page. A request that is due again at once waits for the next run."""
        after = 0
        while True:
            async with self._database.read_connection() as reading:
                page = await find(reading, after=after, limit=PAGE)
            for each in page:
                yield each
            if len(page) < PAGE:
                return
            after = page[-1]

    async def _abandon(self, tx: AsyncConnection, request_id: int, now: datetime) -> bool:
        """End a request that lacks documents, and delete what there is unless a legal hold keeps it.

        Return False if it lacks none any more.
        """
        stored = await lock_request(tx, request_id)
        if stored is None or stored.request.status is not KycStatus.PENDING:
            return False
        await record_decision(
            tx, stored.request, KycStatus.EXPIRED, now, self._rules, decided_by=CLOCK, caused_by=EXPIRED
        )
        if not await active_holds(tx, await person_of_performer(tx, stored.request.performer_id)):
            await delete_request_data(tx, request_id, now)
        return True
