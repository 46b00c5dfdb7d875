"""`safevideo topics status` and `safevideo topics create`: whether Kafka has what the services need."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.output import AsJson, people, print_json, print_table
from safevideo_cli.topic_checks import TopicCheck, TopicIssue, check_topics
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.settings import KafkaSettings, load_settings

app = typer.Typer(help="The topics in Kafka: which are there, and what is wrong with them.", no_args_is_help=True)

_MISSING: Final = "does not exist"


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show every topic that the services need, and change nothing. Exit code 1 says that something is wrong."""
    found = asyncio.run(_look())
    if as_json:
        print_json({"topics": [_document(each) for each in found]})
    else:
        print_table(_table(found))
        _say_what_mends(found)
    if any(each.state is None or each.faults() for each in found):
        raise typer.Exit(1)


@app.command()
def create(as_json: AsJson = False) -> None:
    """Create the topics that are missing and leave the others as they are. It may be run again."""
    created = asyncio.run(_create())
    if as_json:
        print_json({"created": created})
    else:
        people.print(f"Created: {', '.join(created)}." if created else "All topics exist; there was nothing to do.")


async def _look() -> list[TopicCheck]:
    async with _opened_log() as event_log:
        return await check_topics(event_log)


async def _create() -> list[str]:
    async with _opened_log() as event_log:
        missing = [each.topic for each in await check_topics(event_log) if each.state is None]
        if missing:
            await event_log.create_topics(missing)
        return [topic.name for topic in missing]


@asynccontextmanager
async def _opened_log() -> AsyncIterator[Broker]:
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # the sentence that we end with says it
    async with open_broker(load_settings(KafkaSettings).kafka_bootstrap_servers, None) as event_log:
        yield event_log


def _document(found: TopicCheck) -> dict[str, object]:
    topic, state = found
    document: dict[str, object] = {"name": topic.name, "exists": state is not None}
    if state is not None:
        document |= {
            "partitions": state.partitions,
            "replicas": state.replicas,
            "retentionMs": state.retention_ms,
            "maxRecordBytes": state.max_record_bytes,
            "isCompacted": state.is_compacted,
        }
    return document | {"faults": [fault._asdict() for fault in found.faults()]}


def _table(found: Sequence[TopicCheck]) -> Table:
    table = Table("topic", "partitions", "replicas", "what is wrong", box=SIMPLE_HEAD)
    for each in found:
        if each.state is None:
            table.add_row(each.topic.name, "", "", _MISSING)
        else:
            wrong = "; ".join(fault.sentence for fault in each.faults())
            table.add_row(each.topic.name, str(each.state.partitions), str(each.state.replicas), wrong)
    return table


def _say_what_mends(found: Sequence[TopicCheck]) -> None:
    if any(each.state is None for each in found):
        people.print("To create what is missing: safevideo topics create")
    for each in found:
        for fault in each.faults():
            people.print(_alteration(each.topic.name, fault))


def _alteration(topic: str, fault: TopicIssue) -> str:
    entity = f"--entity-type topics --entity-name {topic}"
    return f"kafka-configs.sh --bootstrap-server … --alter {entity} --add-config {fault.setting}={fault.value}"
