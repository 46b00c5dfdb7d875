"""What a worker adds to the loop: how to read its events, and what they do to its states."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message, Record
from safevideo_common.domain.outcomes import Outcome, dead
from safevideo_common.events.envelope import Envelope, EnvelopeInvalid, parse_headers

# One event as it reached this group: the envelope, the body, and where in the log it stands.


class Delivery(NamedTuple):
    """What a handler decides on."""

    envelope: Envelope
    body: bytes
    topic: str
    partition: int
    offset: int
    received_at: datetime
    """When the door published it."""
    fault: Outcome | None = None
    """Set when the record is no event at all; the envelope is then made up from its place in the log."""
    record: Record | None = None
    """As it was read; of an event that waited in the inbox only what this delivery says is left."""


def delivery_of(record: Record) -> Delivery:
    """The delivery that `record` carries. Never raises: a record without a readable envelope has a `fault`."""
    received_at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    try:
        envelope, fault = parse_headers(record.headers), None
    except EnvelopeInvalid as error:
        place = f"{record.topic}/{record.partition}/{record.offset}"
        envelope = Envelope(id=place, type="unreadable", time=received_at)
        fault = dead("ENVELOPE_INVALID", str(error))
    return Delivery(envelope, record.value, record.topic, record.partition, record.offset, received_at, fault, record)


Event = TypeVar("Event")
States = TypeVar("States")


class EventHandler(Protocol[Event, States]):
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


# What a handler adds so that its events can be replayed.


Differences = Mapping[str, tuple[object, object]]
"""By field: what it was, and what it is. Values that JSON has."""


class ReplayableHandler(EventHandler[Event, States], Protocol[Event, States]):
    """A handler that decides by stamps: an event that is applied again changes nothing that a newer one wrote."""

    async def foresee(self, reading: AsyncConnection, events: Sequence[Event], earlier: States | None) -> States:
        """The states that `events` are about, without locks; those that `earlier` has stay as they were decided."""
        ...

    def corrections(self, states: States) -> Sequence[Message]:
        """Of `changes` what gave a field another value: the rest was told when it was applied first. Pure."""
        ...

    def differences(self, states: States) -> Mapping[str, Differences]:
        """By performer, what `decide` has made of the states in all; only what is not as it was. Pure."""
        ...
