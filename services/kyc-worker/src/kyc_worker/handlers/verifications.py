"""What a provider's verdict does to the KYC request that it is about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.handlers.parsing import VerificationEvent, parse_verification
from safevideo_common.clock import Clock
from safevideo_common.database import kyc_requests
from safevideo_common.domain.kyc import KycRequest, decide
from safevideo_common.domain.outcomes import Outcome, Status, waiting
from safevideo_common.events.changes import KycChange, kyc_changed
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.port import Message

UNKNOWN: Final = waiting("UNKNOWN_VERIFICATION", "no request with this verification is known yet")
"""The verdict may overtake the answer that told us the verification's id; or it belongs to someone else's request."""


@dataclass(slots=True)
class Requests:
    """The requests of a batch, by verification id."""

    current: dict[str, KycRequest]
    changed: set[str] = field(default_factory=set)
    changes: list[Message] = field(default_factory=list)


class HandleVerifications:
    """The handler of `sharegram.kyc.v1`. A redelivered verdict finds its stamp in the request and changes nothing."""

    def __init__(self, clock: Clock, auto_approve_score: float) -> None:
        self._clock = clock
        self._auto_approve_score = auto_approve_score

    def parse(self, delivery: Delivery) -> VerificationEvent | Outcome:
        """See `parse_verification`."""
        return parse_verification(delivery)

    async def load(self, tx: AsyncConnection, events: Sequence[VerificationEvent]) -> Requests:
        """The requests that the events are about, locked."""
        return Requests(dict(await kyc_requests.load_for_update(tx, {event.verification_id for event in events})))

    def decide(self, states: Requests, event: VerificationEvent) -> Outcome:
        """`waiting` while no request is known, otherwise as the domain says."""
        request = states.current.get(event.verification_id)
        if request is None:
            return UNKNOWN
        after, outcome = decide(request, event.verdict, self._auto_approve_score)
        if outcome.status is Status.APPLIED:
            states.current[event.verification_id] = after
            states.changed.add(event.verification_id)
            states.changes.append(_told(request, after, event))
        return outcome

    async def store(self, tx: AsyncConnection, states: Requests) -> None:
        """Write the requests that changed."""
        await kyc_requests.update(tx, (states.current[name] for name in sorted(states.changed)), self._clock())

    def changes(self, states: Requests) -> Sequence[Message]:
        """The status before and after each applied verdict."""
        return states.changes

    async def after_commit(self, states: Requests) -> None:
        """Nothing is cached of a request."""


def _told(before: KycRequest, after: KycRequest, event: VerificationEvent) -> Message:
    change = KycChange(
        performer_id=after.performer_id,
        request_id=after.id,
        verification_id=after.verification_id,
        status=after.status,
        previous_status=before.status,
        risk_score=after.risk_score,
        version=event.verdict.stamp.version,
        at=event.cause.time,
        caused_by=event.cause.type,
    )
    return kyc_changed(event.cause, change)
