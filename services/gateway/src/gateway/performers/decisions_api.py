"""`/api/v1/performers/{id}/approve`, `/reject` and `/status`: a person decides about a performer.

The decision, its audit entry, its change event and the response under an idempotency key are one transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, TypedDict

from aiohttp import web
from pydantic import Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.http.body import Body, parse_body
from gateway.http.caller import caller_of
from gateway.http.endpoint import ADMINS, Endpoint, Returns
from gateway.http.idempotency import keep_response
from gateway.http.sentence import Lines
from gateway.performers.api import DECISION, PerformerId, parse_performer_id
from gateway.performers.service import PerformerService
from safevideo_common.audit import store as audit_store
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.performer_status import AWAITING_APPROVAL, TRANSITIONS, PerformerStatus, StatusDecision
from safevideo_common.domain.performers import Performer
from safevideo_common.errors import (
    InvalidPerformerStatus,
    InvalidStatusTransition,
    KycNotVerified,
    PerformerNotFound,
    ValidationFailed,
)
from safevideo_common.inbox.performer_history import StatusDecisionDocument, decision_document
from safevideo_common.performers.decisions import PerformerDecisions
from safevideo_common.web.responses import success

MAX_DAYS: Final = 3650

_Text = Annotated[Lines, StringConstraints(min_length=1, max_length=500)]


class PerformerApprovalBody(Body):
    """A reviewer's notes."""

    notes: _Text | None = None


class PerformerRejectionBody(Body):
    """The reason, and a reviewer's notes."""

    reason: _Text | None = None
    notes: _Text | None = None


class PerformerStatusBody(Body):
    """The status to set. `duration` is that of a suspension, in days; without it a suspension has no end."""

    status: Annotated[PerformerStatus, Field(strict=False)]
    duration: int | None = Field(None, ge=1, le=MAX_DAYS)
    reason: _Text | None = None
    notes: _Text | None = None


class PerformerStatusDocument(TypedDict):
    """The status of a performer, Sharegram's, and the last decision."""

    id: int
    performerId: str
    status: str
    sharegramStatus: str
    decision: StatusDecisionDocument | None


@dataclass(frozen=True, slots=True)
class _Order:
    """A decision as a person wants it."""

    action: str
    status: PerformerStatus
    reason: str | None
    notes: str | None
    days: int | None = None
    only_from: Collection[PerformerStatus] | None = None
    """The statuses in which the operation makes sense; None for all from which there is a transition."""


_DECIDED: Final[PerformerStatusDocument] = {
    "id": 12,
    "performerId": "sg_ada",
    "status": "active",
    "sharegramStatus": "pending",
    "decision": DECISION,
}


