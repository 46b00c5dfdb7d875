"""The bounds of the spool, and its counts by key."""

import pytest

from safevideo_common.broker.types import Message
from safevideo_common.errors import BrokerUnavailable
from webhook_ingest.spool.spool import MAX_UNWRITTEN, RECORD_BYTES, SpoolAccounting


def message(key: bytes, size: int = 100) -> Message:
    return Message("topic", key, b"x" * size)


def test_accounting_has_key_from_first_reservation_to_last_removal() -> None:
    accounting = SpoolAccounting(1 << 20)
    for _ in range(2):
        accounting.reserve(message(b"a"), 0)
    accounting.written([message(b"a")] * 2)
    accounting.removed([message(b"a")])
    assert (accounting.keys, accounting.events) == ({b"a": 1}, 1)
    accounting.removed([message(b"a")])
    assert (accounting.keys, accounting.events) == ({}, 0)


def test_accounting_forgets_released_events() -> None:
    accounting = SpoolAccounting(1 << 20)
    accounting.reserve(message(b"a"), 0)
    accounting.release([message(b"a")])
    assert (accounting.keys, accounting.events) == ({}, 0)


def test_accounting_counts_unwritten_events_towards_the_size() -> None:
    accounting = SpoolAccounting(10_000)
    accounting.reserve(message(b"a", 5_000), 0)
    with pytest.raises(BrokerUnavailable) as error:
        accounting.reserve(message(b"b", 5_000), 0)
    assert error.value.retry_after
    assert accounting.keys == {b"a": 1}
    accounting.written([message(b"a", 5_000)])
    with pytest.raises(BrokerUnavailable):
        accounting.reserve(message(b"b", 5_000), 5_000 + RECORD_BYTES)
    accounting.reserve(message(b"b", 5_000), 0)


def test_accounting_bounds_unwritten_events() -> None:
    accounting = SpoolAccounting(1 << 30)
    for _ in range(MAX_UNWRITTEN):
        accounting.reserve(message(b"a", 1), 0)
    with pytest.raises(BrokerUnavailable):
        accounting.reserve(message(b"a", 1), 0)


def test_accounting_counts_adopted_events_like_written_ones() -> None:
    accounting = SpoolAccounting(1 << 20)
    accounting.reserve(message(b"a"), 0)
    accounting.written([message(b"a")])
    accounting.adopted({b"a": 2, b"b": 1})
    assert (accounting.keys, accounting.events) == ({b"a": 3, b"b": 1}, 4)
