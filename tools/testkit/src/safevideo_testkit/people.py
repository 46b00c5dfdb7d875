"""People who sign in: a browser that keeps its cookies, and tokens of the simulated provider."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Final

from yarl import URL

from safevideo_common.auth.authentication import CSRF_COOKIE, SESSION_COOKIE
from safevideo_testkit.http import Answer, Api, Json
from sharegram_simulator.client import SimulatorClient

SITE: Final = "https://safevideo.example"
SSO: Final = "/auth/sso"
HTML: Final = {"Accept": "text/html,application/xhtml+xml"}


@dataclass(slots=True)
class Browser:
    """A browser of one person. `Secure` cookies go to the test's server too, though it has no TLS."""

    site: Api
    simulator: SimulatorClient
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET a path of the site as a browser does, without following a redirect."""
        return await self.send("GET", path, {**HTML, **(headers or {})})

    async def post(self, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> Answer:
        """POST to the site from one of its own pages."""
        own = {"Origin": SITE, "X-CSRF-Token": self.cookies.get(CSRF_COOKIE, "")}
        return await self.send("POST", path, {**own, **(headers or {})}, body)

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: object = None) -> Answer:
        """Send a request with the cookies, and keep those of the answer."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**({"Cookie": cookie} if cookie else {}), **headers}
        data = None if body is None else json.dumps(body)
        url = URL(self.site.base_url + path, encoded=True)
        async with self.site.session.request(method, url, headers=sent, data=data, allow_redirects=False) as response:
            for line in response.headers.getall("Set-Cookie", []):
                self._keep(line)
            return Answer(response.status, response.headers, await response.read())

    def _keep(self, line: str) -> None:
        ((name, cookie),) = SimpleCookie(line).items()
        assert cookie["secure"]
        assert cookie["path"] == "/"
        assert cookie["samesite"] == "Lax"
        assert bool(cookie["httponly"]) is (name != CSRF_COOKIE or cookie["max-age"] == "0")
        if cookie["max-age"] == "0":
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = cookie.value

    async def begin(self, path: str = f"{SSO}/login") -> URL:
        """Open the sign-in. Return the provider's address that the browser is sent to."""
        answer = await self.get(path)
        assert answer.status == 302, answer.body
        return URL(answer.headers["Location"])

    async def approve(self, address: URL, performer_id: str) -> str:
        """Sign in at the provider. Return the path of the callback that it sends the browser to."""
        url = address.update_query(login_hint=performer_id)
        answer = await self.simulator.request("GET", url.raw_path_qs)
        location = URL(answer.headers["Location"])
        assert str(location.origin()) == SITE
        return location.raw_path_qs

    async def sign_in(self, performer_id: str = "sg_1", path: str = f"{SSO}/login") -> Answer:
        """Sign in, from the link to the callback's answer."""
        return await self.get(await self.approve(await self.begin(path), performer_id))

    @property
    def session_id(self) -> str:
        """The id of the session in the cookie."""
        return self.cookies[SESSION_COOKIE].partition(".")[0]


async def token_of(simulator: SimulatorClient, **claims: object) -> str:
    """A token as Sharegram issues them."""
    token: str = (await simulator.post("/_sim/tokens", {"sub": "sg_1", "email": "jane@example.com", **claims}))["token"]
    return token


async def unified_login(site: Api, token: str, provider: str = "sharegram") -> Answer:
    """Sign in with a token."""
    headers = {"Authorization": f"Bearer {token}", "X-SSO-Provider": provider}
    return await site.request("POST", f"{SSO}/unified-login", headers)


async def signed_in(site: Api, simulator: SimulatorClient, **claims: object) -> Json:
    """The `data` of a sign-in that succeeded."""
    answer = await unified_login(site, await token_of(simulator, **claims))
    assert answer.status == 200, answer.body
    return answer.json["data"]


def bearer(data: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {data['token']}"}
