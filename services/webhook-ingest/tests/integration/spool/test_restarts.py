"""Spooled events survive the end of their process, in whichever way it ends."""

import asyncio
import signal
import sys
from pathlib import Path
from random import Random

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.spool import OpenHarness, ReadBroker
from webhook_ingest.spool.corrupt import CORRUPT, MAX_FILES
from webhook_ingest.spool.store import SegmentStore

CHILD = Path(__file__).parent / "spool_process.py"


async def test_spool_delivers_events_of_previous_process(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", state="shut") as harness:
        for number in range(20):
            await harness.publish("a", str(number))
    async with open_harness(tmp_path / "spool") as harness:
        assert harness.metric("recovered_total") == 20
        await harness.publish("a", "20")
        await harness.wait_until_drained()
    assert await read_broker() == {"a": [str(number) for number in range(21)]}
    assert not list((tmp_path / "spool").iterdir())


async def test_drainer_empties_spool_at_the_end(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", state="shut", drain=10.0) as harness:
        for number in range(20):
            await harness.publish("a", str(number))
        harness.gate.open()
    assert await read_broker() == {"a": [str(number) for number in range(20)]}


async def test_drainer_ends_in_time_while_kafka_is_unavailable(open_harness: OpenHarness, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(20),
        open_harness(tmp_path / "spool", timeout=1.0, state="hanging", drain=0.3) as harness,
    ):
        await harness.publish("a", "1")


async def test_spool_skips_delivered_events_after_restart(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", state="shut") as harness:
        for number in range(200):
            await harness.publish("a", str(number))
        harness.gate.remaining = 77
        harness.gate.state = "open"
        await harness.wait_until(lambda: harness.gate.state == "shut" and harness.spool.events < 200 - 32)
        delivered = int(harness.metric("drained_total"))
    async with open_harness(tmp_path / "spool") as harness:
        assert harness.metric("recovered_total") == 200 - delivered
        await harness.wait_until_drained()
    found = (await read_broker())["a"]
    assert list(dict.fromkeys(found)) == [str(number) for number in range(200)]
    assert delivered >= 32
    assert all(found.count(str(number)) == 1 for number in range(delivered))


async def test_spool_leaves_live_process_alone(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with (
        open_harness(tmp_path / "spool", state="shut") as first,
        open_harness(tmp_path / "spool") as second,
    ):
        await first.publish("a", "1")
        await second.spool.adopt()
        assert second.spool.events == 0
        assert await read_broker() == {}


async def test_spool_adopts_events_of_dead_process(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool") as living:
        async with open_harness(tmp_path / "spool", state="shut") as dying:
            await dying.publish("a", "1")
        await living.spool.adopt()
        await living.wait_until_drained()
        assert await read_broker() == {"a": ["1"]}


async def test_spool_reports_corrupt_bytes_and_delivers_the_rest(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    async with open_harness(tmp_path / "spool", state="shut") as harness:
        for number in range(9):
            await harness.publish("a", f"value-{number}")
    (segment,) = (tmp_path / "spool").glob("*/*.spool")
    segment.write_bytes(segment.read_bytes().replace(b"value-4", b"VALUE-4") + b"\xf5sp")
    async with open_harness(tmp_path / "spool") as harness:
        await harness.wait_until_drained()
        await harness.wait_until(lambda: not harness.spool.keys)
        assert harness.metric("corrupt_total") == 1
    assert await read_broker() == {"a": [f"value-{number}" for number in range(9) if number != 4]}
    log.error("flushes the lines before it")
    text = (logs / "app.log").read_text()
    assert (text.count("SPOOL_CORRUPT"), text.count("SPOOL_TORN")) == (1, 1)
    assert "VALUE-4" not in text


async def test_spool_evicts_and_reports_oldest_corrupt_files(
    open_harness: OpenHarness, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    (tmp_path / "spool" / CORRUPT).mkdir(parents=True)
    for number in range(MAX_FILES + 2):
        (tmp_path / "spool" / CORRUPT / str(number)).write_bytes(b"damage")
    async with open_harness(tmp_path / "spool") as harness:
        assert harness.metric("corrupt_evicted_total") == 2
    assert len(list((tmp_path / "spool" / CORRUPT).iterdir())) == MAX_FILES
    log.error("flushes the lines before it")
    (line,) = [line for line in (logs / "app.log").read_text().splitlines() if "SPOOL_CORRUPT_DELETED" in line]
    assert line.endswith("files=2 bytes=12")


async def test_spool_keeps_all_acknowledged_events_on_kill_9(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    random, acknowledged = Random(4), list[str]()
    for life in range(5):
        acknowledged += await _killed_after(random.randint(1, 3000), tmp_path / "spool", life)
    async with open_harness(tmp_path / "spool", timeout=20.0) as harness:
        await harness.wait_until_drained()
    found = await read_broker()
    expected = {f"key-{key}": [each for each in acknowledged if each.endswith(f"-{key}")] for key in range(10)}
    assert {key: [each for each in found[key] if each in set(acknowledged)] for key in found} == expected
    assert not list((tmp_path / "spool").glob("*/*.spool"))


async def _killed_after(events: int, root: Path, life: int) -> list[str]:
    """Let a process spool events in `root`, kill it meanwhile, and return the values that it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, str(root), str(life), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(events)]
    child.send_signal(signal.SIGKILL)
    rest, _ = await child.communicate()
    complete = rest[: rest.rfind(b"\n") + 1].splitlines()
    return [line.decode().strip() for line in [*lines, *complete]]


def test_store_accepts_directories_that_a_killed_process_left_unfinished(tmp_path: Path) -> None:
    (tmp_path / "1-0123456789ab").mkdir()
    (tmp_path / "2-0123456789ab").mkdir()
    (tmp_path / "2-0123456789ab" / f"{1:020d}.spool").touch()
    store = SegmentStore(tmp_path)
    store.lock()
    while store.adopt() is not None:
        pass
    assert store.read_batch(10) == ([], [])
    store.close()
    assert not list(tmp_path.iterdir())