class PerformerDecisionsApi:
    """The endpoints of decisions. None of them calls Sharegram."""

    def __init__(self, performers: PerformerService, decisions: PerformerDecisions, clock: Clock) -> None:
        self._performers = performers
        self._decisions = decisions
        self._clock = clock

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the declarations."""
        path, decided, ids = "/api/v1/performers/{id}", Returns(PerformerStatusDocument, _DECIDED), {"id": PerformerId}
        errors = (PerformerNotFound, InvalidPerformerStatus, InvalidStatusTransition)
        return [
            Endpoint(
                *("POST", f"{path}/approve", self.approve, ADMINS, decided, (*errors[:2], KycNotVerified)),
                takes_idempotency_key=True, body=PerformerApprovalBody, path_types=ids,
                body_example={"notes": "The profile is complete."},
            ),
            Endpoint(
                *("POST", f"{path}/reject", self.reject, ADMINS, decided, errors[:2]),
                takes_idempotency_key=True, body=PerformerRejectionBody, path_types=ids,
                body_example={"reason": "The profile is of somebody else."},
            ),
            Endpoint(
                *("PUT", f"{path}/status", self.set_status, ADMINS, decided, (*errors, KycNotVerified)),
                takes_idempotency_key=True, body=PerformerStatusBody, path_types=ids,
                body_example={"status": "suspended", "duration": 3, "reason": "A complaint is examined."},
            ),
        ]  # fmt: skip

    async def approve(self, request: web.Request) -> web.Response:
        """Make a performer active who waits for an approval and has a verified KYC request.

        Raises `PerformerNotFound`, `InvalidPerformerStatus`, `KycNotVerified`.
        """
        body = await parse_body(PerformerApprovalBody, request)
        order = _Order("performers.approved", PerformerStatus.ACTIVE, None, body.notes, only_from=AWAITING_APPROVAL)
        return await self._decide(request, order)

    async def reject(self, request: web.Request) -> web.Response:
        """Reject a performer who waits for an approval. Raises `PerformerNotFound`, `InvalidPerformerStatus`."""
        body = await parse_body(PerformerRejectionBody, request)
        order = _Order(
            *("performers.rejected", PerformerStatus.REJECTED, body.reason, body.notes), only_from=AWAITING_APPROVAL
        )
        return await self._decide(request, order)

    async def set_status(self, request: web.Request) -> web.Response:
        """Set the status of a performer. A suspension with a duration ends by itself. Repeating it changes nothing.

        Raises `PerformerNotFound`, `InvalidStatusTransition`, `InvalidPerformerStatus` for a deleted performer, and
        `KycNotVerified` for one who is not verified and would become active for the first time.
        """
        body = await parse_body(PerformerStatusBody, request)
        if body.duration is not None and body.status is not PerformerStatus.SUSPENDED:
            raise ValidationFailed("Some members of the body are wrong.", details={"duration": "only of a suspension"})
        order = _Order("performers.status_set", body.status, body.reason, body.notes, body.duration)
        return await self._decide(request, order)

    async def _decide(self, request: web.Request, order: _Order) -> web.Response:
        caller = caller_of(request)
        performer_id = await self._performers.id_of(parse_performer_id(request))
        before: list[Performer] = []

        async def decide(tx: AsyncConnection, row: LockedPerformer) -> StatusDecision | None:
            before[:] = [row.performer]
            now = self._clock()
            if _is_repeated(row.performer, order):
                return None
            await _check(tx, row.performer, order)
            return _decision(order, caller.name, now)

        async def finish(tx: AsyncConnection, row: LockedPerformer) -> None:
            if row.performer is not before[0]:
                details: dict[str, object] = {"from": before[0].status, "to": row.performer.status}
                if order.days is not None:
                    details["days"] = order.days
                entry = caller.entry(order.action, self._clock, details, f"performer:{row.id}")
                await audit_store.record(tx, entry)
            await keep_response(request, tx, 200, _document(row))

        return success(_document(await self._decisions.make(performer_id, decide, finish, caller.request_id)))


def _decision(order: _Order, decided_by: str, now: datetime) -> StatusDecision:
    until = None if order.days is None else _micros(now + timedelta(days=order.days))
    return StatusDecision(
        order.status, _micros(now), "", None, until, None, decided_by, order.reason, order.notes
    )  # what it is based on is added where the performer is locked


def _is_repeated(performer: Performer, order: _Order) -> bool:
    """Return whether a status is set that the performer has already, which changes nothing."""
    if order.only_from is not None or performer.status != order.status or performer.deleted_at is not None:
        return False
    if order.status is not PerformerStatus.SUSPENDED:
        return True
    decision = performer.decision
    return order.days is None and (decision is None or decision.until_micros is None)


async def _check(tx: AsyncConnection, performer: Performer, order: _Order) -> None:
    current, details = PerformerStatus(str(performer.status)), {"status": performer.status}
    if performer.deleted_at is not None:
        raise InvalidPerformerStatus("Sharegram has this performer no more.", details={**details, "deleted": True})
    if order.only_from is not None and current not in order.only_from:
        raise InvalidPerformerStatus(f"This performer does not wait for an approval: it is {current}.", details=details)
    if order.status not in TRANSITIONS[current]:
        raise InvalidStatusTransition(f"A performer who is {current} cannot become {order.status}.", details=details)
    is_approval = order.status is PerformerStatus.ACTIVE and current in AWAITING_APPROVAL
    if is_approval and not await kyc_requests.is_verified(tx, performer.sharegram_id):
        raise KycNotVerified("This performer has no verified KYC request.", details=details)


def _document(row: LockedPerformer) -> PerformerStatusDocument:
    performer = row.performer
    return {
        "id": row.id,
        "performerId": performer.sharegram_id,
        "status": str(performer.status),
        "sharegramStatus": str(performer.fields["status"]),
        "decision": decision_document(performer),
    }


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
