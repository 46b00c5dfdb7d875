"""What the quarantine counts."""

from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter, gauge
from safevideo_common.quarantine.limits import QuarantineUsage

Outcome = Literal[
    "kept", "repeated", "over_address_limit", "queue_full", "database_away", "unstorable", "evicted", "expired"
]


class QuarantineMetrics:
    """Refused webhooks that look like ours, by what became of them, and how much is held."""

    def __init__(self, registry: CollectorRegistry) -> None:
        webhooks = counter(metric_catalog.QUARANTINED_WEBHOOKS, registry)
        self._webhooks: Final = {outcome: webhooks.labels(outcome) for outcome in get_args(Outcome)}
        self._rows = gauge(metric_catalog.QUARANTINE_ROWS, registry)
        self._bytes = gauge(metric_catalog.QUARANTINE_BYTES, registry)

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """So many more."""
        self._webhooks[outcome].inc(number)

    def held(self, held: QuarantineUsage) -> None:
        """How much there is now."""
        self._rows.set(held.rows)
        self._bytes.set(held.bytes)
