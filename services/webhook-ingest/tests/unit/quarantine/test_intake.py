"""The bounded way into the quarantine."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from webhook_ingest.quarantine.capture import Rejected
from webhook_ingest.quarantine.metrics import QuarantineMetrics
from webhook_ingest.quarantine.queue import BATCH_BYTES, BATCH_ROWS, QuarantineQueue

MIB = 1 << 20


class Bench:
    def __init__(self, per_minute: int) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.intake = QuarantineQueue(per_minute, QuarantineMetrics(self.registry), clock=lambda: self.now)

    def offer(self, remote: str, number: int = 1, size: int = 10) -> None:
        for _ in range(number):
            self.intake.offer(rejected(remote, size))

    def taken(self) -> list[str]:
        found: list[str] = []
        while batch := self.intake.take():
            found += [each.remote for each in batch]
        return found

    def counted(self, outcome: str) -> float:
        return self.registry.get_sample_value("safevideo_quarantined_webhooks_total", {"outcome": outcome}) or 0


def rejected(remote: str, size: int) -> Rejected:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    return Rejected(at, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram", {}, b"x" * size, remote, "r")


async def test_an_address_gets_in_so_often_a_minute_and_others_are_not_hurt() -> None:
    bench = Bench(per_minute=60)
    bench.offer("flood", 100)
    bench.offer("honest", 5)
    assert bench.counted("over_address_limit") == 40
    assert bench.taken() == ["flood"] * 60 + ["honest"] * 5
    bench.now += 2.0
    bench.offer("flood", 100)
    assert bench.taken() == ["flood"] * 2


async def test_large_bodies_of_one_address_leave_room_for_others() -> None:
    bench = Bench(per_minute=1000)
    bench.offer("flood", 40, size=MIB)
    bench.offer("honest")
    assert bench.counted("over_address_limit") == 32
    assert bench.taken() == ["flood"] * 8 + ["honest"]


async def test_a_full_queue_drops_what_comes_and_keeps_what_waits() -> None:
    bench = Bench(per_minute=10)
    for number in range(5):
        bench.offer(f"flood-{number}", 10)
    assert bench.counted("queue_full") == 10
    assert len(bench.taken()) == 40
    bench.offer("later")
    assert bench.taken() == ["later"]


async def test_bytes_fill_the_queue_as_rows_do_and_are_given_back() -> None:
    bench = Bench(per_minute=1000)
    for _ in range(2):
        for number in range(5):
            bench.offer(f"flood-{number}", 8, size=MIB)
        assert len(bench.taken()) == 32
        bench.now += 3600
    assert bench.counted("queue_full") == 16


async def test_a_batch_has_bounds_and_a_large_one_is_alone() -> None:
    bench = Bench(per_minute=1000)
    bench.offer("a", BATCH_ROWS + 1, size=1)
    assert [len(bench.intake.take()) for _ in range(2)] == [BATCH_ROWS, 1]
    bench.offer("b", 5, size=MIB)
    assert [len(bench.intake.take()) for _ in range(2)] == [BATCH_BYTES // MIB, 1]


async def test_waiting_ends_with_the_first_offer_and_after_its_time() -> None:
    bench = Bench(per_minute=10)
    await bench.intake.wait(0.01)
    bench.offer("a")
    await bench.intake.wait(60)
    assert bench.taken() == ["a"]


@pytest.mark.parametrize("addresses", [20_000])
async def test_very_many_addresses_are_forgotten_again(addresses: int) -> None:
    bench = Bench(per_minute=1)
    for number in range(addresses):
        bench.offer(f"address-{number}")
        bench.intake.take()
    bench.offer("address-0")
    assert bench.taken() == ["address-0"]
