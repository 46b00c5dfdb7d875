"""`safevideo topics status|create`: whether Kafka has what the services need."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import typer

from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines, print_table
from safevideo_common.broker.kafka.security import KafkaSecurity
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.events.topic_checks import TopicCheck, TopicIssue, check_topics
from safevideo_common.settings import KafkaSettings, load_settings

app = typer.Typer(no_args_is_help=True)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show every topic that the services need, and change nothing. Exit code 1: something is wrong."""
    checks = asyncio.run(_check())
    if as_json:
        print_json({"topics": [_document(each) for each in checks]})
    else:
        _print_checks(checks)
    if any(each.state is None or _faults(each) for each in checks):
        raise typer.Exit(1)


@app.command()
def create(as_json: AsJson = False) -> None:
    """Create the missing topics; leave the others as they are. It may be repeated."""
    created = asyncio.run(_create())
    if as_json:
        print_json({"created": created})
    else:
        print_lines(f"Created: {', '.join(created)}." if created else "All topics exist; there was nothing to do.")


async def _check() -> list[TopicCheck]:
    async with open_kafka() as broker:
        return await check_topics(broker)


async def _create() -> list[str]:
    async with open_kafka() as broker:
        missing = [each.topic for each in await check_topics(broker) if each.state is None]
        if missing:
            await broker.create_topics(missing)
        return [topic.name for topic in missing]


@asynccontextmanager
async def open_kafka() -> AsyncIterator[Broker]:
    """Open the broker of the environment, for commands that Kafka alone answers."""
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # our own last sentence says what is wrong
    settings = load_settings(KafkaSettings)
    async with open_broker(settings.kafka_bootstrap_servers, None, KafkaSecurity.of(settings)) as broker:
        yield broker


def _document(check: TopicCheck) -> dict[str, object]:
    topic, state = check.topic, check.state
    document: dict[str, object] = {"name": topic.name, "exists": state is not None}
    if state is not None:
        document |= {
            "partitions": state.partitions,
            "replicas": state.replicas,
            "retentionMs": state.retention_ms,
            "maxRecordBytes": state.max_record_bytes,
            "isCompacted": state.is_compacted,
            "minInSyncReplicas": state.min_in_sync_replicas,
            "allowsUncleanElection": state.allows_unclean_election,
            "keepsCompression": state.keeps_compression,
        }
    faults, warnings = _faults(check), [each for each in check.issues() if each.is_warning]
    return document | {"faults": [_issue(each) for each in faults], "warnings": [_issue(each) for each in warnings]}


def _faults(check: TopicCheck) -> list[TopicIssue]:
    return [each for each in check.issues() if not each.is_warning]


def _issue(issue: TopicIssue) -> dict[str, str]:
    return {"sentence": issue.sentence, "setting": issue.setting, "value": issue.value}


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
        print_lines("To create the missing topics: safevideo topics create")
    for each in checks:
        for issue in _faults(each):
            if issue.setting == "replicas":
                print_lines(f"Add replicas to {each.topic.name} with kafka-reassign-partitions.sh.")
                continue
            entity = f"--entity-type topics --entity-name {each.topic.name}"
            print_lines(
                f"kafka-configs.sh --bootstrap-server … --alter {entity} --add-config {issue.setting}={issue.value}"
            )
