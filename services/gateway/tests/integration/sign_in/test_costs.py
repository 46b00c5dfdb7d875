"""What signing in and reading cost: the class of defects that is gone must not come back as a slow sign-in.

The limits are what it cost before persons were locked, with the entry in the audit log.
"""

from typing import Final

from gateway.settings import GatewaySettings
from safevideo_testkit.http import Api
from safevideo_testkit.io_counts import Costs, costs_of
from safevideo_testkit.people import bearer, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

FIRST_SIGN_IN: Final = Costs(17, 14)
LATER_SIGN_IN: Final = Costs(8, 14)
FIRST_READ: Final = Costs(4, 3)
LATER_READ: Final = Costs(2, 3)


async def test_sign_in_and_reading_cost_no_more_than_before(
    site: Api, simulator: SimulatorClient, settings: GatewaySettings
) -> None:
    redis_url = settings.redis_url.get_secret_value()
    tokens = [await token_of(simulator, sub=f"sg_{number}", email=f"p{number}@example.com") for number in range(8)]
    headers: dict[int, dict[str, str]] = {}

    async def sign_in(number: int) -> None:
        answer = await unified_login(site, tokens[number])
        assert answer.status == 200, answer.body
        headers[number] = bearer(answer.json["data"])

    async def read(number: int) -> None:
        assert (await site.get("/api/v1/performers/1", headers[number])).status == 404

    first = await costs_of(sign_in, redis_url, FIRST_SIGN_IN, times=8)
    later = await costs_of(sign_in, redis_url, LATER_SIGN_IN, before=sign_in, times=8)
    first_read = await costs_of(read, redis_url, FIRST_READ, before=sign_in, times=8)
    later_read = await costs_of(read, redis_url, LATER_READ, before=read, times=8)
    assert first <= FIRST_SIGN_IN
    assert later <= LATER_SIGN_IN
    assert first_read <= FIRST_READ
    assert later_read <= LATER_READ
