"""Decisions on KYC requests that are no results of the provider: of people, of the clock, and after a failure."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import kyc_requests
from safevideo_common.domain.kyc import KycRequest, KycStatus, decide_manually
from safevideo_common.events.change_events import KycChange, kyc_changed, next_sequence
from safevideo_common.events.envelope import Envelope
from safevideo_common.outbox import store as outbox_store

DECISION_MADE: Final = "safevideo.kyc.decided"
"""The cause of a change event after a decision."""


async def record_decision(
    tx: AsyncConnection,
    before: KycRequest,
    status: KycStatus,
    now: datetime,
    auto_approve_score: float,
    correlation_id: str | None = None,
) -> KycRequest:
    """Write a decision on a locked request and publish it. Return the request afterwards.

    The caller has checked that it may be made. It stands behind every result that the request has, whatever the clocks
    say.
    """
    latest = before.write_version.at_micros if before.write_version else 0
    at_micros = max(int(now.timestamp() * 1_000_000), latest)
    sequence = next_sequence(before.sequence, now)
    after = replace(decide_manually(before, status, at_micros, auto_approve_score), sequence=sequence)
    await kyc_requests.update(tx, [after], now)
    change = KycChange(
        performer_id=before.performer_id,
        request_id=before.id,
        verification_id=before.verification_id,
        status=status,
        previous_status=before.status,
        risk_score=before.risk_score,
        sequence=sequence,
        version=None,
        at=now,
        caused_by=DECISION_MADE,
    )
    cause = Envelope(
        f"kyc-decision-{before.id}-{sequence}", DECISION_MADE, now, before.performer_id, correlation_id or ""
    )
    await outbox_store.record(tx, [kyc_changed(cause, change)], now)
    return after
