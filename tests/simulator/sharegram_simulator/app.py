"""The wiring: everything is built here, once for each application, and closed in reverse."""

import random
from collections.abc import AsyncIterator

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from sharegram_simulator.authorization import Grants
from sharegram_simulator.courier import Courier, Limits
from sharegram_simulator.delivery import DeliveryLog
from sharegram_simulator.disorder import Disorder
from sharegram_simulator.keys import KeyRing
from sharegram_simulator.logs import standard_logger
from sharegram_simulator.people import People
from sharegram_simulator.performers import Performers
from sharegram_simulator.provider import Provider
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.sender import Sender
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.tokens import TokenIssuer
from sharegram_simulator.verifications import Verifications
from sharegram_simulator.web.calls import CallLog
from sharegram_simulator.web.credentials import Credentials
from sharegram_simulator.web.discovery import Discovery
from sharegram_simulator.web.failures import failure_renderer
from sharegram_simulator.web.faults import Faults
from sharegram_simulator.web.idempotency import Idempotency
from sharegram_simulator.web.partner import Documents, PartnerApi
from sharegram_simulator.web.sign_in import SignIn
from sharegram_simulator.web.steering.identity import IdentitySteering
from sharegram_simulator.web.steering.master import MasterSteering
from sharegram_simulator.web.steering.receiver import ReceiverSteering
from sharegram_simulator.web.steering.state import StateSteering
from sharegram_simulator.web.steering.webhooks import WebhookSteering

FAULTS = web.AppKey("faults", Faults)
BODY_LIMIT = 16 << 20
"""Bytes of a request: a document of 10 MiB and the form around it."""


def build_app(settings: SimulatorSettings, log: FilteringBoundLogger | None = None) -> web.Application:
    """A complete simulator. Several may run in one process; each has a world of its own.

    Whoever serves it binds the port; `settings.port` only names it in tokens and discovery (`serving.py` does both).
    """
    log = log or standard_logger()
    receiver = Receiver(settings.webhook_url, settings.first_webhook_secret, settings.webhook_scheme)
    deliveries = DeliveryLog(settings.history_limit)
    disorder = Disorder(settings.duplicate_rate, settings.reorder_rate, random.Random(settings.seed))
    sender = Sender(settings.try_timeout_seconds, settings.concurrency)
    limits = Limits(settings.queue_limit, settings.concurrency, settings.retry_factor)
    courier = Courier(sender, receiver, deliveries, disorder, limits, log)

    performers = Performers(settings.master_limit)
    people = People(random.Random(settings.seed))
    provider = Provider(performers, Verifications(settings.master_limit), people, receiver, courier)
    documents = Documents()

    keys = KeyRing()
    tokens = TokenIssuer(keys, settings.issuer_url, settings.audience)

    calls = CallLog(settings.history_limit)
    faults = Faults(random.Random(settings.seed))
    credentials = Credentials(settings.api_key.get_secret_value(), settings.secret_key.get_secret_value())

    app = web.Application(
        client_max_size=BODY_LIMIT,
        middlewares=[
            # Outermost first: a call is recorded with the answer that it got, whichever layer gave it.
            calls.middleware(),
            failure_renderer(log),
            faults.middleware(),
            credentials.middleware(),
            Idempotency().middleware(),
        ],
    )
    app[FAULTS] = faults
    app.add_routes(StateSteering(provider, documents, deliveries, calls, faults).routes())
    app.add_routes(MasterSteering(provider).routes())
    app.add_routes(WebhookSteering(sender, receiver, deliveries).routes())
    app.add_routes(ReceiverSteering(receiver, disorder).routes())
    app.add_routes(IdentitySteering(keys, tokens, settings.backchannel_logout_url).routes())
    app.add_routes(PartnerApi(provider, documents, receiver).routes())
    app.add_routes(Discovery(settings.issuer_url, keys).routes())
    app.add_routes(SignIn(settings.issuer_url, settings.audience, performers, tokens, Grants()).routes())

    async def deliver(_: web.Application) -> AsyncIterator[None]:
        async with sender.connected(), courier.running():
            yield

    app.cleanup_ctx.append(deliver)
    app.on_shutdown.append(faults.release)
    return app
