"""The secrets that sign webhooks: those of the environment and, encrypted, those of the database.

Requests read a tuple in memory (`KeyRing`). Two background tasks synchronize it with the database: `SecretRefresher`
reads the valid secrets, and `SecretUsageRecorder` writes the last use of each. While the database is unavailable both
wait, and the last loaded secrets stay valid.
"""

from webhook_ingest.secrets.key_ring import KeyRing, StoredSecret
from webhook_ingest.secrets.refresher import SecretRefresher
from webhook_ingest.secrets.usage import SecretUsageRecorder

__all__ = ["KeyRing", "SecretRefresher", "SecretUsageRecorder", "StoredSecret"]
