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
from safevideo_common.messaging.consuming.delivery import Delivery

UNKNOWN: Final = waiting("UNKNOWN_VERIFICATION", "no request with this verification is known yet")
"""The verdict may overtake the answer that told us the verification's id; or it belongs to someone else's request."""


@dataclass(slots=True)
class Requests:
    """The requests of a batch, by verification id."""

    current: dict[str, KycRequest]
    changed: set[str] = field(default_factory=set)


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
        return outcome

    async def store(self, tx: AsyncConnection, states: Requests) -> None:
        """Write the requests that changed."""
        await kyc_requests.update(tx, (states.current[name] for name in sorted(states.changed)), self._clock())

    async def after_commit(self, states: Requests) -> None:
        """Nothing is cached of a request."""
