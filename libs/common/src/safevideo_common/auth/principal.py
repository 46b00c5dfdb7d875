"""The caller of a request. An `Authenticator` identifies the caller: by API key, later by token."""

from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from multidict import CIMultiDictProxy

from safevideo_common.auth.api_keys import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were verified, whichever they were."""

    name: str
    role: Role


class Authenticator(Protocol):
    """A way to identify the caller by the headers of a request."""

    async def authenticate(self, headers: CIMultiDictProxy[str]) -> Principal:
        """Return the caller. Raises `Unauthorized` if the credentials are missing or invalid."""
        ...


PRINCIPAL: Final = web.RequestKey("principal", Principal)
"""The caller of a route that is not public."""
