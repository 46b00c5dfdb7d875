import asyncio

from sharegram_simulator.client import Answer, SimulatorClient
from sharegram_simulator.testing import PartnerCaller


async def verify(partner: PartnerCaller, key: str | None, performer_id: str = "sg_1") -> Answer:
    return await partner.call("POST", "/v1/kyc/verify", {"performerId": performer_id}, {"Idempotency-Key": key})


async def test_a_write_under_its_key_has_one_effect_and_one_answer(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    first, *others = await asyncio.gather(*(verify(partner, "key-1") for _ in range(5)))
    assert first.status == 201
    assert {answer.body for answer in others} == {first.body}
    state = await simulator.state()
    assert len(state["verifications"]) == 1
    assert {call["idempotencyKey"] for call in state["calls"]} == {"key-1"}


async def test_writes_under_different_keys_or_none_have_an_effect_each(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    for key in ("key-1", "key-2", None, None):
        await verify(partner, key)
    assert len((await simulator.state())["verifications"]) == 4


async def test_a_key_does_not_stand_for_another_request(partner: PartnerCaller) -> None:
    await verify(partner, "key-1")
    answer = await verify(partner, "key-1", "sg_2")
    assert (answer.status, answer.json["error"]["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_what_was_refused_may_be_tried_again_under_its_key(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    await simulator.put("/_sim/faults", {"mode": "errors"})
    assert (await verify(partner, "key-1")).status == 500
    await simulator.put("/_sim/faults", {"mode": "ok"})
    assert (await verify(partner, "key-1")).status == 201


async def test_a_key_that_is_too_long_is_refused(partner: PartnerCaller) -> None:
    assert (await verify(partner, "k" * 256)).status == 400
