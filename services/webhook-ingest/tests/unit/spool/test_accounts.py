"""The bounds of the spool, and which keys have anything in it."""

import pytest

from safevideo_common.broker.types import Message
from safevideo_common.errors import BrokerUnavailable
from webhook_ingest.spool.spool import MAX_WAITING, RECORD_BYTES, SpoolAccounting


def message(key: bytes, size: int = 100) -> Message:
    return Message("topic", key, b"x" * size)


def test_a_key_is_in_the_spool_from_its_first_event_to_the_delivery_of_its_last() -> None:
    accounts = SpoolAccounting(1 << 20)
    for _ in range(2):
        accounts.enter(message(b"a"), 0)
    accounts.written([message(b"a")] * 2)
    accounts.left([message(b"a")])
    assert (accounts.keys, accounts.events) == ({b"a": 1}, 1)
    accounts.left([message(b"a")])
    assert (accounts.keys, accounts.events) == ({}, 0)


def test_what_the_disk_did_not_take_is_not_in_the_spool() -> None:
    accounts = SpoolAccounting(1 << 20)
    accounts.enter(message(b"a"), 0)
    accounts.refused([message(b"a")])
    assert (accounts.keys, accounts.events) == ({}, 0)


def test_what_waits_counts_towards_the_size_of_the_spool() -> None:
    accounts = SpoolAccounting(10_000)
    accounts.enter(message(b"a", 5_000), 0)
    with pytest.raises(BrokerUnavailable) as refusal:
        accounts.enter(message(b"b", 5_000), 0)
    assert refusal.value.retry_after
    assert accounts.keys == {b"a": 1}
    accounts.written([message(b"a", 5_000)])
    with pytest.raises(BrokerUnavailable):
        accounts.enter(message(b"b", 5_000), 5_000 + RECORD_BYTES)
    accounts.enter(message(b"b", 5_000), 0)


def test_a_slow_disk_has_a_bounded_queue() -> None:
    accounts = SpoolAccounting(1 << 30)
    for _ in range(MAX_WAITING):
        accounts.enter(message(b"a", 1), 0)
    with pytest.raises(BrokerUnavailable):
        accounts.enter(message(b"a", 1), 0)


def test_what_was_adopted_counts_like_what_was_written() -> None:
    accounts = SpoolAccounting(1 << 20)
    accounts.enter(message(b"a"), 0)
    accounts.written([message(b"a")])
    accounts.adopted({b"a": 2, b"b": 1})
    assert (accounts.keys, accounts.events) == ({b"a": 3, b"b": 1}, 4)
