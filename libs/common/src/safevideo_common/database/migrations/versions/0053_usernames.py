"""The index by which operators find an account by its username."""

from safevideo_common.database.migrations.operations import create_index

revision = "0053"
down_revision = "0052"


def upgrade() -> None:
    create_index("idx_users_username", "users", "username")
