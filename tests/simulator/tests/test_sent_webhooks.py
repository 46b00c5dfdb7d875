import asyncio
import hmac
from base64 import b64encode
from datetime import UTC, datetime

import pytest

from sharegram_simulator.client import SimulatorClient, SteeringFailed
from sharegram_simulator.outgoing import Forgery
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import Received, ScriptedReceiver, running_simulator
from sharegram_simulator.webhooks import performer_updated, status_changed

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def is_well_signed(webhook: Received) -> bool:
    signature = hmac.new(b"a webhook secret", webhook.body, "sha256").hexdigest()
    return webhook.headers.get("X-Sharegram-Signature") == f"sha256={signature}"


async def test_a_webhook_that_is_sent_by_hand_is_answered_with_the_answer_of_the_receiver(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    [answer] = await simulator.send(performer_updated("sg_1", {"bio": "new"}, 3, AT, "evt_1"))
    assert (answer["status"], answer["answer"]) == (200, {"success": True, "webhookId": "id-1"})
    [webhook] = receiver.received
    assert is_well_signed(webhook)
    assert webhook.json == {
        "id": "evt_1",
        "event": "performer.profile.updated",
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "data": {"performerId": "sg_1", "changes": {"bio": "new"}, "version": 3},
    }
    [kept] = (await simulator.state())["webhooks"]
    assert (kept["id"], kept["state"], len(kept["tries"])) == ("evt_1", "delivered", 1)


async def test_times_sends_the_same_bytes_that_often(simulator: SimulatorClient, receiver: ScriptedReceiver) -> None:
    answers = await simulator.send(status_changed("sg_1", "active", 1, AT), times=3)
    assert [answer["answer"]["webhookId"] for answer in answers] == ["id-1", "id-2", "id-3"]
    assert len({webhook.body for webhook in receiver.received}) == 1


@pytest.mark.parametrize("forge", ["signature", "body", "unsigned"])
async def test_a_forged_webhook_is_sent_with_a_signature_that_does_not_hold(
    simulator: SimulatorClient, receiver: ScriptedReceiver, forge: Forgery
) -> None:
    async def refuse(_: Received) -> int:
        return 401

    receiver.script = refuse
    [answer] = await simulator.send(status_changed("sg_1", "active", 1, AT), forge=forge)
    assert answer["status"] == 401
    [webhook] = receiver.received
    assert not is_well_signed(webhook)
    assert ("X-Sharegram-Signature" in webhook.headers) == (forge != "unsigned")
    [kept] = (await simulator.state())["webhooks"]
    assert (kept["state"], len(kept["tries"])) == ("failed", 1)


async def test_forge_true_forges_the_signature(simulator: SimulatorClient, receiver: ScriptedReceiver) -> None:
    await simulator.post("/_sim/webhooks", {"event": "performer.status.changed", "forge": True})
    assert not is_well_signed(receiver.received[0])


async def test_a_webhook_out_of_time_is_well_signed_an_hour_ago(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.send(status_changed("sg_1", "active", 1, AT), forge="timestamp")
    [webhook] = receiver.received
    assert is_well_signed(webhook)
    assert 3600 <= datetime.now(UTC).timestamp() - int(webhook.headers["X-Sharegram-Timestamp"]) < 3660


async def test_the_standard_scheme_signs_id_timestamp_and_body(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.send(status_changed("sg_1", "active", 1, AT, "evt_1"), scheme="standard")
    [webhook] = receiver.received
    signed = b".".join((b"evt_1", webhook.headers["webhook-timestamp"].encode(), webhook.body))
    signature = b64encode(hmac.digest(b"a webhook secret", signed, "sha256")).decode()
    assert webhook.headers["webhook-signature"] == f"v1,{signature}"
    assert "X-Sharegram-Signature" not in webhook.headers


async def test_all_webhooks_use_the_scheme_of_the_settings(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    async with running_simulator(settings.model_copy(update={"webhook_scheme": "standard"})) as simulator:
        await simulator.post("/_sim/performers", {"count": 1})
        [webhook] = await receiver.first(1)
    assert webhook.headers["webhook-id"] == webhook.json["id"]


async def test_an_id_of_null_sends_none(simulator: SimulatorClient, receiver: ScriptedReceiver) -> None:
    await simulator.post("/_sim/webhooks", {"event": "performer.status.changed", "id": None})
    [webhook] = receiver.received
    assert "id" not in webhook.json
    assert "X-Sharegram-Event-Id" not in webhook.headers
    assert is_well_signed(webhook)


async def test_a_raw_body_and_headers_are_sent_to_the_letter(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    headers = {"Content-Encoding": "identity", "X-Sharegram-Timestamp": None}
    await simulator.post("/_sim/webhooks", {"rawBody": "[" * 1_500_000, "headers": headers, "id": None})
    [webhook] = receiver.received
    assert webhook.body == b"[" * 1_500_000
    assert webhook.headers["Content-Encoding"] == "identity"
    assert "X-Sharegram-Timestamp" not in webhook.headers
    assert is_well_signed(webhook)


async def test_a_webhook_sent_by_hand_does_not_wait_behind_the_queue(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    released = asyncio.Event()

    async def hold_the_queued(webhook: Received) -> int:
        if webhook.json["id"] != "evt_1":
            await released.wait()
        return 200

    receiver.script = hold_the_queued
    await simulator.post("/_sim/performers", {"performerId": "sg_1"})
    [answer] = await simulator.send(status_changed("sg_1", "active", 2, AT, "evt_1"))
    assert answer["status"] == 200
    released.set()


async def test_a_receiver_that_is_not_there_is_told_instead_of_an_answer(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/webhook-url", {"url": "http://127.0.0.1:1/"})
    [answer] = await simulator.send(status_changed("sg_1", "active", 1, AT))
    assert answer["status"] is None
    assert "ClientConnectorError" in answer["error"]


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"event": "e", "times": 0},
        {"event": "e", "scheme": "other"},
        {"event": "e", "scheme": "standard", "id": None},
        {"event": "e", "data": {"much": 2**70}},
        {"event": "e", "version": 2**63},
        {"event": "e", "timestamp": "2026-01-01T00:00:00"},
    ],
)
async def test_an_order_that_cannot_be_sent_is_refused(simulator: SimulatorClient, order: dict[str, object]) -> None:
    with pytest.raises(SteeringFailed, match="VALIDATION_ERROR"):
        await simulator.post("/_sim/webhooks", order)


async def test_what_is_remembered_of_a_huge_event_is_small(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.post("/_sim/webhooks", {"event": "e" * 10_000, "id": "i" * 7000, "data": {"a": "b" * 100_000}})
    [kept] = (await simulator.state())["webhooks"]
    assert (len(kept["event"]), len(kept["id"]), kept["data"]) == (128, 128, {})


async def test_renamed_sends_the_same_bytes_under_new_ids(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.post("/_sim/webhooks", {"event": "e", "id": None, "forge": "renamed", "times": 3})
    assert len({webhook.body for webhook in receiver.received}) == 1
    assert len({webhook.headers["X-Sharegram-Event-Id"] for webhook in receiver.received}) == 3
    assert all(map(is_well_signed, receiver.received))


async def test_reused_id_sends_other_bytes_under_the_same_id(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.post("/_sim/webhooks", {"event": "e", "forge": "reused_id", "times": 3})
    assert len({webhook.body for webhook in receiver.received}) == 3
    assert len({webhook.json["id"] for webhook in receiver.received}) == 1
    assert all(map(is_well_signed, receiver.received))
