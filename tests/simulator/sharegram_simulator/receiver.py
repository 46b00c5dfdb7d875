"""The integration's side as Sharegram knows it: where its webhooks go, how they are signed, which it wants."""

from dataclasses import dataclass

from sharegram_simulator.signing import SchemeName


@dataclass(slots=True)
class Receiver:
    """Changed by `POST /v1/webhooks` (address and events) and `PUT /_sim/webhook-secret`; read at every try."""

    url: str
    secret: str
    scheme: SchemeName
    events: frozenset[str] | None = None
    """The types that are sent; None sends all."""

    def wants(self, event_type: str) -> bool:
        """Return True if the integration registered for this type."""
        return self.events is None or event_type in self.events
