"""Answers of Sharegram at the ends of every type: each is read, or refused as one of the client's errors."""

from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from safevideo_common.clock import rfc3339
from safevideo_common.domain.performers import Performer, take_record
from safevideo_common.domain.times import EVENT_YEARS
from safevideo_common.events.envelope import time_of
from safevideo_common.performer_sync.mirror import patch_of
from safevideo_common.sharegram.client import PerformerPage
from safevideo_common.sharegram.errors import CallError, InvalidResponse
from safevideo_common.sharegram.http import clock_difference, parse_retry_after
from safevideo_common.sharegram.operations import LIST_PERFORMERS, OPERATIONS, Operation, PerformerRecord
from safevideo_testkit.fuzz.answer_ends import AnswerReader, answer_ends

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DATES = (
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Tue, 24 Nov 2026 12:00:00 +2400",
    "Tue, 24 Nov 2026 12:00:00 -9999999999999999",
    "Tue, 24 Nov 99999999999999999999 12:00:00 GMT",
    "Tue, 99 Nov 0000 00:00:00 GMT",
    "0" * 65_536,
    "9" * 5_000,
    "\u0663",
    "",
    "\0",
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
async def test_every_answer_at_an_end_of_a_type_is_read_or_refused_with_a_code(operation: Operation) -> None:
    reader, kinds = AnswerReader(), set[type]()
    for end in answer_ends(operation):
        answer = await reader.read(operation, end.document)
        kinds.add(type(answer))
        if isinstance(answer, CallError):
            assert isinstance(answer, InvalidResponse), end.path
        for record in records_of(answer):
            check_record(record)
    assert kinds == {PerformerPage if operation is LIST_PERFORMERS else operation.response, InvalidResponse}


async def test_one_unreadable_record_hides_no_other() -> None:
    good = b'{"performerId":"sg_2","profile":{},"status":"active","version":1,"updatedAt":"2026-11-24T12:00:00Z"}'
    reader = AnswerReader()
    for bad in (b'{"performerId":"sg_1","bio":"\\ud800"', b'"\xff"', b"[" * 100_000, b'{"a":' * 100_000):
        closing = bad.count(b"[") * b"]" + bad.count(b"{") * b"}" if bad != b'"\xff"' else b""
        inner = bad + (b"1" if bad.endswith(b":") else b"") + closing
        page = await reader.read(LIST_PERFORMERS, b'{"performers":[%b,%b],"nextCursor":null}' % (inner, good))
        if isinstance(page, PerformerPage):
            assert [each.performer_id for each in page.performers] == ["sg_2"]
            assert len(page.invalid) == 1
        else:
            assert isinstance(page, InvalidResponse)


async def test_half_of_an_emoji_in_a_profile_is_read_as_webhooks_read_it() -> None:
    record = (
        b'{"performerId":"sg_1","profile":{"bio":"\\ud83c"},"status":"active","version":1,'
        b'"updatedAt":"2026-11-24T12:00:00Z"}'
    )
    page = await AnswerReader().read(LIST_PERFORMERS, b'{"performers":[%b],"nextCursor":null}' % record)
    assert [each.profile.bio for each in page.performers] == ["\ufffd"]


@pytest.mark.parametrize("value", DATES)
def test_a_date_of_a_header_at_its_ends_is_read_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, lambda: NOW)
    assert seconds is None or 0 <= seconds <= 300
    difference = clock_difference(CIMultiDictProxy(CIMultiDict({"Date": value})), NOW)
    assert difference is None or isinstance(difference, float)


def records_of(answer: object) -> list[PerformerRecord]:
    if isinstance(answer, PerformerPage):
        return list(answer.performers)
    return [answer] if isinstance(answer, PerformerRecord) else []


def check_record(record: PerformerRecord) -> None:
    """Check what a sync makes of a record that was read: a patch with a time that databases hold, or nothing."""
    if (patch := patch_of(record)) is None:
        return
    after = take_record(Performer(record.performer_id), patch)
    assert set(after.fields) == set(patch.fields)
    assert time_of(patch.write_version).year in range(EVENT_YEARS.start - 1, EVENT_YEARS.stop + 1)
    assert rfc3339(record.updated_at)
