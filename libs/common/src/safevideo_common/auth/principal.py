"""The caller of a request. An `Authenticator` identifies the caller by API key, access token or cookie."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from aiohttp import web

from safevideo_common.auth.api_keys import Role


class Rights(NamedTuple):
    """The rights of a person's account, as they are now."""

    role: Role
    performer_id: str | None
    """Sharegram's id of the person, who has the KYC requests of this performer."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were verified, whichever they were.

    A person is named `user:<id>`, a system by the name of its API key's client. Only a person has a session.
    """

    name: str
    role: Role
    user_id: int | None = None
    session_id: str | None = None
    performer_id: str | None = None
    """Sharegram's id of a person who is a performer."""


class Authenticator(Protocol):
    """A way to identify the caller of a request."""

    async def authenticate(self, request: web.BaseRequest) -> Principal:
        """Return the caller. Raises `CredentialsMissing`, or `Unauthorized` if the credentials are invalid."""
        ...


PRINCIPAL: Final = web.RequestKey("principal", Principal)
"""The caller of a route that is not public."""
