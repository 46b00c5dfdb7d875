"""Prints `docs/asyncapi.yaml` from the shapes of `events/`: `make asyncapi` writes it, a test holds it against them.

With `--json` it prints the same as JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import yaml

from safevideo_common.events import change_events, commands, kyc, performer, topics
from safevideo_common.events.dead_letters import DeadLetterHeaders
from safevideo_common.events.envelope import SOURCE, Attributes

Document = dict[str, object]

ABOUT: Final[Mapping[str, str]] = {
    topics.KYC: "KYC webhooks of Sharegram, byte for byte as received.",
    topics.PERFORMER: "Performer webhooks of Sharegram, byte for byte as received.",
    topics.OTHER: "Webhooks of a type that is not known here, byte for byte as received.",
    topics.COMMANDS: "What is asked of the workers. The key is the type of the job; a message that is lost or comes "
    "twice costs nothing, since the job is a row that they look for as well.",
    topics.CHANGES: "What changed here, for others: at least once, in order per performer and source. "
    "Source and id together are unique: a message that comes twice has the same.",
} | {
    topics.dead_letters_of(group): f"A copy of each event that is dead for {group}: key, value and headers as they "
    "were, and headers that say whence and why."
    for group in (topics.KYC_WORKER, topics.SYNC_WORKER)
}

BODIES: Final[Mapping[str, type]] = (
    dict.fromkeys(kyc.TYPES, kyc.Verification)
    | dict.fromkeys(performer.TYPES, performer.PerformerData)
    | {
        change_events.PERFORMER_CHANGED: change_events.PerformerChange,
        change_events.KYC_CHANGED: change_events.KycChange,
    }
    | {commands.JOB_QUEUED: commands.JobQueued}
)
"""What `data` of a webhook is, and what the whole value of a change or command is, by event type."""

OTHER_WEBHOOK: Final = "any other webhook"
DEAD_EVENT: Final = "dead event"
OURS: Final = {**change_events.SOURCES, commands.JOB_QUEUED: commands.SOURCE}
"""Who tells what is no webhook."""
SENT: Final[Mapping[str, Sequence[str]]] = {
    topics.KYC: kyc.TYPES,
    topics.PERFORMER: performer.TYPES,
    topics.OTHER: (OTHER_WEBHOOK,),
    topics.COMMANDS: (commands.JOB_QUEUED,),
    topics.CHANGES: tuple(change_events.SOURCES),
} | dict.fromkeys(topics.DEAD_LETTERS, (DEAD_EVENT,))
RECEIVED: Final = (
    (topics.KYC, topics.KYC_WORKER),
    (topics.PERFORMER, topics.SYNC_WORKER),
    (topics.OTHER, topics.SYNC_WORKER),
    (topics.COMMANDS, topics.KYC_WORKER),
    (topics.COMMANDS, topics.SYNC_WORKER),
)


def document() -> Document:
    """The whole description."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SafeVideo's topics",
            "version": "1.0.0",
            "description": "Made by `make asyncapi`. Records follow the CloudEvents 1.0 Kafka binding, binary mode. "
            "The key is Sharegram's performer id, so one performer's records stay in order.",
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic) for topic in topics.RETENTION_DAYS},
        "operations": {**_sending(), **_receiving()},
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channel(topic: str) -> Document:
    retention_ms = topics.RETENTION_DAYS[topic] * 24 * 60 * 60 * 1000
    kafka = {"partitions": topics.PARTITIONS, "topicConfiguration": {"retention.ms": retention_ms}}
    return {
        "address": topic,
        "description": ABOUT[topic],
        "messages": {_slug(name): _ref("messages", _slug(name)) for name in SENT[topic]},
        "bindings": {"kafka": kafka},
    }


def _sending() -> Document:
    return {f"send-{topic}": _operation("send", topic) for topic, names in SENT.items() if names}


def _receiving() -> Document:
    return {f"{service}-receives-{topic}": _operation("receive", topic) for topic, service in RECEIVED}


def _operation(action: str, topic: str) -> Document:
    channel = f"#/channels/{topic}"
    messages = [{"$ref": f"{channel}/messages/{_slug(name)}"} for name in SENT[topic]]
    return {"action": action, "channel": {"$ref": channel}, "messages": messages}


def _messages() -> Document:
    known = {_slug(name): _message(name, _payload(name)) for name in BODIES}
    other = _message(OTHER_WEBHOOK, _webhook({"type": "string"}, {"type": "object"}))
    dead = _message(DEAD_EVENT, {"description": "The bytes of the event, whatever they are."})
    dead["headers"] = _ref("schemas", "DeadLetterHeaders")
    return {**known, _slug(OTHER_WEBHOOK): other, _slug(DEAD_EVENT): dead}


def _message(name: str, payload: Document) -> Document:
    return {"name": name, "headers": _ref("schemas", "EventHeaders"), "payload": payload}


def _payload(event_type: str) -> Document:
    body = _ref("schemas", BODIES[event_type].__name__)
    return body if event_type in OURS else _webhook({"const": event_type}, body)


def _webhook(event: Document, data: Document) -> Document:
    moment = {"type": "string", "format": "date-time"}
    fields = {"id": {"type": "string"}, "event": event, "timestamp": moment, "data": data}
    return {"type": "object", "required": ["event", "timestamp", "data"], "properties": fields}


def _schemas() -> Document:
    shapes = [*dict.fromkeys(BODIES.values()), DeadLetterHeaders, Attributes]
    _, found = msgspec.json.schema_components(
        shapes,
        schema_hook=lambda _: {"description": "Anything."},  # of `object`
        ref_template="#/components/schemas/{name}",
    )
    found = _with_common_patterns(found)
    headers = found.pop("Attributes")
    headers["title"] = "EventHeaders"
    fixed = {"ce_specversion": {"const": "1.0"}, "content-type": {"const": "application/json"}}
    headers["properties"] |= fixed | {"ce_source": {"enum": [SOURCE, *OURS.values()]}}
    return {**found, "EventHeaders": headers}


def _with_common_patterns(schemas: Document) -> dict[str, Any]:
    """Python's marks of beginning and end, in the words of every other reader of patterns."""
    text = json.dumps(schemas).replace(r"\\A", "^").replace(r"\\Z", "$")
    patterned: dict[str, Any] = json.loads(text)
    return patterned


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def as_yaml(made: Document) -> str:
    """The page. What occurs several times is spelled out: a reader of the page follows no anchors."""
    spelled_out: Document = json.loads(json.dumps(made))
    return yaml.safe_dump(spelled_out, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    made = document()
    sys.stdout.write(json.dumps(made) if "--json" in sys.argv else as_yaml(made))
