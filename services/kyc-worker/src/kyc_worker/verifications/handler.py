"""The handler of verification events: it applies the provider's results to KYC requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple, Self

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.domain.kyc import (
    KycRequest,
    KycRules,
    KycStatus,
    ReviewReason,
    VerificationResult,
    decide,
    had_passed,
)
from safevideo_common.domain.outcomes import IGNORED, Outcome, Status, dead, waiting
from safevideo_common.events import kyc
from safevideo_common.events.bodies import SCHEMA_MISMATCH, decode_body, field_and_reason, storable_document
from safevideo_common.events.change_events import Cause, KycChange, kyc_changed, next_sequence
from safevideo_common.events.envelope import Envelope, write_version_of
from safevideo_common.inbox.handler import Delivery, Differences
from safevideo_common.kyc.decisions import end_replaced

# The parser of verification events.


@dataclass(frozen=True, slots=True)
class VerificationEvent:
    """A result, the verification that it completes or corrects, and the envelope of the event that caused it."""

    verification_id: str
    result: VerificationResult
    cause: Envelope


class _Webhook(msgspec.Struct, frozen=True):
    data: kyc.Verification


_decoder: Final = msgspec.json.Decoder(_Webhook)


def parse_verification(delivery: Delivery) -> VerificationEvent | Outcome:
    """Return the event in the body, `ignored` for an unknown type, or `dead` for an invalid body."""
    if delivery.envelope.type not in kyc.TYPES:
        return IGNORED
    try:
        data = decode_body(_decoder, delivery.body).data
    except SCHEMA_MISMATCH as error:
        return dead("BODY_INVALID", ": ".join(field_and_reason(error)))
    result = VerificationResult(
        performer_id=data.performer_id,
        status=data.result.status,
        risk_score=data.result.risk_score,
        checks=storable_document(data.result.checks),
        write_version=write_version_of(data.version, delivery.envelope.time, delivery.offset),
        reported_failed=delivery.envelope.type == kyc.FAILED,
    )
    return VerificationEvent(data.verification_id, result, delivery.envelope)


UNKNOWN_VERIFICATION: Final = waiting("UNKNOWN_VERIFICATION", "no request with this verification is known yet")
"""The request is not ours, or its verification was begun elsewhere."""
EXPECTED_VERIFICATION: Final = waiting(
    "VERIFICATION_EXPECTED", "a request of this performer does not have its verification yet", is_expected=True
)
"""The event may arrive before the response that has the verification's id. It waits as long as that may still come."""


class AppliedResult(NamedTuple):
    """An applied event, and its request before and after it."""

    before: KycRequest
    after: KycRequest
    event: VerificationEvent


@dataclass(slots=True)
class KycRequestStates:
    """The requests of a batch by verification id: as they are stored, and as they are decided."""

    stored: dict[str, KycRequest]
    current: dict[str, KycRequest]
    changed: set[str] = field(default_factory=set)
    applied: list[AppliedResult] = field(default_factory=list)
    expecting: frozenset[str] = frozenset()
    """The performers with a request whose verification may still be begun."""

    @classmethod
    def of(cls, stored: Mapping[str, KycRequest]) -> Self:
        """Create states without decided events."""
        return cls(dict(stored), dict(stored))


