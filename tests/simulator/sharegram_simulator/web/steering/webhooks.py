"""Webhooks by hand: sent at once, well made or spoilt, with the receiver's answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final, Self

from aiohttp import web
from multidict import CIMultiDict
from pydantic import AwareDatetime, Field, model_validator

from sharegram_simulator.clock import utc_now
from sharegram_simulator.delivery import DeliveryLog, Try
from sharegram_simulator.errors import Invalid
from sharegram_simulator.outgoing import Forgery, Outgoing, compose
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.sender import Sender
from sharegram_simulator.signing import SchemeName
from sharegram_simulator.web.answers import Json, Wire, json_answer, read_json
from sharegram_simulator.webhooks import Event, new_event_id

RAW: Final = "raw"
KEPT_BYTES: Final = 16_384
"""Of an event that is larger than this, only the beginning of its name and id are remembered."""
KEPT_CHARACTERS: Final = 128


class WebhookOrder(Wire):
    """A webhook to send. An absent `id` is made up; an `id` of null sends a body and headers without one."""

    event: Annotated[str, Field(max_length=10_000)] = RAW
    data: dict[str, Json] = Field(default_factory=dict)
    timestamp: AwareDatetime | None = None
    id: Annotated[str, Field(max_length=20_000)] | None = None
    version: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Put into `data`."""
    scheme: SchemeName | None = None
    forge: bool | Forgery = False
    """True forges the signature."""
    times: Annotated[int, Field(ge=1, le=100)] = 1
    raw_body: Annotated[str, Field(max_length=4 << 20)] | None = None
    """Sent and signed instead of the JSON that the other fields make."""
    headers: dict[str, str | None] = Field(default_factory=dict)
    """Set last; null takes a header away."""

    @model_validator(mode="after")
    def _something_to_send(self) -> Self:
        if self.raw_body is None and "event" not in self.model_fields_set:
            raise ValueError("event is required without rawBody")
        return self

    def as_event(self) -> Event:
        """Return the event of the webhook."""
        data = self.data if self.version is None else self.data | {"version": self.version}
        event_id = self.id if "id" in self.model_fields_set else new_event_id()
        return Event(self.event, data, self.timestamp or utc_now(), event_id)

    def forgery(self) -> Forgery | None:
        """Return the kind of forgery, or None."""
        if isinstance(self.forge, bool):
            return "signature" if self.forge else None
        return self.forge


class WebhookSteering:
    """`POST /_sim/webhooks`."""

    def __init__(self, sender: Sender, receiver: Receiver, deliveries: DeliveryLog) -> None:
        self._sender = sender
        self._receiver = receiver
        self._deliveries = deliveries

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/_sim/webhooks", self.send)]

    async def send(self, request: web.Request) -> web.Response:
        """Send at once, `times` times one after the other, past the queue and without retries; show the answers."""
        order = await read_json(request, WebhookOrder)
        event, begun = order.as_event(), utc_now()
        tries = [
            await self._sender.post(self._receiver.url, self._outgoing(order, event, number))
            for number in range(order.times)
        ]
        delivery = self._deliveries.open(_kept(event), begun)
        delivery.tries.extend(tries)
        self._deliveries.finish(delivery, "delivered" if tries[-1].accepted else "failed")
        return json_answer({"id": event.id, "answers": _shown(tries)})

    def _outgoing(self, order: WebhookOrder, event: Event, number: int) -> Outgoing:
        body = event.body() if order.raw_body is None else order.raw_body.encode()
        scheme = order.scheme or self._receiver.scheme
        try:
            outgoing = compose(body, event.id, self._receiver.secret, utc_now(), scheme, order.forgery(), number)
        except ValueError as error:
            raise Invalid("The webhook cannot be signed.", details={"id": str(error)}) from None
        return _with_headers(outgoing, order)


def _kept(event: Event) -> Event:
    if len(event.body()) <= KEPT_BYTES:
        return event
    return replace(event, type=event.type[:KEPT_CHARACTERS], data={}, id=event.id and event.id[:KEPT_CHARACTERS])


def _with_headers(outgoing: Outgoing, order: WebhookOrder) -> Outgoing:
    headers = CIMultiDict(outgoing.headers)
    for name, value in order.headers.items():
        headers.popall(name, None)
        if value is not None:
            headers[name] = value
    return Outgoing(headers, outgoing.body)


def _shown(tries: Sequence[Try]) -> list[dict[str, object]]:
    return [attempt.as_json() for attempt in tries]
