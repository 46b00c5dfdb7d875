"""Names that the gateway, kyc-worker and the commands use for one KYC request."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import kyc_requests
from safevideo_common.database.kyc_requests import StoredKycRequest
from safevideo_common.database.person_locks import lock_performer
from safevideo_common.jobs.model import NewJob, Priority

"""The feature flag. While it is off, nothing is submitted and jobs wait; results are still applied."""
VERIFICATION_JOB: Final = "kyc_verification"
"""Sends the documents of a request to the provider, and begins the verification."""
VERIFICATION_ATTEMPTS: Final = 20
"""With the default delays they take four hours. Afterwards the resync enqueues the job again."""
RESYNC_JOB: Final = "kyc_resync"
"""Fetches results that did not come."""
EXPIRY_JOB: Final = "kyc_expiry"
"""Warns of the end of verified requests, and ends requests whose time is over."""
CLEANUP_JOB: Final = "kyc_document_cleanup"
"""Finds files without a row, which are deleted a day later, and rows without their file."""
ADOPT_STORE: Final = "adoptStore"
"""The parameter of the cleanup that makes the store the one of this database."""
ACCEPT_ORPHANS: Final = "acceptOrphans"
"""The parameter of the cleanup with the number of files without a row that may be deleted."""
CLEANUP_CONFIRMED: Final = "kyc.document_cleanup.confirmed"
RESYNC_REQUESTED: Final = "kyc.resync.requested"


async def lock_request(tx: AsyncConnection, request_id: int) -> StoredKycRequest | None:
    """Return a request that is locked after its performer, as every act on a person locks. None if there is none."""
    found = await kyc_requests.get(tx, request_id)
    if found is None:
        return None
    await lock_performer(tx, found.request.performer_id)
    return await kyc_requests.get(tx, request_id, locked=True)


def verification_job(request_id: int, performer_id: str, created_by: str, correlation_id: str | None) -> NewJob:
    """Return the job that begins the verification of a request. There is at most one at a time."""
    return NewJob(
        VERIFICATION_JOB,
        {"requestId": request_id, "performerId": performer_id},
        Priority.HIGH,
        unique_key=f"{VERIFICATION_JOB}:{request_id}",
        max_attempts=VERIFICATION_ATTEMPTS,
        created_by=created_by,
        request_id=correlation_id,
    )


def resync_job(request_ids: Sequence[int], created_by: str, correlation_id: str | None) -> NewJob:
    """Return the job that fetches the results of these requests."""
    return NewJob(
        RESYNC_JOB, {"requestIds": list(request_ids)}, Priority.HIGH, created_by=created_by, request_id=correlation_id
    )


def cleanup_job(*, adopt_store: bool, accept_orphans: int, created_by: str, correlation_id: str | None) -> NewJob:
    """Return the job that compares files with rows, with what an operator has confirmed."""
    parameters = {ADOPT_STORE: adopt_store, ACCEPT_ORPHANS: accept_orphans}
    return NewJob(CLEANUP_JOB, parameters, Priority.HIGH, created_by=created_by, request_id=correlation_id)


def applicant_row(performer_id: str) -> str:
    """Return the name of the row that an applicant's data is encrypted for."""
    return f"kyc-applicant {performer_id}"
