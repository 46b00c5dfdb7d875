"""Keys and tokens by hand."""

from typing import Annotated

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sharegram_simulator.keys import AlgorithmName, KeyRing
from sharegram_simulator.tokens import LIFETIME_SECONDS, Signing, TokenIssuer, TokenOrder
from sharegram_simulator.web.answers import Json, Wire, json_answer, read_json

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS = 120
SEND_SECONDS = 10.0
TEN_YEARS = 10 * 366 * 86_400


class RotationOrder(Wire):
    """The algorithm of the new key, and whether the old ones stay published."""

    algorithm: AlgorithmName = "RS256"
    keep_old: bool = True


class TokenRequest(BaseModel):
    """The request for a token. Each other field is a claim; null removes the claim. `header` works the same way."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)
    __pydantic_extra__: dict[str, Json]

    sub: Json
    email: Json = None
    email_verified: Json = True
    expires_in: Annotated[int, Field(ge=-TEN_YEARS, le=TEN_YEARS)] = LIFETIME_SECONDS
    sign: Signing = "right"
    kid: Json = None
    alg: Json = None
    header: dict[str, Json] = {}

    def order(self) -> TokenOrder:
        """The token to be made."""
        identity = {"sub": self.sub, "email": self.email}
        verified = {} if self.email is None else {"email_verified": self.email_verified}
        named = {name: value for name, value in (("kid", self.kid), ("alg", self.alg)) if name in self.model_fields_set}
        claims = identity | verified | self.__pydantic_extra__
        return TokenOrder(claims, named | self.header, self.expires_in, self.sign)


class LogoutOrder(Wire):
    """The sessions that a logout token ends, and where it goes. `claims` and `header` make a bad one; null removes."""

    sub: str | None = None
    sid: str | None = None
    url: str | None = None
    claims: dict[str, Json] = Field(default_factory=dict)
    header: dict[str, Json] = Field(default_factory=dict)

    def token(self) -> TokenOrder:
        """The logout token (OpenID Connect Back-Channel Logout 1.0, §2.4)."""
        claims: dict[str, Json] = {"sub": self.sub, "sid": self.sid, "events": {LOGOUT_EVENT: {}}}
        header: dict[str, Json] = {"typ": "logout+jwt"}
        return TokenOrder(claims | self.claims, header | self.header, LOGOUT_SECONDS)


class IdentitySteering:
    """`POST /_sim/keys/rotate`, `POST /_sim/tokens` and `POST /_sim/logout`."""

    def __init__(self, keys: KeyRing, tokens: TokenIssuer, logout_url: str) -> None:
        self._keys = keys
        self._tokens = tokens
        self._logout_url = logout_url

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/_sim/keys/rotate", self.rotate),
            web.post("/_sim/tokens", self.issue),
            web.post("/_sim/logout", self.logout),
        ]

    async def rotate(self, request: web.Request) -> web.Response:
        """Sign with a new key from now on."""
        order = await read_json(request, RotationOrder)
        keys = await self._keys.rotate(order.algorithm, keep_old=order.keep_old)
        return json_answer({"kid": keys[-1].kid, "published": [key.kid for key in keys]})

    async def issue(self, request: web.Request) -> web.Response:
        """Make a token, good or bad as ordered."""
        order = (await read_json(request, TokenRequest)).order()
        return json_answer({"token": await self._tokens.issue(order), "expiresIn": order.expires_in})

    async def logout(self, request: web.Request) -> web.Response:
        """Send a logout token to the client, once. The answer has the client's status, and the token."""
        order = await read_json(request, LogoutOrder)
        token = await self._tokens.issue(order.token())
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=SEND_SECONDS)) as session,
                session.post(order.url or self._logout_url, data={"logout_token": token}) as response,
            ):
                status: int | None = response.status
                await response.read()
        except (ClientError, TimeoutError):
            status = None
        return json_answer({"status": status, "token": token})
