"""`docs/asyncapi.yaml` says what the code publishes, and holds together."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from safevideo_common.broker.types import MAX_RECORD_BYTES
from safevideo_common.domain.outcomes import dead
from safevideo_common.events import kyc, performer
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import DEAD_LETTERS, RETENTION_DAYS, topic_of
from safevideo_common.inbox.dead_letters import to_dead_letter
from safevideo_common.inbox.handler import Delivery

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
Document = dict[str, Any]


def made(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "tools" / "docs" / "asyncapi.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def document() -> Document:
    found: Document = json.loads(made("--json"))
    return found


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def found_at(document: Document, reference: str) -> Document:
    """What a reference leads to, itself followed. Raises `KeyError` when it leads nowhere."""
    value = document
    for name in reference.removeprefix("#/").split("/"):
        value = value[name]
    return found_at(document, value["$ref"]) if "$ref" in value else value


def test_the_page_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "asyncapi.yaml").read_text() == made(), "run: make asyncapi"


def test_every_reference_leads_somewhere(document: Document) -> None:
    found = list(references(document))
    assert found
    assert all(reference.startswith("#/") and found_at(document, reference) for reference in found)


def test_every_topic_is_described_and_none_that_is_not_there(document: Document) -> None:
    assert set(document["channels"]) == set(RETENTION_DAYS)
    assert {channel["address"] for channel in document["channels"].values()} == set(RETENTION_DAYS)


@pytest.mark.parametrize("event_type", [*kyc.TYPES, *performer.TYPES])
def test_every_type_of_webhook_is_a_message_of_its_topic(document: Document, event_type: str) -> None:
    messages = document["channels"][topic_of(event_type)]["messages"]
    assert event_type in {found_at(document, each["$ref"])["name"] for each in messages.values()}


def test_an_operation_has_the_messages_of_its_channel(document: Document) -> None:
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(each["$ref"].startswith(f"{channel}/messages/") for each in operation["messages"])


def test_every_message_is_sent_by_someone(document: Document) -> None:
    sent = {
        found_at(document, each["$ref"])["name"]
        for operation in document["operations"].values()
        if operation["action"] == "send"
        for each in operation["messages"]
    }
    assert sent == {each["name"] for each in document["components"]["messages"].values()}


def test_the_headers_of_an_event_are_the_described_ones(document: Document) -> None:
    headers = Envelope(
        "evt", "a.type", AT, "sg_1", "request", "00-trace", is_id_signed=False, received_at=1.5
    ).headers()
    described = document["components"]["schemas"]["EventHeaders"]
    assert set(dict(headers)) == set(described["properties"])
    assert set(described["required"]) <= set(dict(Envelope("evt", "a.type", AT).headers()))


def test_the_headers_of_a_dead_copy_are_the_described_ones(document: Document) -> None:
    envelope = Envelope("evt", "a.type", AT)
    delivery = Delivery(envelope, b"v" * MAX_RECORD_BYTES, "topic", 0, 0, AT)
    copy = to_dead_letter("kyc-worker", delivery, dead("CODE", "a sentence"), attempts=1)
    added = set(dict(copy.headers)) - set(dict(envelope.headers()))
    assert added == set(document["components"]["schemas"]["DeadLetterHeaders"]["properties"])
    assert copy.topic in DEAD_LETTERS
