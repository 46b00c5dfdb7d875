from urllib.parse import quote

import pytest

from sharegram_simulator.client import Json, SimulatorClient
from sharegram_simulator.testing import PartnerCaller


async def page(partner: PartnerCaller, query: str) -> Json:
    answer = await partner.call("GET", f"/v1/performers?{query}")
    assert answer.status == 200, answer
    return answer.json


async def scan(partner: PartnerCaller, query: str) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        answer = await page(partner, query + cursor)
        found += [performer["performerId"] for performer in answer["performers"]]
        if answer["nextCursor"] is None:
            return found
        cursor = f"&cursor={answer['nextCursor']}"


async def create(simulator: SimulatorClient, count: int) -> list[Json]:
    performers: list[Json] = (await simulator.post("/_sim/performers", {"count": count, "silent": True}))["performers"]
    return performers


async def test_a_scan_meets_everyone_once_in_the_order_of_their_last_change(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    created = [performer["performerId"] for performer in await create(simulator, 25)]
    assert await scan(partner, "limit=7") == created
    assert await scan(partner, "limit=25") == created
    shown = await partner.call("GET", f"/v1/performers/{created[0]}")
    assert shown.json["performerId"] == created[0]


async def test_an_incremental_scan_begins_at_the_moment_that_it_names(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    created = await create(simulator, 10)
    since = quote(created[6]["updatedAt"])
    assert await scan(partner, f"limit=3&updatedSince={since}") == [one["performerId"] for one in created[6:]]


async def test_who_changes_during_a_scan_comes_again_at_its_end(
    simulator: SimulatorClient, partner: PartnerCaller
) -> None:
    first, second, third = [one["performerId"] for one in await create(simulator, 3)]
    begun = await page(partner, "limit=2")
    await simulator.post("/_sim/performers", {"performerId": first, "profile": {"bio": "new"}, "silent": True})
    rest = await page(partner, f"cursor={begun['nextCursor']}")
    assert [one["performerId"] for one in begun["performers"]] == [first, second]
    assert [(one["performerId"], one["version"]) for one in rest["performers"]] == [(third, 1), (first, 2)]


async def test_who_is_gone_at_the_master_is_in_no_page(simulator: SimulatorClient, partner: PartnerCaller) -> None:
    first, second = [one["performerId"] for one in await create(simulator, 2)]
    assert (await simulator.request("DELETE", f"/_sim/performers/{first}")).status == 200
    assert await scan(partner, "limit=10") == [second]
    assert (await partner.call("GET", f"/v1/performers/{first}")).status == 404
    assert (await simulator.request("DELETE", f"/_sim/performers/{first}")).status == 404


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "cursor=!", "cursor=e30", "updatedSince=2026-01-01T00:00:00", "sort=x"]
)
async def test_a_malformed_query_is_refused(partner: PartnerCaller, query: str) -> None:
    answer = await partner.call("GET", f"/v1/performers?{query}")
    assert (answer.status, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert list(answer.json["error"]["details"]) == [query.partition("=")[0]]
