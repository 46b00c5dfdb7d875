"""How events are shown: tables for people, documents like those of the API for scripts."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.output import minute, sentence
from safevideo_common.inbox.redrive import RedriveReport
from safevideo_common.inbox.store.queries import InboxRecord, event_document


def document_with_payload(event: InboxRecord) -> dict[str, object]:
    """Return an event as the API shows it, and its payload, which is personal data."""
    payload = None if event.payload is None else event.payload.decode(errors="replace")
    return event_document(event) | {"payload": payload}


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
