"""The job `kyc_resync`: fetches results that did not come, and applies them as if the webhook had."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.verifications.handler import VerificationEvent, VerificationHandler
from safevideo_common.clock import Clock
from safevideo_common.database import erasures, kyc_requests
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.domain.kyc import KycRequest, KycStatus, VerificationResult, fetched_write_version, has_result
from safevideo_common.domain.outcomes import Outcome
from safevideo_common.errors import DataRejected, Deferral, SafeVideoError
from safevideo_common.events import kyc
from safevideo_common.events.bodies import storable_document
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.jobs.handler import JobContext, JobInterrupted
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.kyc.requests import RESYNC_JOB, verification_job
from safevideo_common.observability.logs import FilteringBoundLogger, log_fields
from safevideo_common.outbox import store as outbox_store
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import InvalidResponse, SharegramRejected, SharegramUnavailable
from safevideo_common.sharegram.operations import SharegramCaller, VerificationState

LATE_AFTER: Final = timedelta(hours=1)
"""A request that has been in progress for so long is asked for."""
PAGE: Final = 500
"""The ids that are read at once."""
MAX_FAILURES: Final = 3
"""In a row. Fewer lie in the requests, which the next run asks for again; more lie in Sharegram, so the run waits."""


class ResyncJob:
    """The handler. Its cursor is the last request that is done. A result that is known already changes nothing."""

    def __init__(
        self,
        database: Database,
        handler: VerificationHandler,
        sharegram: SharegramClient,
        clock: Clock,
        logger: FilteringBoundLogger,
        page: int = PAGE,
    ) -> None:
        self._database = database
        self._handler = handler
        self._sharegram = sharegram
        self._clock = clock
        self._page = page
        self._logger = logger.bind(stream="sync")

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """See `JobHandler`."""
        outcomes: dict[str, int] = {}
        number = failures = 0
        async for request_id in self._request_ids(job):
            number += 1
            try:
                outcome = await self._fetch(job, request_id, number)
                failures = 0
            except Exception as error:
                failures += 1
                if failures > MAX_FAILURES or not _lies_in_request(error):
                    raise
                self._logger.error(
                    "KYC sync failed", code="KYC_SYNC_FAILED", kyc_request=request_id, reason=type(error).__name__
                )
                outcome = "failed"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        return {"outcomes": outcomes}

    async def _request_ids(self, job: JobContext) -> AsyncIterator[int]:
        """Yield the ids after the job's cursor: the chosen ones, or page by page all that are late, so none starves."""
        cursor = (job.cursor or {}).get("after")
        after = cursor if isinstance(cursor, int) else 0
        chosen = job.parameters.get("requestIds")
        if isinstance(chosen, list):
            for each in sorted(each for each in chosen if isinstance(each, int) and each > after):
                yield each
            return
        before = self._clock() - LATE_AFTER
        while True:
            async with self._database.read_connection() as reading:
                page = await kyc_requests.in_progress_since(reading, before, after, self._page)
            for each in page:
                yield each
            if len(page) < self._page:
                return
            after = page[-1]

    async def _fetch(self, job: JobContext, request_id: int, number: int) -> str:
        async with self._database.read_connection() as reading:
            stored = await kyc_requests.get(reading, request_id)
        if stored is None:
            return "not_found"
        with log_fields(performer_id=stored.request.performer_id):
            return await self._fetch_result(job, stored, number)

    async def _fetch_result(self, job: JobContext, stored: StoredKycRequest, number: int) -> str:
        request_id = stored.request.id
        state: VerificationState | None = None
        if stored.request.verification_id is not None:
            try:
                state = await self._sharegram.verification(
                    SharegramCaller.job(job.request_id), stored.request.verification_id
                )
            except (SharegramRejected, InvalidResponse) as error:
                self._logger.error("KYC sync failed", code=error.code, kyc_request=request_id, reason=error.message)
                return "failed"
        async with job.step({"after": request_id}, processed=number) as tx:
            return await self._apply(tx, job, stored.request, state)

    async def _apply(
        self, tx: AsyncConnection, job: JobContext, request: KycRequest, state: VerificationState | None
    ) -> str:
        if await erasures.erased(tx, IdentifierKind.PERFORMER, [request.performer_id]):
            return "erased"
        if state is None:
            if request.status is not KycStatus.IN_PROGRESS:
                return "without_verification"
            await job_admin.enqueue(tx, verification_job(request.id, request.performer_id, RESYNC_JOB, job.request_id))
            return "submitted_again"
        if state.result is None:
            return "pending"
        event = event_of(state, job.request_id)
        if isinstance(event, str):
            self._logger.error(
                "KYC sync failed", code="SHAREGRAM_INVALID_RESPONSE", kyc_request=request.id, reason=event
            )
            return "failed"
        states = await self._handler.load(tx, [event])
        last = states.current.get(event.verification_id)
        if has_result(last or request, event.result):
            return "known"
        version = fetched_write_version(last, event.result.write_version.at_micros)
        event = replace(event, result=replace(event.result, write_version=version))
        outcome: Outcome = self._handler.decide(states, event)
        await self._handler.store(tx, states)
        await outbox_store.record(tx, self._handler.changes(states), self._clock())
        return outcome.status


def _lies_in_request(error: Exception) -> bool:
    """Return whether other requests may succeed: Sharegram cannot show this one, or nothing expects its values."""
    if isinstance(error, Deferral | JobInterrupted):
        return False
    return isinstance(error, SharegramUnavailable | DataRejected) or not isinstance(error, SafeVideoError)


def event_of(state: VerificationState, correlation_id: str | None) -> VerificationEvent | str:
    """Return the event that the webhook would have been, or why there is none."""
    assert state.result is not None
    failed = state.result.status == "failed"
    try:
        result = msgspec.convert(
            {"status": state.result.status, "riskScore": state.result.risk_score}, kyc.Result, strict=True
        )
    except msgspec.ValidationError:
        return "the result is not as documented"
    version = write_version_of(None, state.updated_at, 0)
    event_type = kyc.FAILED if failed else kyc.COMPLETED
    cause = Envelope(
        f"kyc-resync-{state.verification_id}-{version.at_micros}",
        event_type,
        state.updated_at,
        state.performer_id,
        correlation_id or "",
    )
    fetched = VerificationResult(
        state.performer_id, result.status, result.risk_score, storable_document(state.result.checks), version, failed
    )
    return VerificationEvent(state.verification_id, fetched, cause)
