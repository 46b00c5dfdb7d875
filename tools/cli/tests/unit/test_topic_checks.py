"""The check of a topic that somebody else has created."""

from dataclasses import replace

import pytest

from safevideo_cli.topics import TopicCheck
from safevideo_common.broker.types import MAX_RECORD_BYTES, TopicState
from safevideo_common.events.topics import all_topics

KYC = next(topic for topic in all_topics() if topic.name == "sharegram.kyc.v1")
GOOD = TopicState(KYC.name, 12, 3, KYC.retention_ms, MAX_RECORD_BYTES, is_compacted=False)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, []),
        ({"partitions": 1, "replicas": 1}, []),
        ({"retention_ms": None}, []),
        ({"retention_ms": KYC.retention_ms - 1}, ["retention.ms"]),
        ({"max_record_bytes": 1_048_588}, ["max.message.bytes"]),
        ({"is_compacted": True}, ["cleanup.policy"]),
    ],
)
def test_topic_check_names_the_setting_that_would_lose_events(
    changes: dict[str, int | None], settings: list[str]
) -> None:
    check = TopicCheck(KYC, replace(GOOD, **changes))  # type: ignore[arg-type]
    assert [issue.setting for issue in check.issues()] == settings


def test_topic_check_of_a_missing_topic_has_no_issues() -> None:
    assert TopicCheck(KYC, None).issues() == []
