"""A disk that is full or cannot be written costs a 503, never the process; when it is well again, so is the spool."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from safevideo_common.errors import BrokerUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.faults.small_disk import CannotMount, SmallDisk, small_disk
from safevideo_testkit.harness.spool import Logged, Opened, SpoolHarness


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 1 MiB."""
    try:
        with small_disk(tmp_path / "disk", "1m") as disk:
            yield disk
    except CannotMount as refusal:
        pytest.skip(str(refusal))


async def published(bench: SpoolHarness, key: str, numbers: range) -> list[str]:
    """The values that were taken; the others were refused in the way that the contract has for it."""
    taken = []
    for number in numbers:
        try:
            await bench.publish(key, f"{number:0900}")
        except BrokerUnavailable as refusal:
            assert refusal.retry_after  # noqa: PT017 - most are taken
        else:
            taken.append(f"{number:0900}")
    return taken


async def test_a_full_disk_refuses_keeps_what_it_has_and_takes_events_again(
    opened: Opened, logged: Logged, disk: SmallDisk
) -> None:
    async with opened(disk.path / "spool", state="shut") as bench:
        taken = await published(bench, "a", range(1500))
        assert 800 < len(taken) < 1200
        disk.remount("size=2m")
        taken += await published(bench, "a", range(2000, 2050))
        assert taken[-50:] == [f"{number:0900}" for number in range(2000, 2050)]
        bench.gate.open()
        await bench.emptied()
        assert await logged() == {"a": taken}


async def test_a_full_disk_is_emptied_by_a_log_that_is_back(opened: Opened, logged: Logged, disk: SmallDisk) -> None:
    async with opened(disk.path / "spool", state="shut") as bench:
        taken = await published(bench, "a", range(1500))
        bench.gate.open()
        await bench.emptied()
        assert await logged() == {"a": taken}
        bench.gate.state = "shut"
        assert len(await published(bench, "a", range(100))) == 100


async def test_a_full_disk_is_reported_once(
    opened: Opened, disk: SmallDisk, logs: Path, log: FilteringBoundLogger
) -> None:
    async with opened(disk.path / "spool", state="shut") as bench:
        await asyncio.gather(*(published(bench, key, range(200)) for key in "abcdefgh"))
        assert bench.metric("refused_total") > 0
    log.error("flushes the lines before it")
    (line,) = [line for line in (logs / "app.log").read_text().splitlines() if "SPOOL_UNAVAILABLE" in line]
    assert "reason=ENOSPC" in line


async def test_what_a_full_disk_cut_short_is_no_damage_to_the_next_start(
    opened: Opened, logged: Logged, disk: SmallDisk
) -> None:
    async with opened(disk.path / "spool", state="shut") as bench:
        taken = await asyncio.gather(*(published(bench, key, range(200)) for key in "abcdefgh"))
    async with opened(disk.path / "spool") as bench:
        await bench.emptied()
        assert bench.metric("set_aside_total") == 0
    assert await logged() == dict(zip("abcdefgh", taken, strict=True))


async def test_a_disk_that_turns_read_only_refuses_and_is_used_again_when_it_is_mended(
    opened: Opened, logged: Logged, disk: SmallDisk
) -> None:
    disk.remount("ro")
    async with opened(disk.path / "spool", state="shut") as bench:
        await bench.keeping.check()  # nothing has failed yet: the log may be there
        assert await published(bench, "a", range(5)) == []
        with pytest.raises(BrokerUnavailable):
            await bench.keeping.check()
        disk.remount("rw")
        await bench.keeping.check()
        taken = await published(bench, "a", range(5, 10))
        assert len(taken) == 5
        bench.gate.open()
        await bench.emptied()
        assert await logged() == {"a": taken}


async def test_a_folder_that_cannot_be_made_refuses_and_the_log_is_used_all_the_same(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    async with opened(tmp_path / "file" / "spool") as bench:
        assert not await bench.publish("a", "1")
        bench.gate.state = "shut"
        with pytest.raises(BrokerUnavailable):
            await bench.publish("a", "2")
        bench.gate.open()
        await bench.emptied()
        assert not await bench.publish("a", "3")
    assert await logged() == {"a": ["1", "3"]}
