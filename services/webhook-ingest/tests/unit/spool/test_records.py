"""What stands on disk can be read back; what was cut short or damaged costs only itself."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.broker.types import Message
from webhook_ingest.spool.format import MARK, DamagedBytes, SpooledEvent, TornRecord, ValidRecord, encode, walk

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


def intact(data: bytes) -> list[SpooledEvent]:
    return [found.kept for found in walk(data) if isinstance(found, ValidRecord)]


@given(st.lists(st.builds(SpooledEvent, number=numbers, at_ms=numbers, message=messages), max_size=5))
def test_events_are_read_as_they_were_written(events: list[SpooledEvent]) -> None:
    assert intact(b"".join(map(encode, events))) == events


def test_a_tail_torn_at_any_byte_is_cut_off_and_costs_nothing_before_it() -> None:
    complete = [len(b"".join(RECORDS[:count])) for count in range(4)]
    for length in range(len(WHOLE)):
        found = list(walk(WHOLE[:length]))
        whole_records = sum(end <= length for end in complete) - 1
        assert [each.kept for each in found if isinstance(each, ValidRecord)] == EVENTS[:whole_records]
        torn = [each for each in found if not isinstance(each, ValidRecord)]
        assert torn == ([] if length in complete else [TornRecord(complete[whole_records], length)])


def test_a_tail_of_zeros_is_cut_off() -> None:
    assert list(walk(RECORDS[0] + bytes(500)))[1:] == [TornRecord(len(RECORDS[0]), len(RECORDS[0]) + 500)]


def test_whatever_byte_of_a_record_is_wrong_only_that_record_is_damaged() -> None:
    start, end = len(RECORDS[0]), len(RECORDS[0]) + len(RECORDS[1])
    for place in range(start, end):
        data = bytearray(WHOLE)
        data[place] ^= 0xFF
        assert intact(bytes(data)) == [EVENTS[0], EVENTS[2]]
        assert [each for each in walk(bytes(data)) if not isinstance(each, ValidRecord)] == [DamagedBytes(start, end)]


def test_a_last_record_whose_content_is_wrong_is_damage_and_not_a_torn_tail() -> None:
    assert list(walk(WHOLE[:-1] + b"\0"))[-1] == DamagedBytes(len(WHOLE) - len(RECORDS[2]), len(WHOLE))


@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([MARK, *RECORDS])), max_size=8).map(b"".join))
def test_whatever_is_read_every_byte_is_accounted_for(data: bytes) -> None:
    found = list(walk(data))
    assert [each.start for each in found][:1] == [0][: len(found)]
    assert all(before.end == after.start for before, after in pairwise(found))
    assert [each.end for each in found][-1:] == [len(data)][: len(found)]
    assert all(each.end > each.start for each in found)


def test_no_text_can_look_like_the_start_of_a_record() -> None:
    assert MARK.decode("utf-8", "replace") != MARK.decode("latin-1")
    assert MARK[0] not in "".join(map(chr, range(0x20, 0x3000))).encode()
