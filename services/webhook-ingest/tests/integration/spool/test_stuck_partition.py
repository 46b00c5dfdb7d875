"""A partition that takes no writes delays its own keys only, for as long as it lasts."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from safevideo_common.broker.partitioner import partition_of
from safevideo_common.broker.port import UNKNOWN_PARTITION
from safevideo_common.broker.types import TopicPartition
from safevideo_testkit.broker_helpers import PARTITIONS
from safevideo_testkit.harness.spool import TOPIC, OpenHarness, ReadBroker, SpoolHarness
from webhook_ingest.publishing.spool_drainer import WINDOW

KEYS = [f"sg_{number}" for number in range(12)]
STUCK = 0
DEADLINE = 2.0
"""Long enough that only a stuck partition misses it."""


def is_stuck(key: str) -> bool:
    return partition_of(key.encode(), PARTITIONS) == STUCK


STEP = 100
LAST = 2 + STEP * (WINDOW // (STEP * len([key for key in KEYS if is_stuck(key)])) + 1)
"""More events of the stuck partition than a window, so that the spool begins with nothing else."""

HEALTHY = [key for key in KEYS if not is_stuck(key)]
HELD = [key for key in KEYS if is_stuck(key)]


def first_copies(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {key: list(dict.fromkeys(values)) for key, values in found.items()}


async def publish_rounds(harness: SpoolHarness, keys: Sequence[str], rounds: range) -> list[tuple[str, bool]]:
    """Publish one event of each key a round; return for each whether it went to the spool."""
    return [(key, await harness.publish(key, str(number))) for number in rounds for key in keys]


async def test_healthy_partitions_are_published_directly_while_one_takes_no_writes(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", timeout=DEADLINE) as harness:
        await publish_rounds(harness, KEYS, range(1))
        harness.gate.stuck = {STUCK}
        await publish_rounds(harness, HELD, range(1, 2))
        await harness.wait_until(lambda: STUCK in {each.partition for each in harness.spool.deferred})
        await harness.wait_until(lambda: not harness.publisher.is_kafka_unavailable)
        for first in range(2, LAST, STEP):
            spooled = await asyncio.gather(
                *(publish_rounds(harness, [key], range(first, first + STEP)) for key in HELD),
                publish_rounds(harness, HEALTHY, range(first, first + 5)),
            )
            assert all(went for of_key in spooled[:-1] for _, went in of_key)
            assert not any(went for _, went in spooled[-1])
        await harness.wait_until(lambda: not harness.spool.unread and not harness.spool.prefetched)
        assert harness.publisher.depth().unavailable_partitions == 1
        assert {each.partition for each in harness.spool.deferred} == {STUCK}
        found = await read_broker()
        assert all(key not in found or found[key] == ["0"] for key in HELD)
        harness.gate.stuck = set()
        await harness.wait_until_drained()
        assert not await harness.publish(HELD[0], "directly again")
    found = first_copies(await read_broker())
    assert all(found[key] == sorted(found[key], key=int) for key in HEALTHY)
    assert found[HELD[-1]] == [str(number) for number in range(LAST)]
    assert found[HELD[0]] == [*(str(number) for number in range(LAST)), "directly again"]


async def test_spool_of_an_outage_is_drained_past_a_partition_that_stays_away(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", timeout=DEADLINE, state="shut") as harness:
        await publish_rounds(harness, KEYS, range(60))
        harness.gate.stuck = {STUCK}
        harness.gate.open()
        await harness.wait_until(lambda: harness.spool.events == 60 * len(HELD))
        assert not any([await harness.publish(key, "60") for key in HEALTHY])
        found = await read_broker()
        assert {*found} == {*HEALTHY}
        harness.gate.stuck = set()
        await harness.wait_until_drained()
    found = first_copies(await read_broker())
    for key in KEYS:
        assert found[key] == [str(number) for number in range(61 if key in HEALTHY else 60)]


async def test_events_that_wait_for_a_partition_survive_a_restart_in_order(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    for life in range(3):
        async with open_harness(tmp_path / "spool", timeout=DEADLINE) as harness:
            harness.gate.stuck = {STUCK}
            await publish_rounds(harness, KEYS, range(life * 20, life * 20 + 20))
            await harness.wait_until(lambda: harness.spool.events == sum(harness.spool.deferred.values()))
    async with open_harness(tmp_path / "spool", timeout=DEADLINE) as harness:
        await harness.wait_until_drained()
    found = first_copies(await read_broker())
    for key in KEYS:
        assert found[key] == [str(number) for number in range(60)]


async def test_events_of_an_unknown_partition_are_delivered_past_and_into_one_that_was_away(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", timeout=DEADLINE) as harness:
        harness.gate.knows_partitions, harness.gate.stuck = False, {UNKNOWN_PARTITION}
        await asyncio.gather(*(publish_rounds(harness, [key], range(60)) for key in KEYS))
        unknown = TopicPartition(TOPIC, UNKNOWN_PARTITION)
        await harness.wait_until(lambda: harness.spool.deferred.get(unknown) == 60 * len(KEYS))
        harness.gate.knows_partitions, harness.gate.stuck = True, {STUCK}
        waiting: list[int] = []

        def is_known_of_all() -> bool:
            waiting.append(harness.spool.deferred.get(unknown, 0))
            return not waiting[-1]

        await harness.wait_until(is_known_of_all)
        assert waiting == sorted(waiting, reverse=True), "an event went back to the unknown partition"
        assert {each.partition for each in harness.spool.deferred} == {STUCK}
        harness.gate.stuck = set()
        await harness.wait_until_drained()
    found = first_copies(await read_broker())
    assert found == {key: [str(number) for number in range(60)] for key in KEYS}
