"""The change events of kyc-worker."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from kyc_worker.verifications.handler import KycRequestStates, VerificationHandler
from safevideo_common.broker.types import Message
from safevideo_common.domain.kyc import KycRequest, KycRules, KycStatus
from safevideo_common.domain.outcomes import APPLIED, Outcome, Status
from safevideo_common.events.envelope import Envelope, parse_headers
from safevideo_common.inbox.handler import Delivery

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
TYPE = "kyc.verification.completed"


def decided(states: KycRequestStates, result: dict[str, object], seconds: int, performer_id: str = "sg_1") -> Outcome:
    handler = VerificationHandler(lambda: AT, KycRules())
    envelope = Envelope(f"evt-{seconds}", TYPE, AT + timedelta(seconds=seconds), performer_id)
    data = {"verificationId": "ver-1", "performerId": performer_id, "result": result}
    event = handler.parse(Delivery(envelope, msgspec.json.encode({"data": data}), "sharegram.kyc.v1", 0, 0, AT))
    assert not isinstance(event, Outcome)
    return handler.decide(states, event)


def requests() -> KycRequestStates:
    return KycRequestStates.of({"ver-1": KycRequest(42, "sg_1", "ver-1", KycStatus.IN_PROGRESS)})


def changes(states: KycRequestStates) -> Sequence[Message]:
    return VerificationHandler(lambda: AT, KycRules()).changes(states)


def test_change_has_the_status_before_and_after() -> None:
    states = requests()
    assert decided(states, {"status": "passed", "riskScore": 91.5}, 1) == APPLIED
    assert decided(states, {"status": "failed"}, 2) == APPLIED
    first, second = changes(states)
    assert msgspec.json.decode(first.value) == {
        "performerId": "sg_1",
        "kycRequestId": 42,
        "verificationId": "ver-1",
        "status": "verified",
        "previousStatus": "in_progress",
        "riskScore": 91.5,
        "sequence": 0,
        "version": None,
        "at": "2026-11-24T12:00:01Z",
        "causedBy": {"id": "evt-1", "type": TYPE},
    }
    after = msgspec.json.decode(second.value)
    assert (after["previousStatus"], after["status"], after["riskScore"]) == ("verified", "rejected", None)


def test_change_envelope_has_the_cause_and_our_source() -> None:
    states = requests()
    decided(states, {"status": "review"}, 1)
    (message,) = changes(states)
    assert (message.topic, message.key) == ("integration.events.v1", b"sg_1")
    assert parse_headers(message.headers) == Envelope(
        "evt-1", "integration.kyc.changed", AT + timedelta(seconds=1), "sg_1", source="/safevideo/kyc-worker"
    )


def test_event_without_effect_has_no_change() -> None:
    states = requests()
    decided(states, {"status": "review"}, 5)
    assert decided(states, {"status": "passed", "riskScore": 99}, 1).status is Status.STALE
    assert decided(states, {"status": "failed"}, 6, performer_id="sg_other").status is Status.DEAD
    assert len(changes(states)) == 1
