"""The capture of rejected webhooks for the quarantine table: a bounded queue, and one task that writes to the database.

A request only does a few look-ups and an append to a queue (`QuarantineQueue`). One task (`QuarantineWriter`) does the
rest: digests, encryption, database. It writes `BATCH_ROWS` at a time and pauses in between. So a flood of any size
costs good requests the same small share of the CPU, and an unavailable database costs them nothing.
"""

from webhook_ingest.quarantine.queue import QuarantineMetrics, QuarantineQueue, RejectedWebhook
from webhook_ingest.quarantine.writer import QuarantineWriter

__all__ = ["QuarantineMetrics", "QuarantineQueue", "QuarantineWriter", "RejectedWebhook"]
