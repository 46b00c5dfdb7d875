"""What an upload costs. The limits are what it cost before persons were locked."""

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.settings import GatewaySettings
from safevideo_testkit.io_counts import Costs, costs_of
from safevideo_testkit.kyc import KycClient

FIRST_UPLOAD: Final = Costs(9, 14)
REPLACING_UPLOAD: Final = Costs(10, 14)
PERFORMERS: Final = 6


async def test_upload_costs_no_more_than_before(
    performer: Callable[[str], Awaitable[KycClient]], settings: GatewaySettings
) -> None:
    redis_url = settings.redis_url.get_secret_value()
    clients = [await performer(f"sg_{number}") for number in range(PERFORMERS)]
    requests = [await client.submitted() for client in clients]

    async def upload(number: int) -> None:
        answer = await clients[number].upload(requests[number])
        assert answer.status == 201, answer.body

    async def read(number: int) -> None:
        assert await clients[number].status(requests[number]) == "pending"

    first = await costs_of(upload, redis_url, FIRST_UPLOAD, before=read, times=PERFORMERS)
    assert first <= FIRST_UPLOAD
    await upload(0)
    again = await costs_of(lambda _: upload(0), redis_url, REPLACING_UPLOAD, before=lambda _: read(0), times=8)
    assert again <= REPLACING_UPLOAD
