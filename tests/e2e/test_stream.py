"""The promises of the contract, §8: what was answered 2xx is applied, once, in the provider's order."""

from secrets import token_hex

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, whole_house
from safevideo_testkit.oracle.changes import check_changes
from safevideo_testkit.oracle.checks import check, duplicates, insert_requests, wait_until_settled
from safevideo_testkit.oracle.expected import write_ledger
from safevideo_testkit.stacks import StackUnderTest
from safevideo_testkit.webhook_sender import send_all


async def test_a_shuffled_stream_with_repeats_ends_as_the_provider_made_it(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    ledger = write_ledger(performers=100, events=2000, seed=3, prefix=f"sg_{token_hex(4)}")
    async with Database.open(stack.database_url) as database, whole_house(stack, broker, log) as url:
        await insert_requests(database, ledger)
        await send_all(url, SECRET, ledger.sendings)
        await wait_until_settled(database, ledger)
        await check(database, ledger)
        assert await check_changes(broker, database, ledger) == 0
        assert await duplicates(database, ledger) == ledger.repeats
