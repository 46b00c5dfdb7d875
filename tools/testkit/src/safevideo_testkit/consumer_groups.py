"""The offsets at which consumer groups begin on a broker that many tests share."""

from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError
from aiokafka.structs import TopicPartition as KafkaPartition

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import TopicPartition
from safevideo_testkit.broker_helpers import end_offsets
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually

MEMBERS_GONE_SECONDS: Final = DEADLINE_SECONDS
"""A killed process stays a member until its session ends."""


async def seek_groups_to_end(bootstrap_servers: str, broker: Broker, groups: Mapping[str, Sequence[str]]) -> None:
    """Let each group begin at the end of its topics, so that it skips the records of earlier tests.

    Waits until the groups have no members. Raises `TimeoutError` if some stay.
    """
    for group, topics in groups.items():
        await _commit(bootstrap_servers, group, await end_offsets(broker, topics))


async def _commit(bootstrap_servers: str, group: str, offsets: Mapping[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    ends = {KafkaPartition(*partition): offset for partition, offset in offsets.items()}

    async def is_committed() -> bool:
        try:
            await consumer.commit(ends)
        except CommitFailedError:
            return False
        return True

    await consumer.start()
    try:
        consumer.assign(list(ends))
        await eventually(is_committed, MEMBERS_GONE_SECONDS, poll_seconds=0.25)
    finally:
        await consumer.stop()
