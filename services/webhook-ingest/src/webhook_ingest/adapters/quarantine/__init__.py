"""The quarantine in the database: a bounded intake, and one task that writes what it holds.

The request's way ends at `offer`: a few look-ups and a place in a queue. Everything else (digests, encryption, the
database) is one task's business, which writes `BATCH_ROWS` at a time and pauses in between. So a flood costs the good
requests the same small share of the processor whatever its size, and a database that is away costs them nothing.
"""

from webhook_ingest.adapters.quarantine.intake import Intake
from webhook_ingest.adapters.quarantine.metrics import QuarantineMetrics
from webhook_ingest.adapters.quarantine.writer import DatabaseQuarantine

__all__ = ["DatabaseQuarantine", "Intake", "QuarantineMetrics"]
