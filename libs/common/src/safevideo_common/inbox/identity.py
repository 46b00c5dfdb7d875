"""The identity of an event: which row of the inbox a delivery belongs to.

- The same id and the same bytes: a further delivery of the event.
- The same id and other bytes: a conflict. It is an event of its own with a row of its own, which is dead.
- Another id and the same bytes: two events. But if nobody signed the id, anyone can send the bytes again under another
  one, so they are one event.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.domain.outcomes import dead
from safevideo_common.events.envelope import id_with_suffix
from safevideo_common.inbox.handler import Delivery
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import ExistingRow

ID_CONFLICT: Final = dead("ID_CONFLICT", "another event came with this id before, and its body differs")
CONFLICT_DIGITS: Final = 16
"""Of the digest, in the id of the row of a conflict."""


class IdentifiedBatch(NamedTuple):
    """Deliveries whose envelope has the id of their inbox row, and the rows that exist."""

    deliveries: Sequence[Delivery]
    existing: dict[str, ExistingRow]
    """The rows that the inbox has, by event id."""


def body_digest(delivery: Delivery) -> str:
    """Return the SHA-256 of the body, in hex."""
    return sha256(delivery.body).hexdigest()


async def identify(connection: AsyncConnection, group: str, deliveries: Sequence[Delivery]) -> IdentifiedBatch:
    """Find the rows of the deliveries. A conflict gets the id of its own row, and `ID_CONFLICT` as its fault.

    A row without a digest, of an earlier release, conflicts with nothing.
    """
    digests = [body_digest(each) for each in deliveries]
    unsigned = [digest for digest, each in zip(digests, deliveries, strict=True) if not each.envelope.is_id_signed]
    rows = await inbox_rows.existing_rows(connection, group, (each.envelope.id for each in deliveries))
    same_bodies = await inbox_rows.rows_of_bodies(connection, group, unsigned) if unsigned else []
    digest_by_id = {row.event_id: row.body_sha256 for row in rows}
    id_by_body = {row.body_sha256: row.event_id for row in same_bodies}
    identified: list[Delivery] = []
    conflicts: list[str] = []
    for digest, delivery in zip(digests, deliveries, strict=True):
        event_id, is_signed = delivery.envelope.id, delivery.envelope.is_id_signed
        found = None if is_signed else id_by_body.get(digest)
        is_conflict = found is None and digest_by_id.setdefault(event_id, digest) not in {digest, None}
        row_id = found or (id_with_suffix(event_id, f"#{digest[:CONFLICT_DIGITS]}") if is_conflict else event_id)
        if not is_signed:
            id_by_body.setdefault(digest, row_id)
        if is_conflict:
            conflicts.append(row_id)
            delivery = delivery._replace(fault=ID_CONFLICT)  # noqa: PLW2901
        if row_id != event_id:
            delivery = delivery._replace(envelope=delivery.envelope._replace(id=row_id))  # noqa: PLW2901
        identified.append(delivery)
    if conflicts:
        rows += await inbox_rows.existing_rows(connection, group, conflicts)
    return IdentifiedBatch(identified, {row.event_id: row for row in (*rows, *same_bodies)})
