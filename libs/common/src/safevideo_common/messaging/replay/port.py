"""What a handler adds so that its events can be replayed."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.messaging.consuming.handler import Event, Handler, States
from safevideo_common.messaging.port import Message

Differences = Mapping[str, tuple[object, object]]
"""By field: what it was, and what it is. Values that JSON has."""


class Replayable(Handler[Event, States], Protocol[Event, States]):
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
