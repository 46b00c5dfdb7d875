"""What the quarantine counts."""

from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from safevideo_common.database.rejected_bounds import Held

Outcome = Literal[
    "kept", "repeated", "over_address_limit", "queue_full", "database_away", "unstorable", "evicted", "expired"
]


class QuarantineMetrics:
    """Refused webhooks that look like ours, by what became of them, and how much is held."""

    def __init__(self, registry: CollectorRegistry) -> None:
        webhooks = Counter(
            "safevideo_quarantined_webhooks",
            "Refused webhooks by what became of them: kept, repeated (counted in the row of the first), dropped "
            "(over_address_limit, queue_full, database_away, unstorable), or removed again (evicted, expired).",
            ("outcome",),
            registry=registry,
        )
        self._webhooks: Final = {outcome: webhooks.labels(outcome) for outcome in get_args(Outcome)}
        self._rows = Gauge("safevideo_quarantine_rows", "Webhooks in quarantine.", registry=registry)
        self._bytes = Gauge("safevideo_quarantine_bytes", "Bytes of their bodies before encryption.", registry=registry)

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """So many more."""
        self._webhooks[outcome].inc(number)

    def held(self, held: Held) -> None:
        """How much there is now."""
        self._rows.set(held.rows)
        self._bytes.set(held.bytes)
