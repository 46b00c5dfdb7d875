"""What a provider's verdict does to the KYC request that it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Self

from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.verifications.parsing import VerificationEvent, parse_verification
from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.domain.kyc import KycRequest, decide
from safevideo_common.domain.outcomes import Outcome, Status, waiting
from safevideo_common.events.change_events import KycChange, kyc_changed
from safevideo_common.inbox.handler import Delivery, Differences

UNKNOWN: Final = waiting("UNKNOWN_VERIFICATION", "no request with this verification is known yet")
"""The verdict may overtake the answer that told us the verification's id; or it belongs to someone else's request."""


class AppliedVerification(NamedTuple):
    """A verdict that was applied, and the request around it."""

    before: KycRequest
    after: KycRequest
    event: VerificationEvent


@dataclass(slots=True)
class KycRequestStates:
    """The requests of a batch, by verification id: as they are stored, and as they are now."""

    stored: dict[str, KycRequest]
    current: dict[str, KycRequest]
    changed: set[str] = field(default_factory=set)
    applied: list[AppliedVerification] = field(default_factory=list)

    @classmethod
    def of(cls, stored: Mapping[str, KycRequest]) -> Self:
        """With nothing decided yet."""
        return cls(dict(stored), dict(stored))


class VerificationHandler:
    """The handler of `sharegram.kyc.v1`. A result that is applied again changes nothing."""

    def __init__(self, clock: Clock, auto_approve_score: float) -> None:
        self._clock = clock
        self._auto_approve_score = auto_approve_score

    def parse(self, delivery: Delivery) -> VerificationEvent | Outcome:
        """See `parse_verification`."""
        return parse_verification(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[VerificationEvent]) -> KycRequestStates:
        """The requests that the events are about, locked."""
        return KycRequestStates.of(await kyc_requests.load_for_update(tx, {event.verification_id for event in events}))

    async def foresee(
        self, reading: AsyncConnection, events: Sequence[VerificationEvent], earlier: KycRequestStates | None
    ) -> KycRequestStates:
        """The same without locks, added to what `earlier` events of the forecast have left."""
        states = earlier or KycRequestStates.of({})
        states.applied.clear()
        names = {event.verification_id for event in events}
        found = await kyc_requests.load(reading, names - states.current.keys())
        states.stored |= found
        states.current |= found
        return states

    def decide(self, states: KycRequestStates, event: VerificationEvent) -> Outcome:
        """`waiting` while no request is known, otherwise as the domain says."""
        request = states.current.get(event.verification_id)
        if request is None:
            return UNKNOWN
        after, outcome = decide(request, event.verdict, self._auto_approve_score)
        if outcome.status is Status.APPLIED:
            states.current[event.verification_id] = after
            states.changed.add(event.verification_id)
            states.applied.append(AppliedVerification(request, after, event))
        return outcome

    async def store(self, tx: AsyncConnection, states: KycRequestStates) -> None:
        """Write the requests that changed, in their result or its write version."""
        changed = (states.current[name] for name in sorted(states.changed))
        await kyc_requests.update(
            tx, (each for each in changed if each != states.stored[each.verification_id]), self._clock()
        )

    def changes(self, states: KycRequestStates) -> Sequence[Message]:
        """The status before and after each applied verdict."""
        return [_change_event(*each) for each in states.applied]

    def corrections(self, states: KycRequestStates) -> Sequence[Message]:
        """Return the results that changed more than the request's write version."""
        return [
            _change_event(*each)
            for each in states.applied
            if replace(each.before, write_version=each.after.write_version) != each.after
        ]

    def differences(self, states: KycRequestStates) -> Mapping[str, Differences]:
        """By performer, and of each of its requests: status, score and the provider's result."""
        found: dict[str, dict[str, tuple[object, object]]] = {}
        for name in sorted(states.changed):
            if differences := _differences(states.stored[name], states.current[name]):
                found.setdefault(states.stored[name].performer_id, {}).update(differences)
        return found

    async def after_commit(self, states: KycRequestStates) -> None:
        """Nothing is cached of a request."""


def _differences(before: KycRequest, after: KycRequest) -> Differences:
    pairs = {
        "status": (before.status, after.status),
        "riskScore": (before.risk_score, after.risk_score),
        "result": (before.result, after.result),
    }
    return {f"request {after.id}: {name}": pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _change_event(before: KycRequest, after: KycRequest, event: VerificationEvent) -> Message:
    change = KycChange(
        performer_id=after.performer_id,
        request_id=after.id,
        verification_id=after.verification_id,
        status=after.status,
        previous_status=before.status,
        risk_score=after.risk_score,
        version=event.verdict.write_version.version,
        at=event.cause.time,
        caused_by=event.cause.type,
    )
    return kyc_changed(event.cause, change)
