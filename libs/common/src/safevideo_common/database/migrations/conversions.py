"""Conversions of rows. Each finds nothing to do in a second run: one that was cut off is finished by the next."""

from typing import Any, Final

from sqlalchemy import JSON, Connection, column, select, table, text, update

_COPY: Final = """
INSERT INTO legal_hold_subjects (hold_id, kind, identifier, released_at)
SELECT legal_holds.id, '{kind}', {value}, legal_holds.released_at FROM legal_holds
WHERE legal_holds.{column} IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM legal_hold_subjects AS there WHERE there.hold_id = legal_holds.id AND there.kind = '{kind}'
)
"""
_FIELDS = ("username", "display_name", "profile_image", "sharegram_id", "email", "is_email_verified", "role")
_users = table("users", column("id"), column("merged_into"), column("merged_email"), *map(column, _FIELDS))
_references = (
    (table("user_identities", column("id"), column("user_id")), "user_id"),
    (_users, "merged_into"),
    (table("legal_holds", column("id"), column("user_id")), "user_id"),
)
_names = ("id", "primary_id", "duplicate_id", "unmerged_at")
_merges = table("user_merges", *map(column, _names), column("moved", JSON))


def copy_hold_subjects(connection: Connection) -> None:
    """Name the subjects of earlier holds: the two identifiers that their rows have."""
    number = "CAST(user_id AS CHAR)"
    connection.execute(text(_COPY.format(kind="user", value=number, column="user_id")))
    connection.execute(text(_COPY.format(kind="performer", value="performer_id", column="performer_id")))


def start_applied_orders(connection: Connection) -> None:
    """Mark orders as started that were applied before it was recorded."""
    connection.execute(text("UPDATE erasure_orders SET started_at = applied_at WHERE started_at IS NULL"))


def take_back_merges(connection: Connection) -> None:
    """Take back what earlier merges moved to the primary account and wrote into it, the last one first.

    The accounts stay merged. Their records hold no e-mail any more.
    """
    c = _merges.c
    for merge_id, primary_id, duplicate_id, unmerged_at, record in connection.execute(
        select(c.id, c.primary_id, c.duplicate_id, c.unmerged_at, c.moved).order_by(c.id.desc())
    ).all():
        if "rows" not in record:
            continue  # an earlier run of this migration has taken it back
        if unmerged_at is None:
            _take_back(connection, primary_id, duplicate_id, record)
        connection.execute(update(_merges).where(c.id == merge_id).values(moved={}))


def _take_back(connection: Connection, primary_id: int, duplicate_id: int, record: dict[str, Any]) -> None:
    for target, name in _references:
        row_ids = record["rows"].get(f"{target.name}.{name}", ())
        moved = (target.c.id.in_(row_ids), target.c[name] == primary_id)
        connection.execute(update(target).where(*moved).values({name: duplicate_id}))
    c = _users.c
    for name, (before, after) in record["fields"].items():
        own = f"none:{primary_id}" if name == "email" and before is None else before
        unchanged = (c.id == primary_id, c[name] == after)
        connection.execute(update(_users).where(*unchanged).values({name: own}))
    email = record.get("email") or ""
    mine = (c.id == duplicate_id, c.merged_into.is_not(None))
    connection.execute(update(_users).where(*mine).values(merged_email=email if "@" in email else None))
