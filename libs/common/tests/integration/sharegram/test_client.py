"""Each method of the client against the simulator, which checks signatures and idempotency keys by itself."""

from datetime import UTC, datetime

import pytest

from safevideo_common.sharegram.client import DocumentFile, SharegramClient, multipart_body
from safevideo_common.sharegram.errors import SharegramRejected
from safevideo_common.sharegram.operations import SharegramCaller
from sharegram_simulator.client import SimulatorClient

PHOTO = DocumentFile("idFront", "image/jpeg", b"\xff\xd8\xff" + bytes(2 << 20))


async def test_health_is_read_without_a_signature(simulator: SimulatorClient, sharegram: SharegramClient) -> None:
    assert (await sharegram.health(SharegramCaller.api())).status == "ok"
    [call] = (await simulator.state())["calls"]
    assert (call["path"], call["signatureOk"]) == ("/v1/health", None)


async def test_document_and_verification_go_out_signed_with_keys_and_our_request_id(
    simulator: SimulatorClient, sharegram: SharegramClient
) -> None:
    caller = SharegramCaller.job("req-1")
    document = await sharegram.upload_document(caller, work="doc:1", document=PHOTO, form={"side": "front"})
    started = await sharegram.start_verification(
        caller, work="kyc:1", performer_id="sg_1", fields={"documents": [document.document_id]}
    )
    state = await simulator.state()
    assert state["documents"] == 1
    assert [each["verificationId"] for each in state["verifications"]] == [started.verification_id]
    for call in state["calls"]:
        assert (call["signatureOk"], call["requestId"], call["integrationId"]) == (True, "req-1", "safevideo")
        assert call["idempotencyKey"]


async def test_same_work_is_done_once_also_for_a_form(simulator: SimulatorClient, sharegram: SharegramClient) -> None:
    for _ in range(2):
        await sharegram.upload_document(SharegramCaller.job(), work="doc:1", document=PHOTO, form={})
        await sharegram.start_verification(SharegramCaller.job(), work="kyc:1", performer_id="sg_1", fields={})
    state = await simulator.state()
    assert (state["documents"], len(state["verifications"])) == (1, 1)


async def test_verification_risk_score_and_faces_are_read(
    simulator: SimulatorClient, sharegram: SharegramClient
) -> None:
    started = await sharegram.start_verification(SharegramCaller.job(), work="kyc:1", performer_id="sg_1", fields={})
    assert (await sharegram.verification(SharegramCaller.job(), started.verification_id)).result is None
    await simulator.post(
        f"/_sim/verifications/{started.verification_id}", {"status": "passed", "riskScore": 91, "silent": True}
    )
    result = (await sharegram.verification(SharegramCaller.job(), started.verification_id)).result
    assert result is not None
    assert (result.status, result.risk_score) == ("passed", 91)
    assert (await sharegram.risk_score(SharegramCaller.job(), "sg_1")).risk_score == 91
    assert (await sharegram.match_faces(SharegramCaller.job(), work="face:1", performer_id="sg_1", fields={})).match


async def test_pages_of_performers_meet_everyone_once_and_one_is_read_by_id(
    simulator: SimulatorClient, sharegram: SharegramClient
) -> None:
    created = (await simulator.post("/_sim/performers", {"count": 25, "silent": True}))["performers"]
    found, cursor = [], None
    while True:
        page = await sharegram.performers(
            SharegramCaller.job(), updated_since=datetime(2026, 1, 1, tzinfo=UTC), cursor=cursor, limit=7
        )
        assert not page.invalid
        found += [record.performer_id for record in page.performers]
        if (cursor := page.next_cursor) is None:
            break
    assert found == [each["performerId"] for each in created]
    record = await sharegram.performer(SharegramCaller.api(), found[0])
    assert record.profile.username == created[0]["profile"]["username"]


@pytest.mark.parametrize("performer_id", ["sg_nobody", "a/../b", "ä?x=1#y", "a b%2F"])
async def test_unknown_performer_is_rejected_with_sharegrams_code_and_any_id_is_one_segment(
    simulator: SimulatorClient, sharegram: SharegramClient, performer_id: str
) -> None:
    with pytest.raises(SharegramRejected) as raised:
        await sharegram.performer(SharegramCaller.api(), performer_id)
    assert raised.value.details == {"status": 404, "code": "NOT_FOUND"}
    [call] = (await simulator.state())["calls"]
    assert call["signatureOk"]


async def test_webhook_endpoint_is_registered(simulator: SimulatorClient, sharegram: SharegramClient) -> None:
    url = "https://safevideo.example/webhooks/sharegram"
    registered = await sharegram.register_webhook(SharegramCaller.api(), url=url, events=["performer.status.changed"])
    assert (registered.url, registered.events) == (url, ["performer.status.changed"])


def test_form_is_the_same_bytes_each_time_and_takes_plain_names_only() -> None:
    assert multipart_body(PHOTO, {"b": "2", "a": "1"}) == multipart_body(PHOTO, {"a": "1", "b": "2"})
    with pytest.raises(ValueError, match="plain field names"):
        multipart_body(DocumentFile('a"\r\nX: y', "image/jpeg", b""), {})
