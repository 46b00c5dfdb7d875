"""Accounts that are merged have their own values again: what their root has is derived from now on.

Earlier merges moved rows to the primary account, and wrote into it what the duplicate had. Each that still stands is
taken back, the last one first, but for `merged_into`. Its record then holds no e-mail any more.
"""

from typing import Any

from alembic import op
from sqlalchemy import JSON, Connection, column, select, table, update

revision = "0052"
down_revision = "0051"

_FIELDS = ("username", "display_name", "profile_image", "sharegram_id", "email", "is_email_verified", "role")
_users = table("users", column("id"), column("merged_into"), column("merged_email"), *map(column, _FIELDS))
_references = (
    (table("user_identities", column("id"), column("user_id")), "user_id"),
    (_users, "merged_into"),
    (table("legal_holds", column("id"), column("user_id")), "user_id"),
)
_names = ("id", "primary_id", "duplicate_id", "unmerged_at")
_merges = table("user_merges", *map(column, _names), column("moved", JSON))


def upgrade() -> None:
    connection, c = op.get_bind(), _merges.c
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
