"""The first step of an orderly stop: the load balancer stops sending requests before the server closes."""

from typing import Final

from aiohttp import web

from safevideo_common.errors import ServiceUnavailable


class Drain:
    """The state of the drain. Once it has started, `/readyz` is 503 and each response closes its connection."""

    def __init__(self) -> None:
        self.started = False

    def start(self) -> None:
        """Start the drain. It cannot be reverted."""
        self.started = True

    async def check(self) -> None:
        """Raise `ServiceUnavailable` once the drain has started: the readiness check."""
        if self.started:
            raise ServiceUnavailable("This process is stopping.")


DRAIN: Final = web.AppKey("drain", Drain)
