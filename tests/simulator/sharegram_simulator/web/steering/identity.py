"""Keys and tokens by hand."""

from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sharegram_simulator.keys import AlgorithmName, KeyRing
from sharegram_simulator.tokens import LIFETIME_SECONDS, Signing, TokenIssuer, TokenOrder
from sharegram_simulator.web.answers import Json, Wire, json_answer, read_json

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


class IdentitySteering:
    """`POST /_sim/keys/rotate` and `POST /_sim/tokens`."""

    def __init__(self, keys: KeyRing, tokens: TokenIssuer) -> None:
        self._keys = keys
        self._tokens = tokens

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/_sim/keys/rotate", self.rotate), web.post("/_sim/tokens", self.issue)]

    async def rotate(self, request: web.Request) -> web.Response:
        """Sign with a new key from now on."""
        order = await read_json(request, RotationOrder)
        keys = await self._keys.rotate(order.algorithm, keep_old=order.keep_old)
        return json_answer({"kid": keys[-1].kid, "published": [key.kid for key in keys]})

    async def issue(self, request: web.Request) -> web.Response:
        """Make a token, good or bad as ordered."""
        order = (await read_json(request, TokenRequest)).order()
        return json_answer({"token": await self._tokens.issue(order), "expiresIn": order.expires_in})
