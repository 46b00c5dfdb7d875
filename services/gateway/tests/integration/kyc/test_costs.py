"""What an upload costs. The limits are what it cost before persons were locked."""

from typing import Final

from gateway.settings import GatewaySettings
from safevideo_testkit.io_counts import Costs, costs_of
from safevideo_testkit.kyc import REQUIRED, KycClient

FIRST_UPLOAD: Final = Costs(9, 18)
REPLACING_UPLOAD: Final = Costs(10, 18)


async def test_upload_costs_no_more_than_before(ada: KycClient, settings: GatewaySettings) -> None:
    redis_url = settings.redis_url.get_secret_value()
    request_id = await ada.submitted()
    fields = list(REQUIRED)

    async def upload(number: int) -> None:
        answer = await ada.upload(request_id, fields[number])
        assert answer.status == 201, answer.body

    async def read(_number: int) -> None:
        assert await ada.status(request_id) == "pending"

    first = await costs_of(upload, redis_url, before=read, times=2)
    again = await costs_of(lambda number: upload(number % 2), redis_url, before=read, times=6)
    assert first <= FIRST_UPLOAD
    assert again <= REPLACING_UPLOAD
