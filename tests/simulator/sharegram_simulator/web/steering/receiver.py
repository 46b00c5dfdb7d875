"""The integration's side as Sharegram knows it, changed by hand; and the disorder in which it is served."""

from typing import Annotated

from aiohttp import web
from pydantic import Field, HttpUrl

from sharegram_simulator.disorder import Disorder
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.settings import Rate, WebhookSecret
from sharegram_simulator.web.answers import Wire, json_answer, read_json


class SecretOrder(Wire):
    """The secret that signs from now on, retries included."""

    secret: WebhookSecret


class UrlOrder(Wire):
    """The new address of webhooks, also of retries."""

    url: Annotated[HttpUrl, Field(max_length=2000)]


class DisorderOrder(Wire):
    """Shares of the webhooks that are duplicated and that are overtaken."""

    duplicate_rate: Rate = 0.0
    reorder_rate: Rate = 0.0


class ReceiverSteering:
    """`PUT /_sim/webhook-secret`, `PUT /_sim/webhook-url` and `PUT /_sim/disorder`."""

    def __init__(self, receiver: Receiver, disorder: Disorder) -> None:
        self._receiver = receiver
        self._disorder = disorder

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.put("/_sim/webhook-secret", self.set_secret),
            web.put("/_sim/webhook-url", self.set_url),
            web.put("/_sim/disorder", self.set_disorder),
        ]

    async def set_secret(self, request: web.Request) -> web.Response:
        """Sharegram's side of a rotation."""
        order = await read_json(request, SecretOrder)
        self._receiver.secret = order.secret.get_secret_value()
        return json_answer({"changed": True})

    async def set_url(self, request: web.Request) -> web.Response:
        """Without the signed call `POST /v1/webhooks`, and without a change to the types that are sent."""
        order = await read_json(request, UrlOrder)
        self._receiver.url = str(order.url)
        return json_answer({"url": self._receiver.url})

    async def set_disorder(self, request: web.Request) -> web.Response:
        """From the next webhook on."""
        order = await read_json(request, DisorderOrder)
        self._disorder.duplicate_rate = order.duplicate_rate
        self._disorder.reorder_rate = order.reorder_rate
        return json_answer(order.model_dump(by_alias=True))
