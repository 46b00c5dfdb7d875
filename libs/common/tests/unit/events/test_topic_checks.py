"""The check of a topic that somebody else has created."""

from dataclasses import replace

import pytest

from safevideo_common.broker.types import MAX_RECORD_BYTES, TopicState
from safevideo_common.events.topic_checks import TopicCheck
from safevideo_common.events.topics import DAY_MS, all_topics

KYC = next(topic for topic in all_topics() if topic.name == "sharegram.kyc.v1")
CHANGES = next(topic for topic in all_topics() if topic.name == "integration.events.v1")
GOOD = TopicState(
    KYC.name,
    12,
    replicas=3,
    retention_ms=KYC.retention_ms,
    max_record_bytes=MAX_RECORD_BYTES,
    is_compacted=False,
    min_in_sync_replicas=2,
    allows_unclean_election=False,
    brokers=3,
)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, []),
        ({"partitions": 1}, []),
        ({"retention_ms": 31 * DAY_MS}, []),
        ({"retention_ms": 32 * DAY_MS}, ["retention.ms"]),
        ({"retention_ms": None}, ["retention.ms"]),
        ({"retention_ms": KYC.retention_ms - 1}, ["retention.ms"]),
        ({"max_record_bytes": 1_048_588}, ["max.message.bytes"]),
        ({"is_compacted": True}, ["cleanup.policy"]),
        ({"keeps_compression": True}, ["compression.type"]),
        ({"replicas": 1}, ["replicas"]),
        ({"min_in_sync_replicas": 1}, ["min.insync.replicas"]),
        ({"allows_unclean_election": True}, ["unclean.leader.election.enable"]),
    ],
)
def test_topic_check_names_the_setting_that_would_lose_events(
    changes: dict[str, int | None], settings: list[str]
) -> None:
    check = TopicCheck(KYC, replace(GOOD, **changes))  # type: ignore[arg-type]
    assert [issue.setting for issue in check.issues()] == settings


def test_topic_check_of_a_missing_topic_has_no_issues() -> None:
    assert TopicCheck(KYC, None).issues() == []


def test_one_broker_alone_gets_warnings_and_no_faults_about_copies() -> None:
    alone = TopicCheck(KYC, replace(GOOD, brokers=1, replicas=1, min_in_sync_replicas=1))
    assert [issue.is_warning for issue in alone.issues()] == [True, True]


def test_topic_that_nobody_replays_may_keep_records_for_ever() -> None:
    assert TopicCheck(CHANGES, replace(GOOD, retention_ms=None)).issues() == []
