"""Holds what was told to others, changes and dead letters, against what the log of webhooks demands.

It reads them as a consumer does: of an id that comes again the first one counts.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from safevideo_common.broker.types import Record
from safevideo_testkit.chaos.event_stream import verification_of
from safevideo_testkit.oracle.expected import COLUMN
from safevideo_testkit.oracle.reference_model import DEFAULTS, Expected, Key, first_differences

CHANGES_TOPIC = "integration.events.v1"
DEAD_TOPICS = {"sync-worker.dlq.v1": "sync-worker", "kyc-worker.dlq.v1": "kyc-worker"}
TOLD_TOPICS = (CHANGES_TOPIC, *DEAD_TOPICS)
FIELD = {**COLUMN, "status": "status"}


def differences_told(expected: Expected, records: Sequence[Record]) -> list[str]:
    """`records` are all of `TOLD_TOPICS`, in order within each partition."""
    changes = _first_of_each(record for record in records if record.topic == CHANGES_TOPIC)
    dead = {_id_of_dead(record) for record in records if record.topic in DEAD_TOPICS}
    return [
        *first_differences("changes of", _in_order(changes), expected.changes),
        *first_differences("told performer", _performers(changes), expected.performers),
        *first_differences("told request", _requests(changes), _judged(expected)),
        *first_differences("dead letter", dict.fromkeys(dead, True), dict.fromkeys(expected.dead, True)),
    ]


def repeats_told(records: Sequence[Record]) -> int:
    """Further records of changes that were told before."""
    changes = [record for record in records if record.topic == CHANGES_TOPIC]
    return len(changes) - len(_first_of_each(changes))


def _first_of_each(records: Iterable[Record]) -> Mapping[Key, Record]:
    first: dict[Key, Record] = {}
    for record in records:
        headers = dict(record.headers)
        group = headers["ce_source"].decode().removeprefix("/safevideo/")
        first.setdefault((group, headers["ce_id"].decode()), record)
    return first


def _in_order(changes: Mapping[Key, Record]) -> Mapping[Key, list[str]]:
    found: defaultdict[Key, list[str]] = defaultdict(list)
    for (group, event_id), record in changes.items():
        found[group, record.key.decode()].append(event_id)
    return found


def _performers(changes: Mapping[Key, Record]) -> Mapping[str, Mapping[str, object]]:
    rows: defaultdict[str, dict[str, object]] = defaultdict(lambda: dict(DEFAULTS))
    for (group, _), record in changes.items():
        if group == "sync-worker":
            told = json.loads(record.value)["changes"]
            rows[record.key.decode()] |= {FIELD[name]: value for name, value in told.items()}
    return rows


def _requests(changes: Mapping[Key, Record]) -> Mapping[str, object]:
    told = [json.loads(record.value) for (group, _), record in changes.items() if group == "kyc-worker"]
    return {each["verificationId"]: (each["status"], each["riskScore"]) for each in told}


def _judged(expected: Expected) -> Mapping[str, object]:
    names = [verification_of(performer) for group, performer in expected.changes if group == "kyc-worker"]
    return {name: (expected.requests[name]["status"], expected.requests[name]["risk_score"]) for name in names}


def _id_of_dead(record: Record) -> Key:
    headers = {name: value.decode() for name, value in record.headers if name != "trace"}
    place = f"{headers['dlq_topic']}/{headers['dlq_partition']}/{headers['dlq_offset']}"
    return DEAD_TOPICS[record.topic], headers.get("ce_id", place)
