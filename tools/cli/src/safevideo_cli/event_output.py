"""How events are shown: tables for people, documents like those of the API for scripts."""

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.output import minute, sentence
from safevideo_common.clock import rfc3339
from safevideo_common.inbox.redrive import RedriveReport
from safevideo_common.inbox.store.queries import InboxRecord


def event_document(event: InboxRecord, *, with_payload: bool = False) -> dict[str, object]:
    """An event as the API shows it; its payload is personal data, and only there when it is asked for."""
    document: dict[str, object] = {
        "id": event.row_id,
        "eventId": event.event_id,
        "type": event.event_type,
        "performerId": event.performer_id,
        "status": event.status,
        "reason": event.reason,
        "tries": event.tries,
        "nextTryAt": _moment(event.next_try_at),
        "duplicates": event.duplicates,
        "occurredAt": _moment(event.occurred_at),
        "receivedAt": _moment(event.received_at),
        "decidedAt": _moment(event.decided_at),
        "consumerGroup": event.consumer_group,
        "topic": event.log_topic,
        "partition": event.log_partition,
        "offset": event.log_offset,
        "requestId": event.request_id,
    }
    if with_payload:
        document["payload"] = None if event.payload is None else event.payload.decode(errors="replace")
    return document


def event_table(events: Sequence[InboxRecord]) -> Table:
    """One line an event."""
    columns = "id", "event", "type", "performer", "status", "tries", "received (UTC)"
    table = Table(*columns, sentence("reason"), box=SIMPLE_HEAD)
    for event in events:
        names = event.event_id, event.event_type, event.performer_id or ""
        fate = event.status, str(event.tries), minute(event.received_at), event.reason or ""
        table.add_row(str(event.row_id), *names, *fate)
    return table


def report_table(report: RedriveReport) -> Table:
    """What matched, by type, reason and group."""
    table = Table("events", "can be taken up", "type", "reason", "group", box=SIMPLE_HEAD)
    for tally in report.tallies:
        table.add_row(str(tally.events), str(tally.redrivable), tally.event_type, tally.code, tally.group)
    return table


def _moment(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)
