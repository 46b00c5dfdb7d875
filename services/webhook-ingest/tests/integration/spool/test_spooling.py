"""While Kafka is unavailable, events are durable on disk at once; when it is back, it gets all of them in order."""

import asyncio
from pathlib import Path

import pytest

from safevideo_common.broker.types import MAX_VALUE_BYTES, Message
from safevideo_common.errors import BrokerUnavailable, PayloadTooLarge
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.harness.spool import OpenHarness, ReadBroker, SpoolHarness
from webhook_ingest.publishing.spool_drainer import PROBE_WINDOW


def lines(logs: Path, text: str) -> list[str]:
    written = (logs / "app.log").read_text() if (logs / "app.log").exists() else ""
    return [line for line in written.splitlines() if text in line]


async def test_publisher_leaves_spool_empty_while_kafka_is_available(
    harness: SpoolHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    assert not await harness.publish("a", "1")
    assert await read_broker() == {"a": ["1"]}
    assert not list((tmp_path / "spool").iterdir())


async def test_publisher_spools_rejected_events_and_drainer_delivers_them_after_recovery(
    harness: SpoolHarness, read_broker: ReadBroker
) -> None:
    harness.gate.state = "shut"
    for number in range(100):
        assert await harness.publish(f"key-{number % 7}", str(number))
    assert await read_broker() == {}
    harness.gate.open()
    await harness.wait_until_drained()
    assert await read_broker() == {f"key-{key}": [str(number) for number in range(key, 100, 7)] for key in range(7)}
    assert harness.metric("written_total") == harness.metric("drained_total") == 100
    await harness.wait_until(lambda: harness.metric("bytes") == 0)  # the files go after the events


async def test_publisher_waits_for_hanging_kafka_only_once(open_harness: OpenHarness, tmp_path: Path) -> None:
    async with open_harness(tmp_path / "spool", timeout=0.2, state="hanging") as harness:
        assert await harness.publish("a", "1")
        assert asyncio.current_task() in harness.watched.callers
        harness.watched.callers.clear()
        for number in range(20):
            assert await harness.publish("b", str(number))
        assert asyncio.current_task() not in harness.watched.callers


async def test_publisher_spools_all_in_flight_events_in_order_on_timeout(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", timeout=2.0, state="hanging") as harness:
        first = asyncio.create_task(harness.publish("a", "0"))
        await asyncio.sleep(0.8)  # the test is about time: the timeout of the others is later
        others = [asyncio.create_task(harness.publish("a", str(number))) for number in range(1, 50)]
        assert await first
        assert not harness.watched.waiting.intersection(others)
        assert all(await asyncio.gather(*others))
        harness.gate.open()
        await harness.wait_until_drained()
    assert await read_broker() == {"a": [str(number) for number in range(50)]}


async def test_publisher_spools_only_keys_with_spooled_events_after_recovery(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", timeout=20.0, state="shut") as harness:
        for number in range(PROBE_WINDOW + 8):
            await harness.publish("a", str(number))
        await harness.wait_until(lambda: harness.spool.prefetched >= PROBE_WINDOW)
        harness.gate.answers_probes = False  # so only an acknowledgement says that Kafka is back
        harness.gate.remaining, harness.gate.next_state, harness.gate.exempt_key = PROBE_WINDOW, "hanging", b"b"
        harness.gate.state = "open"
        await harness.wait_until(lambda: not harness.publisher.is_kafka_unavailable)
        assert harness.spool.events == 8
        assert await harness.publish("a", "behind them")
        assert not await harness.publish("b", "past them")
        harness.gate.open()
        await harness.wait_until_drained()
        assert not await harness.publish("a", "after them")
    numbers = [str(number) for number in range(PROBE_WINDOW + 8)]
    assert await read_broker() == {"a": [*numbers, "behind them", "after them"], "b": ["past them"]}


async def test_publisher_keeps_order_of_keys_while_spool_is_drained(
    open_harness: OpenHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    """Kafka fails and recovers several times. Each sender sends its next event after the last one was acknowledged."""
    async with open_harness(tmp_path / "spool", timeout=1.0) as harness:
        sent = await _sent_while_kafka_comes_and_goes(harness)
    assert {key: list(dict.fromkeys(values)) for key, values in (await read_broker()).items()} == sent


async def _sent_while_kafka_comes_and_goes(harness: SpoolHarness) -> dict[str, list[str]]:
    stop = asyncio.Event()

    async def send(key: str) -> list[str]:
        sent: list[str] = []
        while not stop.is_set():
            sent.append(str(len(sent)))
            await harness.publish(key, sent[-1])
        return sent

    senders = {key: asyncio.create_task(send(key)) for key in ("a", "b", "c", "d", "e")}
    for state in ("shut", "open", "hanging", "open", "shut", "hanging", "open"):
        harness.gate.state = state
        await harness.wait_until(lambda: harness.publisher.is_kafka_unavailable == (harness.gate.state != "open"))
    stop.set()
    sent = {key: await sender for key, sender in senders.items()}
    await harness.wait_until_drained()
    return sent


async def test_publisher_logs_begin_and_end_of_spooling_once(
    harness: SpoolHarness, logs: Path, log: FilteringBoundLogger
) -> None:
    for _ in range(2):
        harness.gate.state = "shut"
        await asyncio.gather(*(harness.publish("a", str(number)) for number in range(50)))
        harness.gate.open()
        await harness.wait_until_drained()
    log.error("flushes the lines before it")
    written = lines(logs, " SPOOLING ")
    messages = ["unavailable, spooling", "Spool drained, publishing to Kafka again"] * 2
    assert len(written) == 4
    assert all(message in line for message, line in zip(messages, written, strict=True))


async def test_spool_metrics_show_depth_and_age(harness: SpoolHarness) -> None:
    harness.gate.state = "shut"
    await harness.publish("a", "1")
    await harness.publish("b", "2")
    await harness.wait_until(lambda: harness.metric("oldest_seconds") > 0)
    assert (harness.metric("events"), harness.metric("kafka_unavailable")) == (2, 1)
    assert harness.metric("bytes") > 0


async def test_spool_rejects_events_when_full_and_accepts_them_after_drain(
    open_harness: OpenHarness, tmp_path: Path
) -> None:
    async with open_harness(tmp_path / "spool", max_bytes=20_000, state="shut") as harness:
        rejections = 0
        for number in range(50):
            try:
                await harness.publish("a", f"{number:0900}")
            except BrokerUnavailable as error:
                rejections += bool(error.retry_after)
        assert 25 < rejections < 35
        assert harness.metric("bytes") <= 20_000
        assert harness.metric("rejected_total") == rejections
        harness.gate.open()
        await harness.wait_until_drained()
        harness.gate.state = "shut"
        assert await harness.publish("a", "1")


async def test_publisher_rejects_too_large_event_while_spooling(harness: SpoolHarness) -> None:
    harness.gate.state = "shut"
    await harness.publish("a", "1")
    with pytest.raises(PayloadTooLarge):
        await harness.publisher.publish(Message("events", b"a", b"x" * (MAX_VALUE_BYTES + 1)))


async def test_drainer_moves_undeliverable_event_to_corrupt_and_delivers_the_rest(
    harness: SpoolHarness, read_broker: ReadBroker, tmp_path: Path
) -> None:
    harness.gate.state = "shut"
    await harness.publish("a", "1")
    poison = Message("events", b"a", b"x" * (MAX_VALUE_BYTES + 1))
    await harness.spool.append(poison)  # as if the limit had been higher before
    await harness.publish("a", "2")
    harness.gate.open()
    await harness.wait_until_drained()
    assert await read_broker() == {"a": ["1", "2"]}
    await harness.wait_until((tmp_path / "spool" / "corrupt").exists)
    assert harness.metric("corrupt_total") == 1


async def test_drainer_keeps_and_reports_events_on_unexpected_error(
    harness: SpoolHarness, read_broker: ReadBroker, logs: Path, log: FilteringBoundLogger
) -> None:
    harness.gate.state = "shut"
    for number in range(50):
        await harness.publish("a", str(number))
    harness.gate.state = "broken"
    log.info("flushes the lines before it")
    await harness.wait_until(lambda: bool(lines(logs, "SPOOL_DELIVERY_FAILED")))
    harness.gate.open()
    await harness.wait_until_drained()
    assert await read_broker() == {"a": [str(number) for number in range(50)]}
    assert "a fault of ours" not in (logs / "app.log").read_text()


async def test_publisher_stays_available_after_cancelled_publish(open_harness: OpenHarness, tmp_path: Path) -> None:
    async with open_harness(tmp_path / "spool", timeout=1.0, state="hanging") as harness:
        waiting = asyncio.create_task(harness.publish("a", "1"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await harness.publish("a", "2")


async def test_drainer_probes_kafka_while_spool_is_empty(open_harness: OpenHarness, tmp_path: Path) -> None:
    async with open_harness(tmp_path / "spool", max_bytes=1, state="shut") as harness:
        with pytest.raises(BrokerUnavailable):
            await harness.publish("a", "1")
        harness.gate.open()
        await harness.wait_until_drained()
        assert not await harness.publish("a", "1")
