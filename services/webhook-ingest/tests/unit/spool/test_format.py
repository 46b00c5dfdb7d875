"""Records are read as they were written; a torn or corrupt record affects no other."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.broker.types import Message
from webhook_ingest.spool.format import MARKER, CorruptBytes, SpooledEvent, TornRecord, ValidRecord, encode, scan

EVENTS = [
    SpooledEvent(
        number, 1_795_000_000_000, Message("topic", b"sg_%d" % number, b'{"a": %d}' % number, (("ce_id", b"1"),))
    )
    for number in range(1, 4)
]
RECORDS = [encode(event) for event in EVENTS]
WHOLE = b"".join(RECORDS)

messages = st.builds(
    Message,
    topic=st.text(max_size=20),
    key=st.binary(max_size=20),
    value=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3).map(tuple),
)
numbers = st.integers(0, 2**63 - 1)


def valid_events(data: bytes) -> list[SpooledEvent]:
    return [found.event for found in scan(data) if isinstance(found, ValidRecord)]


@given(st.lists(st.builds(SpooledEvent, number=numbers, at_ms=numbers, message=messages), max_size=5))
def test_scan_returns_written_events(events: list[SpooledEvent]) -> None:
    assert valid_events(b"".join(map(encode, events))) == events


def test_scan_returns_records_before_a_tail_torn_at_any_byte() -> None:
    complete = [len(b"".join(RECORDS[:count])) for count in range(4)]
    for length in range(len(WHOLE)):
        found = list(scan(WHOLE[:length]))
        whole_records = sum(end <= length for end in complete) - 1
        assert [each.event for each in found if isinstance(each, ValidRecord)] == EVENTS[:whole_records]
        torn = [each for each in found if not isinstance(each, ValidRecord)]
        assert torn == ([] if length in complete else [TornRecord(complete[whole_records], length)])


def test_scan_treats_zeros_at_the_end_as_torn() -> None:
    assert list(scan(RECORDS[0] + bytes(500)))[1:] == [TornRecord(len(RECORDS[0]), len(RECORDS[0]) + 500)]


def test_scan_loses_only_the_record_with_a_wrong_byte() -> None:
    start, end = len(RECORDS[0]), len(RECORDS[0]) + len(RECORDS[1])
    for position in range(start, end):
        data = bytearray(WHOLE)
        data[position] ^= 0xFF
        assert valid_events(bytes(data)) == [EVENTS[0], EVENTS[2]]
        assert [each for each in scan(bytes(data)) if not isinstance(each, ValidRecord)] == [CorruptBytes(start, end)]


def test_scan_treats_last_record_with_wrong_content_as_corrupt() -> None:
    assert list(scan(WHOLE[:-1] + b"\0"))[-1] == CorruptBytes(len(WHOLE) - len(RECORDS[2]), len(WHOLE))


@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([MARKER, *RECORDS])), max_size=8).map(b"".join))
def test_scan_covers_every_byte_of_any_data(data: bytes) -> None:
    found = list(scan(data))
    assert [each.start for each in found][:1] == [0][: len(found)]
    assert all(before.end == after.start for before, after in pairwise(found))
    assert [each.end for each in found][-1:] == [len(data)][: len(found)]
    assert all(each.end > each.start for each in found)


def test_marker_occurs_in_no_text() -> None:
    assert MARKER.decode("utf-8", "replace") != MARKER.decode("latin-1")
    assert MARKER[0] not in "".join(map(chr, range(0x20, 0x3000))).encode()
