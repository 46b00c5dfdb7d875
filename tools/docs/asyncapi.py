"""The generator of `docs/asyncapi.yaml` from the structs of `events/`: `make asyncapi` runs it, a test compares both.

With `--json` it prints JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import yaml

from safevideo_common.broker.types import Message
from safevideo_common.domain.kyc import KycStatus
from safevideo_common.events import change_events, commands, kyc, performer, topics
from safevideo_common.events.dead_letters import DeadLetterHeaders
from safevideo_common.events.envelope import SOURCE, Attributes, Envelope

Document = dict[str, object]

ABOUT: Final[Mapping[str, str]] = {
    topics.KYC: "KYC webhooks of Sharegram, byte for byte as received.",
    topics.PERFORMER: "Performer webhooks of Sharegram, byte for byte as received.",
    topics.OTHER: "Webhooks of unknown types, byte for byte as received.",
    topics.COMMANDS: "Commands to the workers. The key is the type of the job. A lost or duplicate message does no "
    "harm: the job is a row, and the workers poll for it too.",
    topics.CHANGES: "Changes that we applied, for other systems: at least once, in order per performer and source. "
    "Source and id together are unique: a duplicate message has the same source and id.",
} | {
    topics.dead_letters_of(group): f"Dead letters of {group}: the key, value and headers of each event that "
    "could not be processed, with further headers for its origin and the reason."
    for group in (topics.KYC_WORKER, topics.SYNC_WORKER)
}

BODIES: Final[Mapping[str, type]] = (
    {
        kyc.COMPLETED: kyc.Verification,
        kyc.FAILED: kyc.Verification,
        performer.PROFILE_UPDATED: performer.PerformerData,
        performer.STATUS_CHANGED: performer.PerformerData,
    }
    | {
        change_events.PERFORMER_CHANGED: change_events.PerformerChange,
        change_events.KYC_CHANGED: change_events.KycChange,
        change_events.KYC_EXPIRING: change_events.KycExpiryWarning,
    }
    | {commands.JOB_QUEUED: commands.JobQueued}
)
"""The type of a webhook's `data`, or of the whole value of a change or command, by event type."""

OTHER_WEBHOOK: Final = "any other webhook"
DEAD_EVENT: Final = "dead event"
INTERNAL_SOURCES: Final = {**change_events.SOURCES, commands.JOB_QUEUED: commands.SOURCE}
"""The source of each event type that is no webhook."""
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
    """Return the whole description."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SafeVideo's topics",
            "version": "1.0.0",
            "description": "Written by `make asyncapi`. Records follow the CloudEvents 1.0 Kafka binding, binary mode. "
            "The key is Sharegram's performer id, so the records of one performer stay in order.",
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
    messages = {_slug(name): _message(name, _payload(name)) for name in BODIES}
    for name, example in _change_examples().items():
        headers = {key: value.decode() for key, value in example.headers}
        messages[name]["examples"] = [{"headers": headers, "payload": json.loads(example.value)}]
    other = _message(OTHER_WEBHOOK, _webhook({"type": "string"}, {"type": "object"}))
    dead = _message(DEAD_EVENT, {"description": "The bytes of the event, unchanged."})
    dead["headers"] = _ref("schemas", "DeadLetterHeaders")
    return {**messages, _slug(OTHER_WEBHOOK): other, _slug(DEAD_EVENT): dead}


def _message(name: str, payload: Document) -> Document:
    return {"name": name, "headers": _ref("schemas", "EventHeaders"), "payload": payload}


def _change_examples() -> Mapping[str, Message]:
    """Return a change of each type, as the code encodes it."""
    at = datetime(2026, 11, 24, 20, 58, 25, tzinfo=UTC)
    profile = Envelope("evt_1007", performer.PROFILE_UPDATED, at, "sg_ada", "0f8fad5bd9cb469fa16570867728950e")
    result = profile._replace(id="evt_1008", type=kyc.COMPLETED)
    fields = {"displayName": "Ada Bright", "bio": None}
    return {
        change_events.PERFORMER_CHANGED: change_events.performer_changed(
            profile,
            change_events.PerformerChange(
                "sg_ada", fields, 1_764_017_905_000_000, 9, at, change_events.Cause.of(profile)
            ),
        ),
        change_events.KYC_CHANGED: change_events.kyc_changed(
            result,
            change_events.KycChange(
                performer_id="sg_ada",
                kyc_request_id=123,
                verification_id="ver_1",
                status=KycStatus.VERIFIED,
                previous_status=KycStatus.IN_PROGRESS,
                risk_score=93.0,
                sequence=1_764_017_905_000_001,
                version=None,
                at=at,
                caused_by=change_events.Cause.of(result),
            ),
        ),
    }


def _payload(event_type: str) -> Document:
    body = _ref("schemas", BODIES[event_type].__name__)
    return body if event_type in INTERNAL_SOURCES else _webhook({"const": event_type}, body)


def _webhook(event: Document, data: Document) -> Document:
    timestamp = {"type": "string", "format": "date-time"}
    fields = {"id": {"type": "string"}, "event": event, "timestamp": timestamp, "data": data}
    return {"type": "object", "required": ["event", "timestamp", "data"], "properties": fields}


def _schemas() -> Document:
    types = [*dict.fromkeys(BODIES.values()), change_events.ChangedFields, DeadLetterHeaders, Attributes]
    _, schemas = msgspec.json.schema_components(
        types,
        schema_hook=lambda _: {"description": "Anything."},  # of `object`
        ref_template="#/components/schemas/{name}",
    )
    schemas = _with_common_patterns(schemas)
    schemas["PerformerChange"]["properties"]["changes"] = _ref("schemas", "ChangedFields")
    headers = schemas.pop("Attributes")
    headers["title"] = "EventHeaders"
    fixed = {"ce_specversion": {"const": "1.0"}, "content-type": {"const": "application/json"}}
    headers["properties"] |= fixed | {"ce_source": {"enum": [SOURCE, *INTERNAL_SOURCES.values()]}}
    return {**schemas, "EventHeaders": headers}


def _with_common_patterns(schemas: Document) -> dict[str, Any]:
    """Return the schemas with the anchors of JSON Schema patterns instead of those of Python."""
    text = json.dumps(schemas).replace(r"\\A", "^").replace(r"\\Z", "$")
    patterned: dict[str, Any] = json.loads(text)
    return patterned


def _ref(kind: str, name: str) -> Document:
    return {"$ref": f"#/components/{kind}/{name}"}


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def as_yaml(description: Document) -> str:
    """Return the page. YAML anchors are expanded: a reader of the page follows none."""
    expanded: Document = json.loads(json.dumps(description))
    return yaml.safe_dump(expanded, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    description = document()
    sys.stdout.write(json.dumps(description) if "--json" in sys.argv else as_yaml(description))