class VerificationHandler:
    """The handler of `sharegram.kyc.v1`. A redelivered event has the request's own write version: no change.

    A result that the request has already, fetched or from another event, is `stale` and published once.
    """

    def __init__(self, clock: Clock, rules: KycRules) -> None:
        self._clock = clock
        self._rules = rules

    def parse(self, delivery: Delivery) -> VerificationEvent | Outcome:
        """See `parse_verification`."""
        return parse_verification(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[VerificationEvent]) -> KycRequestStates:
        """Load and lock the requests of the events."""
        states = KycRequestStates.of(
            await kyc_requests.load_for_update(tx, {event.verification_id for event in events})
        )
        await _load_expecting(tx, states, events)
        return states

    async def locked(self, tx: AsyncConnection, events: Sequence[VerificationEvent]) -> Sequence[VerificationEvent]:
        """Return the events whose requests another transaction has locked."""
        locked = await kyc_requests.locked(tx, {event.verification_id for event in events})
        return [event for event in events if event.verification_id in locked]

    async def load_for_preview(
        self, connection: AsyncConnection, events: Sequence[VerificationEvent], earlier: KycRequestStates | None
    ) -> KycRequestStates:
        """Load the requests without locks, and add them to those that `earlier` events have changed."""
        states = earlier or KycRequestStates.of({})
        states.applied.clear()
        verification_ids = {event.verification_id for event in events}
        found = await kyc_requests.load(connection, verification_ids - states.current.keys())
        states.stored |= found
        states.current |= found
        await _load_expecting(connection, states, events)
        return states

    def decide(self, states: KycRequestStates, event: VerificationEvent) -> Outcome:
        """Apply the event by the rules of the domain. Return `waiting` if there is no such request yet."""
        request = states.current.get(event.verification_id)
        if request is None:
            is_expected = event.result.performer_id in states.expecting
            return EXPECTED_VERIFICATION if is_expected else UNKNOWN_VERIFICATION
        after, outcome = decide(request, event.result, self._rules)
        if after is not request:
            states.current[event.verification_id] = after
            states.changed.add(event.verification_id)
        if outcome.status is Status.APPLIED:
            states.applied.append(AppliedResult(request, after, event))
        return outcome

    async def store(self, tx: AsyncConnection, states: KycRequestStates) -> None:
        """Write the changed requests. A request that equals its stored state is not written."""
        now = self._clock()
        _number(states, now)
        changed = [name for name in sorted(states.changed) if states.current[name] != states.stored[name]]
        await kyc_requests.update(tx, (states.current[name] for name in changed), now)
        await self._tell_other_requests(tx, states, now)

    async def _tell_other_requests(self, tx: AsyncConnection, states: KycRequestStates, now: datetime) -> None:
        """End what a newly verified request replaces. Put the successors of one that failed after all before a person.

        A late result never changes the status of a successor: the performer may have been verified again since. A
        superseded request had its passed result only shown, so its status need not change with the failed one.
        """
        verified = [each for each in states.current.values() if each.status is KycStatus.VERIFIED]
        if newly := [each for each in verified if states.stored[str(each.verification_id)].status is not each.status]:
            await end_replaced(tx, newly, now, self._rules)
        for before, after, event in states.applied:
            if event.result.status == "failed" and had_passed(before) and after.status is KycStatus.REJECTED:
                await kyc_requests.flag_successors(tx, after, ReviewReason.PREDECESSOR_FAILED)

    def changes(self, states: KycRequestStates) -> Sequence[Message]:
        """Return a message with the status before and after each applied event."""
        return [_change_event(*each) for each in states.applied]

    def corrections(self, states: KycRequestStates) -> Sequence[Message]:
        """Return the changes of more than the request's write version."""
        return [
            _change_event(*each)
            for each in states.applied
            if replace(each.before, write_version=each.after.write_version, sequence=each.after.sequence) != each.after
        ]

    def diff(self, states: KycRequestStates) -> Mapping[str, Differences]:
        """Return by performer the changes of each request: status, score, and the provider's result."""
        found: dict[str, dict[str, tuple[object, object]]] = {}
        for verification_id in sorted(states.changed):
            stored = states.stored[verification_id]
            if differences := _diff(stored, states.current[verification_id]):
                found.setdefault(stored.performer_id, {}).update(differences)
        return found

    async def after_commit(self, states: KycRequestStates) -> None:
        """Do nothing: requests are not cached."""


async def _load_expecting(
    connection: AsyncConnection, states: KycRequestStates, events: Sequence[VerificationEvent]
) -> None:
    """Look for the performers of unknown verifications. A batch without any costs no query."""
    unknown = {event.result.performer_id for event in events if event.verification_id not in states.current}
    states.expecting = await kyc_requests.expecting_verification(connection, unknown)


def _diff(before: KycRequest, after: KycRequest) -> Differences:
    pairs = {
        "status": (before.status, after.status),
        "riskScore": (before.risk_score, after.risk_score),
        "result": (before.result, after.result),
    }
    return {f"request {after.id}: {name}": pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _number(states: KycRequestStates, now: datetime) -> None:
    """Give the applied results their sequences. A result that changed nothing has that of the change before it."""
    last = {name: request.sequence for name, request in states.stored.items()}
    for index, (before, after, event) in enumerate(states.applied):
        name = event.verification_id
        if after != before:
            last[name] = next_sequence(last[name], now)
        states.applied[index] = AppliedResult(before, replace(after, sequence=last[name]), event)
    for name in states.changed:
        states.current[name] = replace(states.current[name], sequence=last[name])


def _change_event(before: KycRequest, after: KycRequest, event: VerificationEvent) -> Message:
    change = KycChange(
        performer_id=after.performer_id,
        kyc_request_id=after.id,
        verification_id=after.verification_id,
        status=after.status,
        previous_status=before.status,
        risk_score=after.risk_score,
        sequence=after.sequence,
        version=event.result.write_version.version,
        at=event.cause.time,
        caused_by=Cause.of(event.cause),
    )
    return kyc_changed(event.cause, change)
