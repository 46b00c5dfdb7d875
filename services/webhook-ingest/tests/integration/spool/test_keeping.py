"""While the log is away events are safe on disk and answered at once; when it is back it gets all of them, in order."""

import asyncio
import time
from pathlib import Path

import pytest

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.spool import Logged, Opened, SpoolHarness
from webhook_ingest.publishing.spool_drainer import PROBE_WINDOW


def lines(logs: Path, wanted: str) -> list[str]:
    written = (logs / "app.log").read_text() if (logs / "app.log").exists() else ""
    return [line for line in written.splitlines() if wanted in line]


async def test_while_the_log_is_there_nothing_goes_to_the_spool(
    bench: SpoolHarness, logged: Logged, tmp_path: Path
) -> None:
    assert not await bench.publish("a", "1")
    assert await logged() == {"a": ["1"]}
    assert not list((tmp_path / "spool").iterdir())


async def test_what_the_log_refuses_is_kept_and_delivered_when_it_is_back(bench: SpoolHarness, logged: Logged) -> None:
    bench.gate.state = "shut"
    for number in range(100):
        assert await bench.publish(f"key-{number % 7}", str(number))
    assert await logged() == {}
    bench.gate.open()
    await bench.emptied()
    assert await logged() == {f"key-{key}": [str(number) for number in range(key, 100, 7)] for key in range(7)}
    assert bench.metric("taken_total") == bench.metric("drained_total") == 100
    await bench.until(lambda: bench.metric("bytes") == 0)  # the file goes after its last event


