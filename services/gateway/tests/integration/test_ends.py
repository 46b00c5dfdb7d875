"""Requests to every endpoint with one value at an end of its type: the running gateway answers each, and never 500.

A part of them here; `ENDS=all`, which `make fuzz` sets, sends all.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import pytest
from aiohttp import ClientError, web

from gateway.app import ENDPOINTS, build_app
from gateway.http.endpoint import Endpoint
from gateway.settings import GatewaySettings
from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.fuzz.ends import ends_of, texts_of, values_of
from safevideo_testkit.http import Api, running
from safevideo_testkit.kyc import kyc_settings, sign_in

STEP: Final = 1 if os.environ.get("ENDS") == "all" else 151
NAMED: Final = {"INTEGRATION_NOT_CONFIGURED", "CIRCUIT_BREAKER_OPEN", "FEATURE_DISABLED"}
"""Codes of a 503 of this gateway, which has no Sharegram, besides those of fallback mode."""
LONGEST_PATH: Final = 300


class Sent(NamedTuple):
    """A request, and the place of it that is at an end."""

    ends_at: str
    method: str
    path: str
    body: bytes | None = None


@pytest.fixture
def app(
    settings: GatewaySettings, embedded_broker: Broker, log: FilteringBoundLogger, tmp_path: Path
) -> tuple[web.Application, GatewaySettings]:
    merged = GatewaySettings.model_validate(settings.model_dump() | kyc_settings(tmp_path / "documents"))
    return build_app(merged, embedded_broker, log), merged


@pytest.fixture
async def site(app: tuple[web.Application, GatewaySettings]) -> AsyncIterator[Api]:
    async with running(*app) as api:
        yield api


async def test_every_request_at_an_end_of_a_type_is_answered(
    app: tuple[web.Application, GatewaySettings],
    site: Api,
    admin: dict[str, str],
    database: Database,
    store: Callable[..., object],
    logged: Callable[[], list[str]],
) -> None:
    person = (await sign_in(site, database, app[1].redis_url.get_secret_value())).headers
    failures: list[str] = []
    sent = 0
    for endpoint in app[0][ENDPOINTS]:
        roles = endpoint.roles or ()
        headers = {**(admin if "admin" in roles else person if roles else {}), "Content-Type": "application/json"}
        for each in islice(requests_to(endpoint), sent % STEP, None, STEP):
            sent += 1
            if failure := await failure_of(site, each, headers):
                failures.append(failure)
    print(f"{sent:,} requests at the ends of types, {len(failures)} failures")
    assert not failures, "\n".join(failures[:20])
    assert sent > 50
    assert not [line for line in logged() if "INTERNAL_ERROR" in line]


async def failure_of(site: Api, request: Sent, headers: dict[str, str]) -> str | None:
    """Send a request. Return what is wrong with the answer, or None."""
    try:
        answer = await site.request(request.method, request.path, headers, request.body)
    except ClientError as error:  # the server may close before it has read a body that is too large
        return None if request.body else f"{request}: {error!r}"
    if answer.status < 500 or answer.code in NAMED or "fallbackUntil" in answer.json["error"].get("details", {}):
        return None
    return (
        f"{request.method} {request.path[:300]} {request.ends_at}: {answer.status} {answer.code}, {request.body!r:.300}"
    )


def requests_to(endpoint: Endpoint) -> Iterator[Sent]:
    """Yield the requests to an endpoint: with each body, each parameter and each id at an end."""
    path = endpoint.path.format(**dict.fromkeys(endpoint.path_parameters, "1"))
    if endpoint.body is not None:
        for end in ends_of(endpoint.body, endpoint.body_example):
            yield Sent(end.path, endpoint.method, path, end.document)
    for name, value in values_of(endpoint.query) if endpoint.query else ():
        if len(value) < LONGEST_PATH:
            yield Sent(name, endpoint.method, f"{path}?{name}={quote(value, errors='surrogateescape')[:LONGEST_PATH]}")
    yield from _with_ids(endpoint)


def _with_ids(endpoint: Endpoint) -> Iterator[Sent]:
    for name, text in product(endpoint.path_parameters, texts_of(200)):
        encoded = quote(text, safe="", errors="surrogatepass")
        if encoded.strip("."):
            others = dict.fromkeys(endpoint.path_parameters, "1")
            yield Sent(name, endpoint.method, endpoint.path.format(**others | {name: encoded}))
