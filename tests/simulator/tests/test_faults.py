import asyncio

import pytest
from aiohttp import ClientConnectionError, ClientSession

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.serving import serving
from sharegram_simulator.settings import SimulatorSettings


async def test_down_drops_the_connection_and_the_record_shows_a_call_without_an_answer(
    simulator: SimulatorClient, caplog: pytest.LogCaptureFixture
) -> None:
    await simulator.put("/_sim/faults", {"mode": "down"})
    with pytest.raises(ClientConnectionError):
        await simulator.request("GET", "/v1/health")
    state = await simulator.state()
    # The client sees an idempotent call fail on a connection that was used before, and tries once more by itself.
    assert {call["status"] for call in state["calls"]} == {None}
    assert state["fault"]["mode"] == "down"
    assert not caplog.records


async def test_errors_answer_500_in_the_shape_of_every_failure(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "errors"})
    answer = await simulator.request("GET", "/v1/health", headers={"X-Request-Id": "req-1"})
    assert answer.status == 500
    assert (answer.json["success"], answer.json["error"]["requestId"]) == (False, "req-1")


async def test_rate_limited_says_when_to_come_again(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "rate_limited", "retryAfter": 6.5})
    answer = await simulator.request("GET", "/v1/health")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")


async def test_slow_answers_well_but_late(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "slow", "delayMs": 120})
    begun = asyncio.get_running_loop().time()
    assert (await simulator.request("GET", "/v1/health")).status == 200
    assert asyncio.get_running_loop().time() - begun >= 0.12


async def test_hang_does_not_answer_and_ends_with_the_simulator(settings: SimulatorSettings) -> None:
    async with ClientSession() as session:
        async with serving(settings) as base_url:
            simulator = SimulatorClient(base_url, session)
            await simulator.put("/_sim/faults", {"mode": "hang"})
            hanging = asyncio.create_task(simulator.request("GET", "/v1/health"), name="hanging-call")
            state = await simulator.state_when(lambda state: bool(state["callsUnderWay"]))
            assert (state["callsUnderWay"], state["calls"], hanging.done()) == (1, [], False)
        with pytest.raises(ClientConnectionError):
            await hanging


async def test_a_rate_hits_its_share_of_the_calls(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "errors", "rate": 0.5})
    statuses = [(await simulator.request("GET", "/v1/health")).status for _ in range(60)]
    assert 15 <= statuses.count(500) <= 45


async def test_paths_narrow_a_fault_to_what_begins_with_them(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "errors", "paths": ["/.well-known/"]})
    assert (await simulator.request("GET", "/.well-known/jwks.json")).status == 500
    assert (await simulator.request("GET", "/v1/health")).status == 200


async def test_a_fault_never_hits_the_steering_and_ends_with_ok(simulator: SimulatorClient) -> None:
    await simulator.put("/_sim/faults", {"mode": "down"})
    await simulator.put("/_sim/faults", {"mode": "ok"})
    assert (await simulator.request("GET", "/v1/health")).status == 200


@pytest.mark.parametrize(
    "order", [{"mode": "odd"}, {"rate": 2}, {"delayMs": -1}, {"paths": ["v1"]}, {"retryAfter": -1}, {"unknown": 1}]
)
async def test_a_fault_that_makes_no_sense_is_refused(simulator: SimulatorClient, order: dict[str, object]) -> None:
    answer = await simulator.request("PUT", "/_sim/faults", body=order)
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")
