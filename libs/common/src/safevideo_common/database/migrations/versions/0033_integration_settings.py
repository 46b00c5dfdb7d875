"""The configuration of an integration: its keys, its parts that are on, the interval of its syncs."""

from sqlalchemy import Boolean, Column, Integer, LargeBinary, String

from safevideo_common.database.dialect import UtcDateTime
from safevideo_common.database.migrations.operations import add_column

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    add_column("integrations", Column("configured_at", UtcDateTime))
    add_column("integrations", Column("credentials", LargeBinary(2048)))
    add_column("integrations", Column("webhook_url", String(1024)))
    add_column("integrations", Column("is_sso_enabled", Boolean))
    add_column("integrations", Column("is_kyc_enabled", Boolean))
    add_column("integrations", Column("sync_interval_seconds", Integer))
