"""`safevideo topics` on a Kafka that has none of them, or wrong ones."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Topic
from safevideo_common.events.topics import KYC, RETENTION_DAYS
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import RunningBackends, running
from safevideo_testkit.broker_helpers import DAY_MS
from safevideo_testkit.command import run_command


def command(kafka_servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(["topics", *arguments], {"KAFKA_BOOTSTRAP_SERVERS": kafka_servers})


@pytest.fixture
def empty_kafka(backends: RunningBackends, tmp_path: Path) -> Iterator[str]:
    """Of the test's own: others need the topics of this run's."""
    if backends.stack != "local":
        pytest.skip(f"this run has the {backends.stack} stack")
    with running("local", folder=tmp_path / "own", options=Options()) as own:
        yield own.kafka_bootstrap_servers


@pytest.mark.kafka
def test_topics_status_names_missing_and_wrong_topics_and_create_adds_the_missing(empty_kafka: str) -> None:
    asyncio.run(KafkaBroker(empty_kafka).create_topics([Topic(KYC, 1, 7 * DAY_MS)]))
    result = command(empty_kafka, "status")
    assert result.returncode == 1
    assert result.stdout.count("does not exist") == len(RETENTION_DAYS) - 1
    assert "records are kept for 7 days, not 30" in result.stdout
    assert f"--entity-name {KYC} --add-config retention.ms=2592000000" in result.stdout

    assert command(empty_kafka, "create").stdout.count(".v1") == len(RETENTION_DAYS) - 1
    assert command(empty_kafka, "create").stdout == "All topics exist; there was nothing to do.\n"
    assert "a message on one disk is acknowledged" in command(empty_kafka, "status").stdout
    left = command(empty_kafka, "status", "--json")
    topics = {each["name"]: each for each in orjson.loads(left.stdout)["topics"]}
    assert left.returncode == 1
    assert [name for name, each in topics.items() if each["faults"] or not each["exists"]] == [KYC]
    assert (topics[KYC]["partitions"], topics["kyc-worker.dlq.v1"]["partitions"]) == (1, 12)


def test_topics_without_kafka_fail_in_one_line() -> None:
    result = command("127.0.0.1:1", "status")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "SERVICE_UNAVAILABLE: Kafka did not answer: describing topics.\n"
