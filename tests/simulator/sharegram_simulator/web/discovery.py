"""OpenID discovery and the published keys."""

from aiohttp import web

from sharegram_simulator.keys import GENERATORS, KeyRing
from sharegram_simulator.web.answers import json_answer


class Discovery:
    """`/.well-known`, in the name of one issuer."""

    def __init__(self, issuer: str, keys: KeyRing) -> None:
        self._issuer = issuer
        self._keys = keys

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/.well-known/openid-configuration", self.discover),
            web.get("/.well-known/jwks.json", self.publish_keys),
        ]

    async def discover(self, _: web.Request) -> web.Response:
        """OpenID discovery (OpenID Connect Discovery 1.0, §3)."""
        base = self._issuer.rstrip("/")
        document = {
            "issuer": self._issuer,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "end_session_endpoint": f"{base}/oauth/logout",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "subject_types_supported": ["public"],
            "scopes_supported": ["openid", "profile", "email"],
            "id_token_signing_alg_values_supported": list(GENERATORS),
        }
        return json_answer(document)

    async def publish_keys(self, _: web.Request) -> web.Response:
        """The public keys."""
        return json_answer({"keys": [key.jwk() for key in await self._keys.published()]})
