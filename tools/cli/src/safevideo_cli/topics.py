"""`safevideo topics status|create`: whether Kafka has what the services need."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import typer

from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_table
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import MAX_RECORD_BYTES, Topic, TopicState
from safevideo_common.events.topics import DAY_MS, RETENTION_DAYS, all_topics
from safevideo_common.settings import KafkaSettings, load_settings

app = typer.Typer(no_args_is_help=True)


class TopicIssue(NamedTuple):
    """A setting of a topic that loses events, and the value that fixes it."""

    sentence: str
    setting: str
    value: str


class TopicCheck(NamedTuple):
    """A topic of the contract and its state in the broker; `None` when it does not exist."""

    topic: Topic
    state: TopicState | None

    def issues(self) -> list[TopicIssue]:
        """Return what loses events. The number of partitions does not: it bounds how many workers share the load."""
        return [] if self.state is None else list(_issues(self.topic, self.state))


async def check_topics(broker: Broker) -> list[TopicCheck]:
    """Return the check of every topic. Raise `BrokerUnavailable`."""
    states = {state.name: state for state in await broker.topic_states(RETENTION_DAYS)}
    return [TopicCheck(topic, states.get(topic.name)) for topic in all_topics()]


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show every topic that the services need, and change nothing. Exit code 1: something is wrong."""
    checks = asyncio.run(_check())
    if as_json:
        print_json({"topics": [_document(each) for each in checks]})
    else:
        _print_checks(checks)
    if any(each.state is None or each.issues() for each in checks):
        raise typer.Exit(1)


@app.command()
def create(as_json: AsJson = False) -> None:
    """Create the missing topics; leave the others as they are. It may be repeated."""
    created = asyncio.run(_create())
    if as_json:
        print_json({"created": created})
    else:
        print(f"Created: {', '.join(created)}." if created else "All topics exist; there was nothing to do.")


def _issues(topic: Topic, state: TopicState) -> Iterator[TopicIssue]:
    if state.retention_ms is not None and state.retention_ms < topic.retention_ms:
        sentence = f"records are kept for {state.retention_ms / DAY_MS:.3g} days, not {topic.retention_ms // DAY_MS}"
        yield TopicIssue(sentence, "retention.ms", str(topic.retention_ms))
    if state.max_record_bytes < MAX_RECORD_BYTES:
        yield TopicIssue("large records are refused", "max.message.bytes", str(MAX_RECORD_BYTES))
    if state.is_compacted:
        yield TopicIssue("older records of a performer are deleted", "cleanup.policy", "delete")


async def _check() -> list[TopicCheck]:
    async with _open_broker() as broker:
        return await check_topics(broker)


async def _create() -> list[str]:
    async with _open_broker() as broker:
        missing = [each.topic for each in await check_topics(broker) if each.state is None]
        if missing:
            await broker.create_topics(missing)
        return [topic.name for topic in missing]


@asynccontextmanager
async def _open_broker() -> AsyncIterator[Broker]:
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # our own last sentence says what is wrong
    async with open_broker(load_settings(KafkaSettings).kafka_bootstrap_servers, None) as broker:
        yield broker


def _document(check: TopicCheck) -> dict[str, object]:
    topic, state = check
    document: dict[str, object] = {"name": topic.name, "exists": state is not None}
    if state is not None:
        document |= {
            "partitions": state.partitions,
            "replicas": state.replicas,
            "retentionMs": state.retention_ms,
            "maxRecordBytes": state.max_record_bytes,
            "isCompacted": state.is_compacted,
        }
    return document | {"faults": [issue._asdict() for issue in check.issues()]}


def _print_checks(checks: Sequence[TopicCheck]) -> None:
    rows = (
        (each.topic.name, "", "", "does not exist") if each.state is None
        else (
            each.topic.name, str(each.state.partitions), str(each.state.replicas),
            "; ".join(issue.sentence for issue in each.issues()),
        )
        for each in checks
    )  # fmt: skip
    print_table(("topic", "partitions", "replicas", "what is wrong"), rows)
    if any(each.state is None for each in checks):
        print("To create the missing topics: safevideo topics create")
    for each in checks:
        for issue in each.issues():
            entity = f"--entity-type topics --entity-name {each.topic.name}"
            print(f"kafka-configs.sh --bootstrap-server … --alter {entity} --add-config {issue.setting}={issue.value}")
