"""The metrics of the gateway, except those of its HTTP requests."""

from typing import Literal

from prometheus_client import CollectorRegistry

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.metric import counter

Source = Literal["cache", "database"]


SignInOutcome = Literal["signed_in", "refused", "unavailable"]


class GatewayMetrics:
    """The number of performers read by source, of sign-ins by outcome, and of refused requests by code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._performer_reads = counter(metric_catalog.PERFORMER_READS, registry)
        self._sign_ins = counter(metric_catalog.SIGN_INS, registry)
        self._requests_refused = counter(metric_catalog.REQUESTS_REFUSED, registry)

    def performer_read(self, source: Source) -> None:
        """Count one performer that was found."""
        self._performer_reads.labels(source).inc()

    def sign_in(self, provider: str, outcome: SignInOutcome) -> None:
        """Count one sign-in. `provider` is one of the configured ones."""
        self._sign_ins.labels(provider, outcome).inc()

    def request_refused(self, code: str) -> None:
        """Count one request that was refused because of its caller."""
        self._requests_refused.labels(code).inc()
