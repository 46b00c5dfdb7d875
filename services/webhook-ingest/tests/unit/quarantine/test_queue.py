"""The bounded queue of the quarantine."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from webhook_ingest.quarantine import QuarantineMetrics, QuarantineQueue, RejectedWebhook
from webhook_ingest.quarantine.queue import BATCH_BYTES, BATCH_ROWS

MIB = 1 << 20


class Harness:
    def __init__(self, per_minute: int) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.queue = QuarantineQueue(per_minute, QuarantineMetrics(self.registry), clock=lambda: self.now)

    def offer(self, remote: str, number: int = 1, size: int = 10) -> None:
        for _ in range(number):
            self.queue.offer(rejected(remote, size))

    def drain(self) -> list[str]:
        found: list[str] = []
        while batch := self.queue.next_batch():
            found += [each.remote for each in batch]
        return found

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("safevideo_quarantined_webhooks_total", {"outcome": outcome}) or 0


def rejected(remote: str, size: int) -> RejectedWebhook:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    return RejectedWebhook(
        at, "signature_mismatch", "WEBHOOK_SIGNATURE_INVALID", "sharegram", {}, b"x" * size, remote, "r"
    )


async def test_queue_limits_rows_of_one_address_only() -> None:
    harness = Harness(per_minute=60)
    harness.offer("flood", 100)
    harness.offer("honest", 5)
    assert harness.count("over_address_limit") == 40
    assert harness.drain() == ["flood"] * 60 + ["honest"] * 5
    harness.now += 2.0
    harness.offer("flood", 100)
    assert harness.drain() == ["flood"] * 2


async def test_queue_limits_bytes_of_one_address_only() -> None:
    harness = Harness(per_minute=1000)
    harness.offer("flood", 40, size=MIB)
    harness.offer("honest")
    assert harness.count("over_address_limit") == 32
    assert harness.drain() == ["flood"] * 8 + ["honest"]


async def test_queue_drops_new_webhooks_when_full() -> None:
    harness = Harness(per_minute=10)
    for number in range(5):
        harness.offer(f"flood-{number}", 10)
    assert harness.count("queue_full") == 10
    assert len(harness.drain()) == 40
    harness.offer("later")
    assert harness.drain() == ["later"]


async def test_queue_bounds_bytes_and_frees_them() -> None:
    harness = Harness(per_minute=1000)
    for _ in range(2):
        for number in range(5):
            harness.offer(f"flood-{number}", 8, size=MIB)
        assert len(harness.drain()) == 32
        harness.now += 3600
    assert harness.count("queue_full") == 16


async def test_queue_bounds_batches() -> None:
    harness = Harness(per_minute=1000)
    harness.offer("a", BATCH_ROWS + 1, size=1)
    assert [len(harness.queue.next_batch()) for _ in range(2)] == [BATCH_ROWS, 1]
    harness.offer("b", 5, size=MIB)
    assert [len(harness.queue.next_batch()) for _ in range(2)] == [BATCH_BYTES // MIB, 1]


async def test_queue_wait_ends_with_first_webhook_or_timeout() -> None:
    harness = Harness(per_minute=10)
    await harness.queue.wait(0.01)
    harness.offer("a")
    await harness.queue.wait(60)
    assert harness.drain() == ["a"]


@pytest.mark.parametrize("addresses", [20_000])
async def test_queue_forgets_old_addresses(addresses: int) -> None:
    harness = Harness(per_minute=1)
    for number in range(addresses):
        harness.offer(f"address-{number}")
        harness.queue.next_batch()
    harness.offer("address-0")
    assert harness.drain() == ["address-0"]
