"""The secrets that webhooks are signed with: from the environment and, encrypted, from the database.

Requests read a tuple in memory (`KeyRing`). Two background tasks keep it and the database in step: `SecretRefresher`
reads what is valid, `SecretUsageRecorder` writes when each was last used. While the database is
unavailable both wait, and the last known
set goes on.
"""

from webhook_ingest.secrets.key_ring import KeyRing, StoredSecret
from webhook_ingest.secrets.refresher import SecretRefresher
from webhook_ingest.secrets.usage import SecretUsageRecorder

__all__ = ["KeyRing", "SecretRefresher", "SecretUsageRecorder", "StoredSecret"]
