"""Decisions on KYC requests that are no results of the provider: of people, of the clock, and after a failure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.database import kyc_requests
from safevideo_common.database.erasures import IdentifierKind, erased
from safevideo_common.domain.kyc import (
    KycRequest,
    KycRules,
    KycStatus,
    RejectionReason,
    decide_manually,
    expiry_step,
    scheduled_expiry,
)
from safevideo_common.events.change_events import (
    KYC_EXPIRING,
    Cause,
    KycChange,
    KycExpiryWarning,
    kyc_changed,
    kyc_expiring,
    next_sequence,
)
from safevideo_common.events.envelope import Envelope
from safevideo_common.outbox import store as outbox_store

DECISION_MADE: Final = "safevideo.kyc.decided"
"""The cause of a change event after a decision."""
EXPIRED: Final = "safevideo.kyc.expired"
"""The cause of a change event at the end of a request."""
REPLACED: Final = "safevideo.kyc.replaced"
"""The cause of a change event after a later request of the performer was verified."""
CLOCK: Final = "clock"
"""Who decides that a request expires."""


async def record_decision(
    tx: AsyncConnection,
    before: KycRequest,
    status: KycStatus,
    now: datetime,
    rules: KycRules,
    *,
    decided_by: str,
    reason: RejectionReason | None = None,
    notes: str | None = None,
    correlation_id: str | None = None,
    caused_by: str = DECISION_MADE,
) -> KycRequest:
    """Write a decision on a locked request and publish it. Return the request afterwards.

    The caller has checked that it may be made. It stands behind every result that the request has, whatever the clocks
    say. A request that becomes verified replaces the requests of the performer before it.
    """
    latest = before.write_version.at_micros if before.write_version else 0
    at_micros = max(int(now.timestamp() * 1_000_000), latest)
    sequence = next_sequence(before.sequence, now)
    after = replace(decide_manually(before, status, at_micros, rules), sequence=sequence)
    await kyc_requests.update(tx, [after], now)
    await kyc_requests.set_values(
        tx, before.id, decision_reason=reason, decision_notes=notes, decided_by=decided_by, review_reason=None
    )
    cause = Envelope(f"kyc-decision-{before.id}-{sequence}", caused_by, now, before.performer_id, correlation_id or "")
    change = KycChange(
        performer_id=before.performer_id,
        kyc_request_id=before.id,
        verification_id=before.verification_id,
        status=status,
        previous_status=before.status,
        risk_score=before.risk_score,
        sequence=sequence,
        version=None,
        at=now,
        caused_by=Cause.of(cause),
    )
    await outbox_store.record(tx, [kyc_changed(cause, change)], now)
    if status is KycStatus.VERIFIED:
        await end_replaced(tx, [after], now, rules)
    return after


async def end_replaced(tx: AsyncConnection, verified: Sequence[KycRequest], now: datetime, rules: KycRules) -> int:
    """Let what came before each of `verified`, of the same performer, end. Return the number of expired requests.

    Those that were verified or in review expire. All that have ended are superseded: no late result revives them.
    """
    newest = {each.performer_id: each.id for each in sorted(verified, key=lambda each: each.id)}
    ended = 0
    for found in await kyc_requests.replaceable_of(tx, newest):
        if found.id >= newest[found.performer_id]:
            continue
        stored = await kyc_requests.get(tx, found.id, locked=True)
        if stored is not None and stored.request.status in kyc_requests.REPLACEABLE:
            await record_decision(
                tx, stored.request, KycStatus.EXPIRED, now, rules, decided_by=CLOCK, caused_by=REPLACED
            )
            ended += 1
    for performer_id, later_id in newest.items():
        await kyc_requests.supersede(tx, performer_id, later_id)
    return ended


async def record_expiry_step(tx: AsyncConnection, request_id: int, now: datetime, rules: KycRules) -> str | None:
    """Publish the warning of a verified request that is due, or let it expire. Return what was done, or None.

    The row says which step is next. So a step that is repeated does nothing more.
    """
    stored = await kyc_requests.get(tx, request_id, locked=True)
    if stored is None or stored.request.status is not KycStatus.VERIFIED:
        return None
    request = stored.request
    if request.expiry_due_at is None:
        request = scheduled_expiry(request, rules)
    assert request.expires_at is not None
    assert request.expiry_due_at is not None
    step = expiry_step(request.expires_at, now) if request.expiry_due_at <= now else None
    if step is None:
        due = {"expires_at": request.expires_at, "expiry_due_at": request.expiry_due_at}
        await kyc_requests.set_values(tx, request_id, **due)
        return None
    if step.warning is None:
        await record_decision(tx, request, KycStatus.EXPIRED, now, rules, decided_by=CLOCK, caused_by=EXPIRED)
        return "expired"
    if await erased(tx, IdentifierKind.PERFORMER, [request.performer_id]):
        await kyc_requests.set_values(tx, request_id, expiry_due_at=request.expires_at)
        return None  # nobody renews it, and nothing more is told about the person
    sequence = next_sequence(request.sequence, now)
    await kyc_requests.set_values(
        tx, request_id, expires_at=request.expires_at, expiry_due_at=step.next_at, change_sequence=sequence
    )
    warning = KycExpiryWarning(
        performer_id=request.performer_id,
        kyc_request_id=request_id,
        expires_at=request.expires_at,
        days_left=math.ceil((request.expires_at - now) / timedelta(days=1)),
        sequence=sequence,
        at=now,
    )
    cause = Envelope(f"kyc-expiring-{request_id}-{sequence}", KYC_EXPIRING, now, request.performer_id, "")
    await outbox_store.record(tx, [kyc_expiring(cause, warning)], now)
    return "warned"
