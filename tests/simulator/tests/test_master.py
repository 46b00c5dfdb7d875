from typing import Any

import pytest

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import ScriptedReceiver, running_simulator


async def test_performers_are_made_up_with_a_webhook_each(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    answer = await simulator.post("/_sim/performers", {"count": 5})
    webhooks = await receiver.first(5)
    assert sorted(webhook.json["id"] for webhook in webhooks) == sorted(answer["webhooks"])
    told = {webhook.json["data"]["performerId"]: webhook.json["data"] for webhook in webhooks}
    for performer in answer["performers"]:
        data = told[performer["performerId"]]
        assert (data["profile"], data["status"], data["version"]) == (performer["profile"], performer["status"], 1)


async def test_a_seed_makes_performers_repeatable_and_their_webhooks_new(settings: SimulatorSettings) -> None:
    async def created() -> Any:
        async with running_simulator(settings) as simulator:
            return await simulator.post("/_sim/performers", {"count": 3})

    first, second = await created(), await created()
    assert [one["profile"] for one in first["performers"]] == [one["profile"] for one in second["performers"]]
    assert not set(first["webhooks"]) & set(second["webhooks"])


async def test_a_change_sends_a_patch_and_raises_the_version(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": {"bio": "old", "username": "ann"}})
    answer = await simulator.post("/_sim/performers", {"performerId": "sg_1", "profile": {"bio": None}})
    [performer] = answer["performers"]
    assert (performer["version"], performer["profile"]["bio"], performer["profile"]["username"]) == (2, None, "ann")
    _, patch = await receiver.first(2)
    assert patch.json["data"] == {"performerId": "sg_1", "changes": {"bio": None}, "version": 2}


async def test_the_version_after_a_change_can_be_given(simulator: SimulatorClient) -> None:
    await simulator.post("/_sim/performers", {"performerId": "sg_1", "version": 9})
    answer = await simulator.post("/_sim/performers", {"performerId": "sg_1", "status": "suspended"})
    assert answer["performers"][0]["version"] == 10


async def test_a_silent_change_is_known_at_the_master_only(
    simulator: SimulatorClient, receiver: ScriptedReceiver
) -> None:
    answer = await simulator.post("/_sim/performers", {"count": 2, "silent": True})
    silent = {"status": "passed", "performerId": "sg_1", "silent": True}
    await simulator.post("/_sim/verifications/ver_1", silent)
    state = await simulator.state()
    assert (answer["webhooks"], state["webhooks"], receiver.received) == ([], [], [])
    assert (len(state["performers"]), len(state["verifications"])) == (2, 1)


async def test_a_verification_that_is_new_needs_its_performer(simulator: SimulatorClient) -> None:
    answer = await simulator.request("POST", "/_sim/verifications/ver_1", body={"status": "passed"})
    assert (answer.status, list(answer.json["error"]["details"])) == (400, ["performerId"])


async def test_the_master_takes_no_more_than_its_limit(settings: SimulatorSettings) -> None:
    async with running_simulator(settings.model_copy(update={"master_limit": 3})) as simulator:
        await simulator.post("/_sim/performers", {"count": 2})
        refused = await simulator.request("POST", "/_sim/performers", body={"count": 2})
        assert (refused.status, refused.json["error"]["code"]) == (409, "LIMIT_REACHED")
        assert len((await simulator.state())["performers"]) == 2


@pytest.mark.parametrize(
    "order",
    [
        {"count": 0},
        {"count": 1, "performerId": "sg_1"},
        {"performerId": "with space"},
        {"status": "odd"},
        {"profile": {"nickname": "x"}},
        {"version": -1},
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(simulator: SimulatorClient, order: dict[str, object]) -> None:
    answer = await simulator.request("POST", "/_sim/performers", body=order)
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_the_record_of_calls_is_bounded(settings: SimulatorSettings) -> None:
    async with running_simulator(settings.model_copy(update={"history_limit": 3})) as simulator:
        for number in range(6):
            await simulator.request("GET", f"/{number}{'x' * 1000}")
        calls = (await simulator.state())["calls"]
    assert [call["path"][1] for call in calls] == ["3", "4", "5"]
    assert {len(call["path"]) for call in calls} == {255}
