import pytest

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.testing import PartnerCaller, ScriptedReceiver

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="idFront"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff\r\n--x--\r\n"
)
AS_FORM = {"Content-Type": "multipart/form-data; boundary=x"}


async def test_a_verification_goes_from_pending_to_a_verdict_and_can_be_corrected(
    simulator: SimulatorClient, partner: PartnerCaller, receiver: ScriptedReceiver
) -> None:
    started = await partner.call("POST", "/v1/kyc/verify", {"performerId": "sg_1", "documents": ["doc_1"]})
    assert (started.status, started.json["status"]) == (201, "pending")
    verification = started.json["verificationId"]
    assert (await partner.call("GET", f"/v1/kyc/verify/{verification}")).json["result"] is None

    await simulator.post(f"/_sim/verifications/{verification}", {"status": "passed", "riskScore": 91})
    await simulator.post(f"/_sim/verifications/{verification}", {"status": "failed"})
    first, second = (webhook.json for webhook in await receiver.first(2))
    assert (first["event"], second["event"]) == ("kyc.verification.completed", "kyc.verification.failed")
    assert first["data"]["result"]["riskScore"] == 91
    assert first["timestamp"] < second["timestamp"]

    shown = (await partner.call("GET", f"/v1/kyc/verify/{verification}")).json
    assert (shown["status"], shown["result"]) == ("failed", second["data"]["result"])
    assert (await partner.call("GET", "/v1/kyc/risk-score/sg_1")).json["riskScore"] == 18


async def test_documents_are_counted_and_forgotten(simulator: SimulatorClient, partner: PartnerCaller) -> None:
    answer = await partner.call("POST", "/v1/kyc/documents", FORM, {**AS_FORM})
    assert (answer.status, answer.json["status"]) == (201, "accepted")
    assert (await simulator.state())["documents"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"--x--\r\n", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--']
)
async def test_a_form_without_a_file_is_refused(partner: PartnerCaller, body: bytes) -> None:
    answer = await partner.call("POST", "/v1/kyc/documents", body, {**AS_FORM})
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_faces_match_with_the_same_score_each_time(partner: PartnerCaller) -> None:
    first = await partner.call("POST", "/v1/kyc/face-match", {"performerId": "sg_1"})
    assert first.json["match"] is True
    assert (await partner.call("POST", "/v1/kyc/face-match", {"performerId": "sg_1"})).json == first.json


async def test_the_risk_of_someone_unknown_is_not_found(partner: PartnerCaller) -> None:
    assert (await partner.call("GET", "/v1/kyc/risk-score/sg_nobody")).status == 404
    assert (await partner.call("GET", "/v1/kyc/verify/ver_nothing")).status == 404


async def test_a_registered_address_gets_the_registered_types_only(
    simulator: SimulatorClient, partner: PartnerCaller, receiver: ScriptedReceiver
) -> None:
    await simulator.put("/_sim/webhook-url", {"url": "http://127.0.0.1:1/"})
    registration = {"url": receiver.url, "events": ["performer.status.changed"]}
    answer = await partner.call("POST", "/v1/webhooks", registration)
    assert (answer.status, answer.json["events"]) == (201, ["performer.status.changed"])
    created = await simulator.post("/_sim/performers", {"performerId": "sg_1", "status": "pending"})
    assert created["webhooks"] == []
    await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": {"bio": "new"}, "status": "active"})
    [webhook] = await receiver.first(1)
    assert webhook.json["data"] == {"performerId": "sg_1", "status": "active", "version": 2}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"performerId": ""}', b'{"performerId": "\\u0000"}'])
async def test_a_malformed_body_is_refused(partner: PartnerCaller, body: bytes) -> None:
    answer = await partner.call("POST", "/v1/kyc/verify", body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_a_body_over_the_limit_is_refused(partner: PartnerCaller) -> None:
    answer = await partner.call("POST", "/v1/kyc/documents", b"0" * (17 << 20))
    assert (answer.status, answer.json["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
