"""The index by which a performer of Sharegram leads to an account: each lock of a person reads it."""

from safevideo_common.database.migrations.operations import create_index

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    create_index("idx_user_identities_subject", "user_identities", "subject")
