"""The keys of one client."""

from safevideo_common.database.migrations.operations import create_index

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    create_index("idx_api_keys_client", "api_keys", "client")
