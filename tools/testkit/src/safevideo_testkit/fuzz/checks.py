"""Checks of the responses to a case and of the published records. They raise `AssertionError`."""

import re
from typing import Final

from safevideo_common.broker.types import Record
from safevideo_common.events.envelope import parse_headers
from safevideo_testkit.fuzz.cases import Case

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_HEALTH: Final = re.compile(rb"/(healthz|readyz|metrics)")


def check_responses(case: Case, responses: bytes, accepted: int) -> None:
    """Check all responses to a case. `accepted` is the number of those with a webhook id."""
    statuses = [int(status) for status in _STATUS.findall(responses)]
    assert all(status < 500 for status in statuses), f"answered {statuses}"
    good = sum(200 <= status < 300 for status in statuses)
    assert good == accepted or _HEALTH.search(case.request), f"answered {statuses}, and no webhook was accepted"
    assert accepted <= 1, "accepted more than once"
    if case.expectation == "accepted":
        assert accepted == 1, f"a good webhook was answered {statuses}"
    if case.expectation == "rejected":
        assert accepted == 0, "a forged webhook was accepted"


def check_records(case: Case, records: list[Record]) -> None:
    """Check the records that were published with this case."""
    for record in records:
        assert case.expectation != "rejected", "a forged webhook was published"
        assert record.value == case.body, "a body was published that was not signed"
        assert case.event_id in (None, parse_headers(record.headers).id), "an id was published that was not signed"
