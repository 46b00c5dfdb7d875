from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import Received, ScriptedReceiver, all_webhooks_are, running_simulator


async def test_duplicates_on_purpose_carry_the_same_id(simulator: SimulatorClient, receiver: ScriptedReceiver) -> None:
    await simulator.put("/_sim/disorder", {"duplicateRate": 1})
    await simulator.post("/_sim/performers", {"count": 3})
    assert len({webhook.json["id"] for webhook in await receiver.first(6)}) == 3
    state = await simulator.state_when(lambda state: all(len(sent["tries"]) == 2 for sent in state["webhooks"]))
    assert all_webhooks_are("delivered")(state)


async def test_webhooks_are_overtaken_on_purpose(settings: SimulatorSettings, receiver: ScriptedReceiver) -> None:
    async with running_simulator(settings.model_copy(update={"reorder_rate": 0.5, "retry_factor": 0.1})) as simulator:
        for version in range(1, 13):
            body = {"performerId": "sg_1", "profile": {"bio": str(version)}, "version": version}
            await simulator.post("/_sim/performers", body)
        versions = [webhook.json["data"]["version"] for webhook in await receiver.first(12)]
    assert versions != sorted(versions)
    assert sorted(versions) == list(range(1, 13))


async def test_a_duplicate_that_is_refused_is_not_retried(
    settings: SimulatorSettings, receiver: ScriptedReceiver
) -> None:
    async def refuse_the_second(_: Received) -> int:
        return 200 if len(receiver.received) == 1 else 409

    receiver.script = refuse_the_second
    async with running_simulator(settings.model_copy(update={"duplicate_rate": 1.0})) as simulator:
        await simulator.post("/_sim/performers", {"count": 1})
        state = await simulator.state_when(lambda state: len(state["webhooks"][0]["tries"]) == 2)
        assert all_webhooks_are("delivered")(state)
