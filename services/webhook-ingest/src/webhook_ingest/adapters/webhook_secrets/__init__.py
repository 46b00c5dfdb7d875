"""The secrets that webhooks are signed with: from the environment and, encrypted, from the database.

Requests read a tuple in memory (`SecretRing`). Two background tasks keep it and the database in step: `SecretRefresh`
reads what is valid, `SecretUses` writes when each was last used. With the database away both wait, and the last known
set goes on.
"""

from webhook_ingest.adapters.webhook_secrets.refresh import SecretRefresh
from webhook_ingest.adapters.webhook_secrets.ring import KeptSecret, SecretRing
from webhook_ingest.adapters.webhook_secrets.uses import SecretUses

__all__ = ["KeptSecret", "SecretRefresh", "SecretRing", "SecretUses"]