async def test_only_the_first_waits_for_the_deadline_of_a_log_that_hangs(opened: Opened, tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", deadline=0.5, state="hanging") as bench:
        began = time.monotonic()
        await bench.publish("a", "1")
        assert time.monotonic() - began >= 0.49
        bench.watched.callers.clear()
        for number in range(20):
            assert await bench.publish("b", str(number))
        assert asyncio.current_task() not in bench.watched.callers


async def test_all_that_wait_when_the_deadline_passes_are_kept_in_their_order(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    async with opened(tmp_path / "spool", deadline=2.0, state="hanging") as bench:
        first = asyncio.create_task(bench.publish("a", "0"))
        await asyncio.sleep(0.8)  # time is what this is about: the deadline of the others is later
        others = [asyncio.create_task(bench.publish("a", str(number))) for number in range(1, 50)]
        await bench.until(lambda: bench.watched.waiting >= {*others})
        assert await first
        assert not bench.watched.waiting & {*others}
        assert all(await asyncio.gather(*others))
        bench.gate.open()
        await bench.emptied()
    assert await logged() == {"a": [str(number) for number in range(50)]}


async def test_a_key_with_events_in_the_spool_queues_behind_them_and_others_do_not(
    opened: Opened, logged: Logged, tmp_path: Path
) -> None:
    async with opened(tmp_path / "spool", deadline=20.0, state="shut") as bench:
        for number in range(PROBE_WINDOW + 8):
            await bench.publish("a", str(number))
        await bench.until(lambda: len(bench.spool.held) >= PROBE_WINDOW)
        bench.gate.room, bench.gate.afterwards, bench.gate.always_passes = PROBE_WINDOW, "hanging", b"b"
        bench.gate.state = "open"
        await bench.until(lambda: not bench.keeping.depth().is_away)
        assert bench.keeping.depth().events == 8
        assert await bench.publish("a", "behind them")
        assert not await bench.publish("b", "past them")
        bench.gate.open()
        await bench.emptied()
        assert not await bench.publish("a", "after them")
    numbers = [str(number) for number in range(PROBE_WINDOW + 8)]
    assert await logged() == {"a": [*numbers, "behind them", "after them"], "b": ["past them"]}


async def test_events_that_come_while_the_spool_is_emptied_keep_the_order_of_their_keys(
    bench: SpoolHarness, logged: Logged
) -> None:
    """Senders go on all the time, the log comes and goes, and each sends the next when the last one is answered."""
    stop = asyncio.Event()

    async def send(key: str) -> list[str]:
        sent: list[str] = []
        while not stop.is_set():
            sent.append(str(len(sent)))
            await bench.publish(key, sent[-1])
        return sent

    senders = {key: asyncio.create_task(send(key)) for key in ("a", "b", "c", "d", "e")}
    for state in ("shut", "open", "hanging", "open", "shut", "hanging", "open"):
        bench.gate.state = state
        await bench.until(lambda: bench.keeping.depth().is_away == (bench.gate.state != "open"))
    stop.set()
    sent = {key: await sender for key, sender in senders.items()}
    await bench.emptied()
    assert {key: list(dict.fromkeys(values)) for key, values in (await logged()).items()} == sent


async def test_one_line_says_that_spooling_begins_and_one_that_it_ends(
    bench: SpoolHarness, logs: Path, log: FilteringBoundLogger
) -> None:
    for _ in range(2):
        bench.gate.state = "shut"
        await asyncio.gather(*(bench.publish("a", str(number)) for number in range(50)))
        bench.gate.open()
        await bench.emptied()
    log.error("flushes the lines before it")
    assert [line.split()[6] for line in lines(logs, "SPOOLING")] == ["begins,", "ends,"] * 2


async def test_depth_and_age_can_be_seen(bench: SpoolHarness) -> None:
    bench.gate.state = "shut"
    await bench.publish("a", "1")
    await bench.publish("b", "2")
    await bench.until(lambda: bench.metric("oldest_seconds") > 0)
    assert (bench.metric("events"), bench.metric("is_away")) == (2, 1)
    assert bench.metric("bytes") > 0


async def test_a_full_spool_refuses_and_takes_events_again_when_there_is_room(opened: Opened, tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", max_bytes=20_000, state="shut") as bench:
        refusals = 0
        for number in range(50):
            try:
                await bench.publish("a", f"{number:0900}")
            except BrokerUnavailable as refusal:
                refusals += bool(refusal.retry_after)
        assert 25 < refusals < 35
        assert bench.metric("bytes") <= 20_000
        assert bench.metric("refused_total") == refusals
        bench.gate.open()
        await bench.emptied()
        bench.gate.state = "shut"
        assert await bench.publish("a", "1")


async def test_a_body_too_large_for_the_log_is_not_kept(bench: SpoolHarness) -> None:
    bench.gate.state = "shut"
    await bench.publish("a", "1")
    with pytest.raises(PayloadTooLarge):
        await bench.keeping.publish(Message("events", b"a", b"x" * (MAX_VALUE_BYTES + 1)))


async def test_an_event_that_the_log_will_never_take_is_set_aside_and_the_others_go_on(
    bench: SpoolHarness, logged: Logged, tmp_path: Path
) -> None:
    bench.gate.state = "shut"
    await bench.publish("a", "1")
    poison = Message("events", b"a", b"x" * (MAX_VALUE_BYTES + 1))
    await bench.spool.keep(poison)  # as if the limit had been higher yesterday
    await bench.publish("a", "2")
    bench.gate.open()
    await bench.emptied()
    assert await logged() == {"a": ["1", "2"]}
    await bench.until((tmp_path / "spool" / "corrupt").exists)
    assert bench.metric("set_aside_total") == 1


async def test_a_fault_of_ours_keeps_the_events_and_is_reported(
    bench: SpoolHarness, logged: Logged, logs: Path, log: FilteringBoundLogger
) -> None:
    bench.gate.state = "shut"
    for number in range(50):
        await bench.publish("a", str(number))
    bench.gate.state = "broken"
    log.info("flushes the lines before it")
    await bench.until(lambda: bool(lines(logs, "SPOOL_DELIVERY_FAILED")))
    bench.gate.open()
    await bench.emptied()
    assert await logged() == {"a": [str(number) for number in range(50)]}
    assert "a fault of ours" not in (logs / "app.log").read_text()


async def test_a_request_that_is_cancelled_while_it_waits_is_cancelled_and_nothing_else(bench: SpoolHarness) -> None:
    bench.gate.state = "hanging"
    waiting = asyncio.create_task(bench.publish("a", "1"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await bench.publish("a", "2")


async def test_when_nothing_is_in_the_spool_the_log_is_asked_whether_it_is_back(opened: Opened, tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", max_bytes=1, state="shut") as bench:
        with pytest.raises(BrokerUnavailable):
            await bench.publish("a", "1")
        bench.gate.open()
        await bench.emptied()
        assert not await bench.publish("a", "1")
