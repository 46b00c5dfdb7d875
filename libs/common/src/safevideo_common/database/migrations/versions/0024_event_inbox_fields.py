"""Why an event changed what it did: its version, the fields that it won, and the writes that own those it lost."""

from sqlalchemy import Column, String

from safevideo_common.database.dialect import BigId, JsonDocument
from safevideo_common.database.migrations.operations import add_column

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    add_column("event_inbox", Column("event_version", BigId))
    add_column("event_inbox", Column("fields_won", String(255)))
    add_column("event_inbox", Column("fields_overtaken", JsonDocument))
