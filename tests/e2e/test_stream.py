"""The promises of the contract, §8: what was answered 2xx is applied, once, in the provider's order."""

from secrets import token_hex

from stream_changes import check_changes
from stream_ledger import write_ledger
from stream_sender import send_all
from stream_verdict import check, duplicates, insert_requests, wait_until_settled
from whole_house import SECRET, whole_house

from safevideo_common.database.engine import Database
from safevideo_common.messaging.port import EventLog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.testing.stacks import StackUnderTest


async def test_a_shuffled_stream_with_repeats_ends_as_the_provider_made_it(
    stack: StackUnderTest, event_log: EventLog, log: FilteringBoundLogger
) -> None:
    ledger = write_ledger(performers=100, events=2000, seed=3, prefix=f"sg_{token_hex(4)}")
    async with Database.open(stack.database_url) as database, whole_house(stack, event_log, log) as url:
        await insert_requests(database, ledger)
        await send_all(url, SECRET, ledger.sendings)
        await wait_until_settled(database, ledger)
        await check(database, ledger)
        assert await check_changes(event_log, database, ledger) == 0
        assert await duplicates(database, ledger) == ledger.repeats
