"""The calls that the contract plans and that are not built yet. Their 404 says so."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from safevideo_common.errors import NotFound

PLANNED: Final[Sequence[tuple[str, str]]] = (("GET", "/console"),)
"""What is built is taken out here, and its mark in `docs/contract.md`: a test compares both."""


def planned_routes() -> list[web.RouteDef]:
    """Return their routes. They come before all others: an `{id}` of a built one could match them."""
    return [web.route(method, path, _answer_planned) for method, path in PLANNED]


async def _answer_planned(_request: web.Request) -> web.StreamResponse:
    raise NotFound("This call is planned and not built yet; docs/contract.md marks such calls.")
