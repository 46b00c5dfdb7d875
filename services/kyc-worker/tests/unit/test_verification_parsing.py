"""The parser of verification events."""

from datetime import UTC, datetime

import orjson
import pytest

from kyc_worker.verifications.handler import VerificationEvent, parse_verification
from safevideo_common.domain.outcomes import IGNORED, Outcome, Status
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.handler import Delivery

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD = {"verificationId": "ver_1", "performerId": "sg_1", "result": {"status": "passed", "riskScore": 93.5}}


def delivery(data: object, event_type: str = "kyc.verification.completed") -> Delivery:
    body = orjson.dumps({"event": event_type, "timestamp": "2026-11-24T12:00:00Z", "data": data})
    return Delivery(Envelope("evt", event_type, AT, "sg_1"), body, "sharegram.kyc.v1", 0, 0, AT)


def test_parse_reads_the_result() -> None:
    event = parse_verification(delivery(GOOD))
    assert isinstance(event, VerificationEvent)
    assert event.verification_id == "ver_1"
    assert (event.result.status, event.result.risk_score, event.result.reported_failed) == ("passed", 93.5, False)


def test_parse_reads_the_failure_from_the_type() -> None:
    event = parse_verification(delivery(GOOD, "kyc.verification.failed"))
    assert isinstance(event, VerificationEvent)
    assert event.result.reported_failed


@pytest.mark.parametrize(
    ("checks", "stored"),
    [
        (b'{"n":123456789012345678901234567890}', {"n": "123456789012345678901234567890"}),
        (b'{"n":1e400}', {"unreadable": "Number out of range"}),
        (b'{"half":"\\ud83c"}', {"half": "\ufffd"}),
        (b"null", {"unreadable": "no object"}),
        (b"[" * 260 + b"]" * 260, {"unreadable": "no object"}),
    ],
)
def test_parse_loses_no_result_for_a_check_that_cannot_be_stored(checks: bytes, stored: dict[str, object]) -> None:
    sent = delivery(GOOD)
    body = sent.body.replace(b'"riskScore":93.5', b'"riskScore":93.5,"checks":' + checks)
    event = parse_verification(sent._replace(body=body))
    assert isinstance(event, VerificationEvent)
    assert (event.result.risk_score, event.result.checks) == (93.5, stored)


def test_parse_ignores_an_unknown_type() -> None:
    assert parse_verification(delivery(GOOD, "kyc.verification.postponed")) is IGNORED


@pytest.mark.parametrize(
    "change",
    [
        {"verificationId": None},
        {"verificationId": "x" * 129},
        {"result": {"status": "perhaps"}},
        {"result": {"status": "passed", "riskScore": 101}},
        {"result": {"status": "passed", "riskScore": -1}},
        {"result": []},
    ],
)
def test_parse_rejects_an_invalid_body(change: dict[str, object]) -> None:
    outcome = parse_verification(delivery(GOOD | change))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.code) == (Status.DEAD, "BODY_INVALID")
