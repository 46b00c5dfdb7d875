"""The jobs of kyc-worker that delete data of persons, as others enqueue them."""

from typing import Final

from safevideo_common.audit.store import Caller
from safevideo_common.events.topics import KYC_WORKER
from safevideo_common.jobs.model import NewJob, Priority

ERASURE_JOB: Final = "person_erasure"
"""Applies one order to erase a person, or all."""
RETENTION_JOB: Final = "kyc_retention"
"""Deletes the data of KYC requests after its time."""


def erasure_job(order_id: int, caller: Caller) -> NewJob:
    """Return the job that applies one order. There is at most one at a time."""
    return NewJob(
        ERASURE_JOB,
        {"orderId": order_id},
        Priority.HIGH,
        runner=KYC_WORKER,
        unique_key=f"{ERASURE_JOB}:{order_id}",
        created_by=caller.name,
        request_id=caller.request_id,
    )


def retention_job(caller: Caller) -> NewJob:
    """Return the job that deletes what is due now. There is at most one beside the daily one."""
    return NewJob(
        RETENTION_JOB, {}, runner=KYC_WORKER, unique_key=RETENTION_JOB, created_by=caller.name,
        request_id=caller.request_id,
    )  # fmt: skip
