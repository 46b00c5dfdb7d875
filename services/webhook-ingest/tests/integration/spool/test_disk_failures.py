"""A full or unwritable disk causes a 503, and never ends the process; when the disk works again, so does the spool."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.faults.small_disk import CannotMount, SmallDisk, small_disk
from safevideo_testkit.harness.spool import OpenHarness, ReadBroker, SpoolHarness


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 1 MiB."""
    try:
        with small_disk(tmp_path / "disk", "1m") as disk:
            yield disk
    except CannotMount as error:
        pytest.skip(str(error))


async def publish_range(harness: SpoolHarness, key: str, numbers: range) -> list[str]:
    """Publish values and return the accepted ones; the others got the error that the contract requires."""
    accepted = []
    for number in numbers:
        try:
            await harness.publish(key, f"{number:0900}")
        except BrokerUnavailable as error:
            assert error.retry_after  # noqa: PT017 - most are accepted
        else:
            accepted.append(f"{number:0900}")
    return accepted


async def test_spool_rejects_events_on_full_disk_and_keeps_accepted_ones(
    open_harness: OpenHarness, read_broker: ReadBroker, disk: SmallDisk
) -> None:
    async with open_harness(disk.path / "spool", state="shut", timeout=30.0) as harness:
        accepted = await publish_range(harness, "a", range(1500))
        assert 800 < len(accepted) < 1200
        disk.remount("size=2m")
        accepted += await publish_range(harness, "a", range(2000, 2050))
        assert accepted[-50:] == [f"{number:0900}" for number in range(2000, 2050)]
        harness.gate.open()
        await harness.wait_until_drained()
        assert await read_broker() == {"a": accepted}


async def test_spool_drains_on_full_disk_after_recovery(
    open_harness: OpenHarness, read_broker: ReadBroker, disk: SmallDisk
) -> None:
    async with open_harness(disk.path / "spool", state="shut", timeout=30.0) as harness:
        accepted = await publish_range(harness, "a", range(1500))
        harness.gate.open()
        await harness.wait_until_drained()
        assert await read_broker() == {"a": accepted}
        harness.gate.state = "shut"
        assert len(await publish_range(harness, "a", range(100))) == 100


async def test_spool_reports_full_disk_once(
    open_harness: OpenHarness, disk: SmallDisk, logs: Path, log: FilteringBoundLogger
) -> None:
    async with open_harness(disk.path / "spool", state="shut", timeout=30.0) as harness:
        await asyncio.gather(*(publish_range(harness, key, range(200)) for key in "abcdefgh"))
        assert harness.metric("rejected_total") > 0
    log.error("flushes the lines before it")
    (line,) = [line for line in (logs / "app.log").read_text().splitlines() if "SPOOL_UNAVAILABLE" in line]
    assert "reason=ENOSPC" in line


async def test_spool_treats_record_cut_by_full_disk_as_no_damage(
    open_harness: OpenHarness, read_broker: ReadBroker, disk: SmallDisk
) -> None:
    async with open_harness(disk.path / "spool", state="shut", timeout=30.0) as harness:
        accepted = await asyncio.gather(*(publish_range(harness, key, range(200)) for key in "abcdefgh"))
    async with open_harness(disk.path / "spool") as harness:
        await harness.wait_until_drained()
        assert harness.metric("corrupt_total") == 0
    assert await read_broker() == dict(zip("abcdefgh", accepted, strict=True))


async def test_spool_rejects_events_on_read_only_disk_until_it_is_writable(
    open_harness: OpenHarness, read_broker: ReadBroker, disk: SmallDisk
) -> None:
    disk.remount("ro")
    async with open_harness(disk.path / "spool", state="shut", timeout=30.0) as harness:
        await harness.publisher.check()  # nothing has failed yet: Kafka may be available
        assert await publish_range(harness, "a", range(5)) == []
        with pytest.raises(BrokerUnavailable):
            await harness.publisher.check()
        disk.remount("rw")
        await harness.publisher.check()
        accepted = await publish_range(harness, "a", range(5, 10))
        assert len(accepted) == 5
        harness.gate.open()
        await harness.wait_until_drained()
        assert await read_broker() == {"a": accepted}


async def test_publisher_uses_kafka_when_spool_directory_cannot_be_created(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    async with open_harness(tmp_path / "file" / "spool") as harness:
        assert not await harness.publish("a", "1")
        harness.gate.state = "shut"
        with pytest.raises(BrokerUnavailable):
            await harness.publish("a", "2")
        harness.gate.open()
        await harness.wait_until_drained()
        assert not await harness.publish("a", "3")
    assert await read_broker() == {"a": ["1", "3"]}
