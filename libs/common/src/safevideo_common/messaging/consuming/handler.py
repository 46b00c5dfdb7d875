"""What a worker adds to the loop: how to read its events, and what they do to its states."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.domain.outcomes import Outcome
from safevideo_common.messaging.consuming.delivery import Delivery
from safevideo_common.messaging.port import Message

Event = TypeVar("Event")
States = TypeVar("States")


class Handler(Protocol[Event, States]):
    """The steps of a batch, called in this order. Only `load` and `store` touch the database, once each."""

    def parse(self, delivery: Delivery) -> Event | Outcome:
        """The event in the body; or an outcome at once for what is faulty (`dead`) or not known here (`ignored`)."""
        ...

    async def load(self, tx: AsyncConnection, events: Sequence[Event]) -> States:
        """The states that `events` are about, locked until the transaction ends. Redelivered events are among them."""
        ...

    def decide(self, states: States, event: Event) -> Outcome:
        """Apply one event to the states in memory. Pure but for `states`: no clock, no network, no database."""
        ...

    async def store(self, tx: AsyncConnection, states: States) -> None:
        """Write the states that `decide` changed."""
        ...

    def changes(self, states: States) -> Sequence[Message]:
        """What to tell others of the events that were applied to `states`, one message each, in that order. Pure."""
        ...

    async def after_commit(self, states: States) -> None:
        """What must follow a commit, like dropping cached values. Must not raise.

        Called after a redelivery too, and after a commit that may not have been: its answer was lost.
        """
        ...
