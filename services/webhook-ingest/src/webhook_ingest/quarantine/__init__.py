"""The quarantine in the database: a bounded intake, and one task that writes what it holds.

The request's way ends at `offer`: a few look-ups and a place in a queue. Everything else (digests, encryption, the
database) is one task's business, which writes `BATCH_ROWS` at a time and pauses in between. So a flood costs the good
requests the same small share of the processor whatever its size, and a database that is away costs them nothing.
"""

from webhook_ingest.quarantine.metrics import QuarantineMetrics
from webhook_ingest.quarantine.queue import QuarantineQueue
from webhook_ingest.quarantine.writer import DatabaseQuarantine

__all__ = ["DatabaseQuarantine", "QuarantineMetrics", "QuarantineQueue"]
