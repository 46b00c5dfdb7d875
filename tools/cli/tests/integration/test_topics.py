"""`safevideo topics` on a Kafka that has none of them, or wrong ones."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.types import Topic
from safevideo_common.events.topics import KYC, RETENTION_DAYS
from safevideo_devstack.backends import Options
from safevideo_devstack.backends.lifecycle import RunningBackends, running
from safevideo_testkit.broker_helpers import DAY_MS

COMMAND = Path(sys.executable).parent / "safevideo"
Run = Callable[..., subprocess.CompletedProcess[str]]


def command(kafka_servers: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP_SERVERS": kafka_servers}
    line: list[str | Path] = [COMMAND, "topics", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture
def empty_kafka(backends: RunningBackends, tmp_path: Path) -> Iterator[str]:
    """Of the test's own: others need the topics of this run's."""
    if backends.stack != "local":
        pytest.skip(f"this run has the {backends.stack} stack")
    with running("local", folder=tmp_path / "own", options=Options()) as own:
        yield own.kafka_bootstrap_servers


@pytest.mark.kafka
def test_what_is_missing_or_wrong_is_named_and_what_is_missing_created(empty_kafka: str) -> None:
    asyncio.run(KafkaBroker(empty_kafka).create_topics([Topic(KYC, 1, 7 * DAY_MS)]))
    told = command(empty_kafka, "status")
    assert told.returncode == 1
    assert told.stdout.count("does not exist") == len(RETENTION_DAYS) - 1
    assert "records are kept for 7 days, not 30" in told.stdout
    assert f"--entity-name {KYC} --add-config retention.ms=2592000000" in told.stdout

    assert command(empty_kafka, "create").stdout.count(".v1") == len(RETENTION_DAYS) - 1
    assert command(empty_kafka, "create").stdout == "All topics exist; there was nothing to do.\n"
    left = command(empty_kafka, "status", "--json")
    topics = {each["name"]: each for each in orjson.loads(left.stdout)["topics"]}
    assert left.returncode == 1
    assert [name for name, each in topics.items() if each["faults"] or not each["exists"]] == [KYC]
    assert (topics[KYC]["partitions"], topics["kyc-worker.dlq.v1"]["partitions"]) == (1, 12)


def test_without_kafka_the_reason_is_one_line() -> None:
    told = command("127.0.0.1:1", "status")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "SERVICE_UNAVAILABLE: Kafka did not answer: describing topics.\n"
