"""What is in the spool outlives its process, however that ends."""

import asyncio
import signal
import sys
from pathlib import Path
from random import Random

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.harness.spool import Logged, Opened
from webhook_ingest.spool.corrupt import CORRUPT, MAX_FILES
from webhook_ingest.spool.store import SegmentStore

CHILD = Path(__file__).parent / "keeping_program.py"


async def test_what_is_left_at_the_end_is_delivered_by_the_next_start(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    async with opened(tmp_path / "spool", state="shut") as bench:
        for number in range(20):
            await bench.publish("a", str(number))
    async with opened(tmp_path / "spool") as bench:
        assert bench.metric("adopted_total") == 20
        await bench.publish("a", "20")
        await bench.emptied()
    assert await logged() == {"a": [str(number) for number in range(21)]}
    assert not list((tmp_path / "spool").iterdir())


async def test_at_the_end_it_is_emptied_as_far_as_time_allows(opened: Opened, logged: Logged, tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", state="shut", drain=10.0) as bench:
        for number in range(20):
            await bench.publish("a", str(number))
        bench.gate.open()
    assert await logged() == {"a": [str(number) for number in range(20)]}


async def test_the_end_does_not_wait_for_a_log_that_stays_away(opened: Opened, tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), opened(tmp_path / "spool", state="hanging", drain=0.3) as bench:
        await bench.publish("a", "1")


async def test_delivered_events_are_not_delivered_again_by_the_next_start(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    async with opened(tmp_path / "spool", state="shut") as bench:
        for number in range(200):
            await bench.publish("a", str(number))
        bench.gate.room = 77
        bench.gate.state = "open"
        await bench.until(lambda: bench.gate.state == "shut" and bench.spool.events < 200 - 32)
        delivered = int(bench.metric("drained_total"))
    async with opened(tmp_path / "spool") as bench:
        assert bench.metric("adopted_total") == 200 - delivered
        await bench.emptied()
    found = (await logged())["a"]
    assert list(dict.fromkeys(found)) == [str(number) for number in range(200)]
    assert delivered >= 32
    assert all(found.count(str(number)) == 1 for number in range(delivered))


async def test_the_spool_of_a_process_that_lives_is_left_alone(opened: Opened, logged: Logged, tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "spool", state="shut") as first,
        opened(tmp_path / "spool") as second,
    ):
        await first.publish("a", "1")
        await second.spool.adopt()
        assert second.keeping.depth().events == 0
        assert await logged() == {}


async def test_what_a_dead_process_left_is_adopted_by_one_that_lives(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    async with opened(tmp_path / "spool") as living:
        async with opened(tmp_path / "spool", state="shut") as dying:
            await dying.publish("a", "1")
        await living.spool.adopt()
        await living.emptied()
        assert await logged() == {"a": ["1"]}


async def test_damage_is_set_aside_and_reported_and_the_rest_is_delivered(
    opened: Opened, logged: Logged, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    async with opened(tmp_path / "spool", state="shut") as bench:
        for number in range(9):
            await bench.publish("a", f"value-{number}")
    (segment,) = (tmp_path / "spool").glob("*/*.spool")
    segment.write_bytes(segment.read_bytes().replace(b"value-4", b"VALUE-4") + b"\xf5sp")
    async with opened(tmp_path / "spool") as bench:
        await bench.emptied()
        await bench.until(lambda: not bench.spool.keys)
        assert bench.metric("set_aside_total") == 1
    assert await logged() == {"a": [f"value-{number}" for number in range(9) if number != 4]}
    log.error("flushes the lines before it")
    text = (logs / "app.log").read_text()
    assert (text.count("SPOOL_CORRUPT"), text.count("SPOOL_TORN")) == (1, 1)
    assert "VALUE-4" not in text


async def test_too_much_that_was_set_aside_is_removed_and_reported(
    opened: Opened, tmp_path: Path, logs: Path, log: FilteringBoundLogger
) -> None:
    (tmp_path / "spool" / CORRUPT).mkdir(parents=True)
    for number in range(MAX_FILES + 2):
        (tmp_path / "spool" / CORRUPT / str(number)).write_bytes(b"damage")
    async with opened(tmp_path / "spool") as bench:
        assert bench.metric("set_aside_dropped_total") == 2
    assert len(list((tmp_path / "spool" / CORRUPT).iterdir())) == MAX_FILES
    log.error("flushes the lines before it")
    (line,) = [line for line in (logs / "app.log").read_text().splitlines() if "SPOOL_SET_ASIDE_DROPPED" in line]
    assert line.endswith("files=2 bytes=12")


async def test_kill_9_loses_nothing_that_was_acknowledged(opened: Opened, logged: Logged, tmp_path: Path) -> None:
    random, acknowledged = Random(4), list[str]()
    for life in range(5):
        acknowledged += await _killed_after(random.randint(1, 3000), tmp_path / "spool", life)
    async with opened(tmp_path / "spool", deadline=20.0) as bench:
        await bench.emptied()
    found = await logged()
    wanted = {f"key-{key}": [each for each in acknowledged if each.endswith(f"-{key}")] for key in range(10)}
    assert {key: [each for each in found[key] if each in set(acknowledged)] for key in found} == wanted
    assert not list((tmp_path / "spool").glob("*/*.spool"))


async def _killed_after(events: int, root: Path, life: int) -> list[str]:
    """Let a process keep events in `root`, kill it in the middle, and return what it said was safe."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, CHILD, str(root), str(life), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    said = [await child.stdout.readline() for _ in range(events)]
    child.send_signal(signal.SIGKILL)
    rest, _ = await child.communicate()
    whole = rest[: rest.rfind(b"\n") + 1].splitlines()
    return [line.decode().strip() for line in [*said, *whole]]


def test_what_a_killed_process_had_begun_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "1-0123456789ab").mkdir()
    (tmp_path / "2-0123456789ab").mkdir()
    (tmp_path / "2-0123456789ab" / f"{1:020d}.spool").touch()
    files = SegmentStore(tmp_path)
    files.claim()
    while files.admit() is not None:
        pass
    assert files.take(10) == ([], [])
    files.close()
    assert not list(tmp_path.iterdir())
