import asyncio
import hmac
from datetime import UTC, datetime

import pytest

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.courier import RETRY_DELAYS
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import Received, ScriptedReceiver, all_webhooks_are, running_simulator


def signature_of(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()


async def test_a_change_at_the_master_arrives_as_a_signed_webhook(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    answer = await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": {"username": "ann"}})
    [webhook] = await receiver.first(1)
    assert webhook.headers["X-Sharegram-Signature"] == signature_of(webhook.body, "a webhook secret")
    assert webhook.headers["Content-Type"] == "application/json"
    assert webhook.headers["X-Sharegram-Event-Id"] == webhook.json["id"] == answer["webhooks"][0]
    age = datetime.now(UTC).timestamp() - int(webhook.headers["X-Sharegram-Timestamp"])
    assert 0 <= age < 60
    assert webhook.json["event"] == "performer.profile.updated"
    assert webhook.json["data"]["version"] == 1


async def test_a_refused_webhook_is_retried_with_the_same_bytes_until_it_is_accepted(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    async def fail_twice(_: Received) -> int:
        return 503 if len(receiver.received) <= 2 else 200

    receiver.script = fail_twice
    await simulator.post("/_sim/performers", {"performerId": "sg_1"})
    state = await simulator.state_when(all_webhooks_are("delivered"))
    [webhook] = state["webhooks"]
    assert [attempt["status"] for attempt in webhook["tries"]] == [503, 503, 200]
    assert webhook["tries"][-1]["answer"] == {"success": True, "webhookId": "id-3"}
    assert webhook["performerId"] == "sg_1"
    assert len({attempt.body for attempt in receiver.received}) == 1


async def test_a_webhook_is_given_up_after_the_whole_schedule(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    async def refuse(_: Received) -> int:
        return 302

    receiver.script = refuse
    await simulator.post("/_sim/performers", {"performerId": "sg_1"})
    # The last pauses are long even with a small factor: let them pass by pointing at what they add up to.
    state = await simulator.state_when(all_webhooks_are("failed"))
    assert len(state["webhooks"][0]["tries"]) == 1 + len(RETRY_DELAYS)


async def test_a_receiver_that_is_not_there_is_an_error_in_the_record(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    away = settings.model_copy(update={"webhook_url": "http://127.0.0.1:1/", "retry_factor": 1.0})
    async with running_simulator(away) as simulator:
        await simulator.post("/_sim/performers", {"count": 1})
        state = await simulator.state_when(all_webhooks_are("retrying"))
        [attempt] = state["webhooks"][0]["tries"]
        assert attempt["status"] is None
        assert "ClientConnectorError" in attempt["error"]


async def test_a_receiver_that_does_not_answer_is_a_timeout_in_the_record(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    async def hang(_: Received) -> int:
        await asyncio.Event().wait()
        return 200

    receiver.script = hang
    impatient = settings.model_copy(update={"try_timeout_seconds": 0.05, "retry_factor": 1.0})
    async with running_simulator(impatient) as simulator:
        await simulator.post("/_sim/performers", {"count": 1})
        state = await simulator.state_when(all_webhooks_are("retrying"))
        assert state["webhooks"][0]["tries"][0]["error"] == "no answer within 0.05 s"


async def test_first_tries_keep_the_order_of_each_performer(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    for version in range(1, 21):
        for performer in ("sg_a", "sg_b", "sg_c"):
            await simulator.post(
                "/_sim/performers", {"performerId": performer, "profile": {"bio": str(version)}, "version": version}
            )
    arrived = [webhook.json["data"] for webhook in await receiver.first(60)]
    for performer in ("sg_a", "sg_b", "sg_c"):
        versions = [data["version"] for data in arrived if data["performerId"] == performer]
        assert versions == list(range(1, 21))


async def test_a_retry_uses_the_secret_of_its_own_moment(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    rotated = asyncio.Event()

    async def refuse_until_rotated(_: Received) -> int:
        await rotated.wait()
        return 401 if len(receiver.received) == 1 else 200

    receiver.script = refuse_until_rotated
    await simulator.post("/_sim/performers", {"count": 1})
    await receiver.first(1)
    await simulator.put("/_sim/webhook-secret", {"secret": "another secret"})
    rotated.set()
    first, second = await receiver.first(2)
    assert first.headers["X-Sharegram-Signature"] == signature_of(first.body, "a webhook secret")
    assert second.headers["X-Sharegram-Signature"] == signature_of(second.body, "another secret")


async def test_a_full_queue_refuses_a_change_and_leaves_the_master_alone(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    async def refuse(_: Received) -> int:
        return 500

    receiver.script = refuse
    async with running_simulator(settings.model_copy(update={"queue_limit": 3, "retry_factor": 1.0})) as simulator:
        await simulator.post("/_sim/performers", {"count": 3})
        refused = await simulator.request("POST", "/_sim/performers", body={"count": 1})
        assert (refused.status, refused.json["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(refused.headers["Retry-After"]) > 0
        state = await simulator.state()
        assert len(state["performers"]) == len(state["webhooks"]) == 3
        await simulator.post("/_sim/performers", {"count": 1, "silent": True})


async def test_the_history_of_finished_webhooks_is_bounded(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    async with running_simulator(settings.model_copy(update={"history_limit": 5})) as simulator:
        answer = await simulator.post("/_sim/performers", {"count": 20})
        await receiver.first(20)
        state = await simulator.state_when(lambda state: len(state["webhooks"]) == 5)
        assert {webhook["id"] for webhook in state["webhooks"]} <= set(answer["webhooks"])


async def test_the_death_of_a_worker_is_noticed(simulator: SimulatorClient) -> None:
    [worker] = [task for task in asyncio.all_tasks() if task.get_name() == "webhook-courier-0"]
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    refused = await simulator.request("POST", "/_sim/performers", body={"count": 1})
    assert refused.status == 503
    assert "stopped" in refused.json["error"]["message"]
