"""A stop in order: first out of the balancer's rotation, then no new connections, then an answer for all who asked."""

from typing import Final

from aiohttp import web

from safevideo_common.errors import ServiceUnavailable


class Drain:
    """Whether this process is about to stop. From then on `/readyz` is 503 and each answer closes its connection."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        """There is no way back."""
        self.begun = True

    async def ask(self) -> None:
        """The readiness check. Raises `ServiceUnavailable` once a stop has begun."""
        if self.begun:
            raise ServiceUnavailable("This process is stopping.")


DRAIN: Final = web.AppKey("draining", Drain)
