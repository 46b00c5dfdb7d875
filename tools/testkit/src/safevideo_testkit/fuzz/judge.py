"""What the door may say to a case, and what may be in the log then. `AssertionError` says what is wrong."""

import re
from typing import Final

from safevideo_common.broker.types import Record
from safevideo_common.events.envelope import parse_headers
from safevideo_testkit.fuzz.cases import Case

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")
_HEALTH: Final = re.compile(rb"/(healthz|readyz|metrics)")


def judge_answers(case: Case, answers: bytes, accepted: int) -> None:
    """`answers` is all that was said, `accepted` how many answers named a webhook that was taken."""
    statuses = [int(status) for status in _STATUS.findall(answers)]
    assert all(status < 500 for status in statuses), f"answered {statuses}"
    good = sum(200 <= status < 300 for status in statuses)
    assert good == accepted or _HEALTH.search(case.request), f"answered {statuses}, and no webhook was accepted"
    assert accepted <= 1, "accepted more than once"
    if case.verdict == "taken":
        assert accepted == 1, f"a good webhook was answered {statuses}"
    if case.verdict == "refused":
        assert accepted == 0, "a forged webhook was accepted"


def judge_records(case: Case, records: list[Record]) -> None:
    """`records` is what came into the log with this case."""
    for record in records:
        assert case.verdict != "refused", "a forged webhook is in the log"
        assert record.value == case.body, "what is in the log was never signed"
        assert case.event_id in (None, parse_headers(record.headers).id), "it is in the log under an id never signed"
