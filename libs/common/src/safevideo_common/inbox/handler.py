"""The interface of a worker to the inbox: it parses events, decides them and stores their effect."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message, Record
from safevideo_common.domain.outcomes import Outcome, dead
from safevideo_common.events.envelope import Envelope, EnvelopeInvalid, parse_headers


class Delivery(NamedTuple):
    """A record of the broker as a handler gets it: the envelope, the body, and the record's position."""

    envelope: Envelope
    body: bytes
    topic: str
    partition: int
    offset: int
    received_at: datetime
    """The time at which webhook-ingest published the record."""
    fault: Outcome | None = None
    """Set if the record is not an event. The envelope then has the record's position as its id."""
    record: Record | None = None
    """The record itself. None for a retried event: the inbox keeps only what this delivery has."""


def delivery_of(record: Record) -> Delivery:
    """Return the delivery of `record`. Never raise: a record without a valid envelope gets a `fault`."""
    try:
        if record.unreadable:
            raise EnvelopeInvalid(record.unreadable)
        envelope, fault = parse_headers(record.headers), None
    except EnvelopeInvalid as error:
        envelope, fault = _positional_envelope(record), dead("ENVELOPE_INVALID", str(error))
    return Delivery(
        envelope, record.value, record.topic, record.partition, record.offset, record.published_at, fault, record
    )


def without_envelope(delivery: Delivery) -> Delivery:
    """Return the delivery with an envelope made of its position: the database takes it, whatever the record has."""
    return delivery._replace(envelope=_positional_envelope(delivery))


def _positional_envelope(source: Record | Delivery) -> Envelope:
    at = source.published_at if isinstance(source, Record) else source.received_at
    return Envelope(id=f"{source.topic}/{source.partition}/{source.offset}", type="unreadable", time=at)


Event = TypeVar("Event")
States = TypeVar("States")


class EventHandler(Protocol[Event, States]):
    """The steps of a batch, called in this order. Only `load` and `store` use the database, once each."""

    def parse(self, delivery: Delivery) -> Event | Outcome:
        """Return the event in the body, or `dead` for an invalid body, or `ignored` for an unknown type."""
        ...

    async def load(self, tx: AsyncConnection, events: Sequence[Event]) -> States:
        """Load and lock the states that `events` change. Redelivered events are among them."""
        ...

    async def locked(self, tx: AsyncConnection, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events whose states another transaction has locked now. Wait for no lock."""
        ...

    def decide(self, states: States, event: Event) -> Outcome:
        """Apply one event to the states in memory. Use no clock, network or database."""
        ...

    async def store(self, tx: AsyncConnection, states: States) -> None:
        """Write the states that `decide` changed."""
        ...

    def changes(self, states: States) -> Sequence[Message]:
        """Return one change message for each event that was applied to `states`, in that order. Pure."""
        ...

    async def after_commit(self, states: States) -> None:
        """Do what must follow a commit, such as cache invalidation. Must not raise.

        It is also called after a redelivery, and if the result of a commit is unknown.
        """
        ...


Differences = Mapping[str, tuple[object, object]]
"""The value before and the value after, by field. The values are JSON values."""


class ReplayableHandler(EventHandler[Event, States], Protocol[Event, States]):
    """A handler whose events can be replayed: `decide` compares write versions, so it never overwrites newer values."""

    async def load_for_preview(
        self, connection: AsyncConnection, events: Sequence[Event], earlier: States | None
    ) -> States:
        """Load the states that `events` change, without locks. States in `earlier` stay as they were decided."""
        ...

    def corrections(self, states: States) -> Sequence[Message]:
        """Return the `changes` that gave a field another value. The others were published before. Pure."""
        ...

    def diff(self, states: States) -> Mapping[str, Differences]:
        """Return by performer what `decide` has changed in all, without fields that are as before. Pure."""
        ...
