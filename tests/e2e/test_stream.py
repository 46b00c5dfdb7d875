"""The promises of the contract, §8: each webhook that was answered 2xx is applied once, in the provider's order."""

from secrets import token_hex

from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, all_services
from safevideo_testkit.oracle.checks import count_repeated_changes, insert_requests
from safevideo_testkit.oracle.stream import write_stream
from safevideo_testkit.oracle.system import open_system
from safevideo_testkit.stacks import StackUnderTest
from safevideo_testkit.webhook_sender import send_all


async def test_services_apply_each_webhook_of_a_shuffled_stream_with_repeats_once(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    stream = write_stream(performers=100, events=2000, seed=3, prefix=f"sg_{token_hex(4)}")
    async with open_system(stack, broker) as system, all_services(stack, broker, log) as url:
        await insert_requests(system.database, stream.performers)
        await send_all(url, SECRET, stream.webhooks)
        comparison = await system.check_all_applied(stream)
    assert count_repeated_changes(comparison.published) == 0
    repeats = sum(entry.repeats for entry in comparison.expected.inbox.values())
    assert repeats == len(stream.webhooks) - len(stream.by_id)
