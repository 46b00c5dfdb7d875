"""One consumer group's parts, and what it says about the events that it has dealt with."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic

from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.domain.outcomes import Outcome, Status, dead
from safevideo_common.errors import SafeVideoError
from safevideo_common.messaging.consuming.dead_share import DeadShare
from safevideo_common.messaging.consuming.handler import Event, Handler, States
from safevideo_common.messaging.consuming.live_lag import LiveLag
from safevideo_common.messaging.consuming.metrics import ConsumerMetrics
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.resilience.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Consumer(Generic[Event, States]):
    """What the live flow and the retries of one group share."""

    group: str
    handler: Handler[Event, States]
    database: Database
    retry: Backoff
    """Of events that must wait, in seconds."""
    clock: Clock
    log: FilteringBoundLogger
    metrics: ConsumerMetrics
    dead_share: DeadShare
    outbox_stirred: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the outbox has got something to relay."""
    lag: LiveLag = field(default_factory=LiveLag)

    def report(self, decided: Sequence[tuple[str, Outcome]], duplicates: int = 0) -> None:
        """Count and log what is committed: event ids with what became of them. Each death is an error line."""
        outcomes = [outcome for _, outcome in decided]
        self.dead_share.note(asyncio.current_task(), outcomes)
        for event_id, outcome in decided:
            if outcome.status is Status.DEAD:
                self.log.error("Event is dead", code=outcome.code, event_id=event_id, reason=outcome.reason)
        self.metrics.decided(outcomes, duplicates)


def verdict_on(error: Exception) -> Outcome:
    """`dead`, with the error's own code and message where those are fit to be shown, else with its kind alone."""
    if isinstance(error, SafeVideoError):
        return dead(error.code, error.message)
    return dead("HANDLER_FAILED", type(error).__name__)
