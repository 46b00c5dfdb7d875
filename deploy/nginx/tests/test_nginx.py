"""The real nginx with the configuration that is deployed, before two small upstream servers."""

import asyncio
import json
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import eventually

NGINX = Path(__file__).parents[1]
MEBIBYTE = 1 << 20


@dataclass
class Upstream:
    """A server that answers with what it received. `close` ends it at once."""

    port: int
    runner: web.AppRunner
    host: str = "127.0.0.1"
    seen: list[web.Request] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"{self.host}:{self.port}"


@dataclass
class Entrance:
    """A running nginx."""

    url: str
    plain_url: str
    logs: Path
    gateway: Upstream
    ingest: Upstream
    http: aiohttp.ClientSession


async def start_upstream(name: str, host: str = "127.0.0.1", port: int = 0) -> Upstream:
    """Start a server that answers its name, the bytes that came, and the headers."""

    async def answer(request: web.Request) -> web.Response:
        upstream.seen.append(request)
        if request.path.endswith("/unavailable"):
            return web.json_response({"from": name}, status=503, headers={"Retry-After": "77"})
        body = await request.read()
        return web.json_response(
            {
                "from": name,
                "bytes": len(body),
                "headers": {name.lower(): value for name, value in request.headers.items()},
            }
        )

    app = web.Application(client_max_size=64 * MEBIBYTE)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    upstream = Upstream(port or free_port(), runner, host)
    await web.TCPSite(runner, host, upstream.port, reuse_address=True).start()
    return upstream


def write_certificate(folder: Path) -> None:
    """Write tls.key and a certificate of its own, tls.crt."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def write_configuration(folder: Path, **variables: object) -> Path:
    """Fill in the template as the image does, and return its path. Every variable must be given."""
    text = (NGINX / "nginx.conf.template").read_text()
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", str(value))
    assert re.findall(r"^[^#\n]*\$\{", text, re.M) == []
    (folder / "nginx.conf").write_text(text)
    return folder / "nginx.conf"


@asynccontextmanager
async def running_nginx(program: str, folder: Path, **overrides: object) -> AsyncIterator[Entrance]:
    """Run nginx before a gateway and a webhook-ingest."""
    write_certificate(folder)
    gateway, ingest = await start_upstream("gateway"), await start_upstream("webhook-ingest")
    https, plain = free_port(), free_port()
    variables: dict[str, object] = {
        "SERVER_NAME": "localhost",
        "GATEWAY_ADDRESS": gateway.address,
        "WEBHOOK_INGEST_ADDRESS": ingest.address,
        "RESOLVER": "127.0.0.1",
        "TRUSTED_PROXY": "127.0.0.9",
        "TLS_DIR": folder,
        "NGINX_LOG_DIR": folder,
        "NGINX_RUN_DIR": folder,
        "NGINX_CONF_DIR": NGINX,
        "HTTP_PORT": plain,
        "HTTPS_PORT": https,
        "API_REQUESTS_PER_SECOND": 1000,
    }
    configuration = write_configuration(folder, **(variables | overrides))
    user = " user root;" if os.geteuid() == 0 else ""  # the folder of a test is its user's alone
    command = [program, "-p", str(folder), "-c", str(configuration), "-g", f"daemon off;{user}"]
    tested = await asyncio.to_thread(subprocess.run, [*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    context.check_hostname = False
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, force_close=True), timeout=aiohttp.ClientTimeout(60)
        ) as http:
            entrance = Entrance(
                f"https://127.0.0.1:{https}", f"http://127.0.0.1:{plain}", folder, gateway, ingest, http
            )
            await eventually(lambda: answers(entrance))
            yield entrance
    finally:
        process.terminate()
        await process.wait()
        await gateway.runner.cleanup()
        await ingest.runner.cleanup()


async def answers(entrance: Entrance) -> bool:
    """Return whether nginx serves."""
    try:
        async with entrance.http.get(f"{entrance.url}/metrics"):
            return True
    except aiohttp.ClientConnectionError:
        return False


@pytest.fixture
async def entrance(nginx: str, tmp_path: Path) -> AsyncIterator[Entrance]:
    """Return a running nginx."""
    async with running_nginx(nginx, tmp_path) as running:
        yield running


async def test_webhooks_go_to_webhook_ingest_and_the_rest_to_the_gateway(entrance: Entrance) -> None:
    for path, service in {
        "/webhooks/sharegram": "webhook-ingest",
        "/api/integration/health": "gateway",
        "/console": "gateway",
    }.items():
        async with entrance.http.post(entrance.url + path, data=b"{}") as response:
            assert (response.status, (await response.json())["from"]) == (200, service)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_what_is_for_the_platform_answers_nobody_outside(entrance: Entrance, path: str) -> None:
    async with entrance.http.get(entrance.url + path) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "NOT_FOUND")
    assert entrance.gateway.seen == entrance.ingest.seen == []


async def test_a_client_cannot_forge_its_address_or_an_unsafe_request_id(entrance: Entrance) -> None:
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Request-Id": "bad id; DROP"}
    async with entrance.http.get(f"{entrance.url}/api/v1/performers/1", headers=forged) as response:
        headers = (await response.json())["headers"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    async with entrance.http.get(f"{entrance.url}/x", headers={"X-Request-Id": "req_1.a:b-c"}) as response:
        assert (await response.json())["headers"]["x-request-id"] == "req_1.a:b-c"


async def test_the_address_that_a_trusted_proxy_names_is_the_client(nginx: str, tmp_path: Path) -> None:
    forwarded = {"X-Forwarded-For": "6.6.6.6, 9.9.9.9"}
    async with (
        running_nginx(nginx, tmp_path, TRUSTED_PROXY="127.0.0.1") as entrance,
        entrance.http.get(f"{entrance.url}/x", headers=forwarded) as response,
    ):
        assert (await response.json())["headers"]["x-forwarded-for"] == "9.9.9.9"


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/webhooks/sharegram", MEBIBYTE, 200),
        ("/webhooks/sharegram", MEBIBYTE + 1, 413),
        ("/api/v1/kyc/1/documents", 10 * MEBIBYTE + 4096, 200),
        ("/api/v1/kyc/1/documents", 11 * MEBIBYTE + 1, 413),
        ("/api/v1/kyc/submit", MEBIBYTE + 1, 413),
    ],
)
async def test_bodies_are_limited_as_in_the_services(entrance: Entrance, path: str, size: int, status: int) -> None:
    async with entrance.http.post(entrance.url + path, data=BytesIO(bytes(size))) as response:
        answer = await response.json()
    assert response.status == status
    if status == 413:
        assert answer["error"]["code"] == "PAYLOAD_TOO_LARGE"
        assert answer["error"]["requestId"] == response.headers["X-Request-Id"]


async def test_a_service_that_is_away_is_the_contracts_502(entrance: Entrance) -> None:
    await entrance.gateway.runner.cleanup()
    async with entrance.http.get(f"{entrance.url}/api/integration/health") as response:
        answer = await response.json()
    assert (response.status, answer["error"]["code"], answer["success"]) == (502, "SERVICE_UNAVAILABLE", False)
    assert response.headers["Retry-After"] == "5"


async def test_an_error_of_a_service_passes_unchanged(entrance: Entrance) -> None:
    async with entrance.http.get(f"{entrance.url}/unavailable") as response:
        assert (response.status, await response.json()) == (503, {"from": "gateway"})
        assert response.headers["Retry-After"] == "77"


async def test_a_flood_of_one_address_is_429_in_the_contracts_words(nginx: str, tmp_path: Path) -> None:
    async with running_nginx(nginx, tmp_path, API_REQUESTS_PER_SECOND=1) as entrance:

        async def ask(_: int) -> tuple[int, str | None]:
            async with entrance.http.get(f"{entrance.url}/api/x") as response:
                return response.status, (await response.json()).get("error", {}).get("code")

        answered = await asyncio.gather(*map(ask, range(140)))
    assert set(answered) == {(200, None), (429, "RATE_LIMITED")}


async def test_plain_http_leads_to_https(entrance: Entrance) -> None:
    async with entrance.http.get(f"{entrance.plain_url}/a?b=c", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "https://localhost/a?b=c")


async def test_the_access_log_is_json_without_the_query(entrance: Entrance) -> None:
    async with entrance.http.get(f"{entrance.url}/auth/sso/session/verify?sessionId=secret-1") as response:
        request_id = (await response.json())["headers"]["x-request-id"]
    log = entrance.logs / "access.log"

    def lines() -> list[dict[str, object]]:
        return [json.loads(each) for each in log.read_text().splitlines() if request_id in each]

    async def is_written() -> bool:
        return bool(lines())

    await eventually(is_written)
    written = lines()[0]
    assert written["path"] == "/auth/sso/session/verify"
    assert (written["status"], written["remote"], written["upstream_status"]) == (200, "127.0.0.1", "200")
    assert "secret-1" not in log.read_text()


class NameServer(asyncio.DatagramProtocol):
    """A DNS server that answers every question for an A record with `address`."""

    address = "127.0.0.1"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for answers."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        """Answer with the question itself and one A record of 1 s."""
        record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + bytes(map(int, self.address.split(".")))
        self._transport.sendto(data[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + data[12:] + record, sender)


async def test_a_service_that_was_made_anew_is_found_without_a_reload(nginx: str, tmp_path: Path) -> None:
    port = free_port()
    names: NameServer
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", port)
    )
    first = await start_upstream("first")
    try:
        async with running_nginx(
            nginx, tmp_path, RESOLVER=f"127.0.0.1:{port}", GATEWAY_ADDRESS=f"gateway.test:{first.port}"
        ) as entrance:

            async def name() -> str | None:
                async with entrance.http.get(f"{entrance.url}/api/x") as response:
                    answer: dict[str, str] = await response.json()
                return answer.get("from")

            assert await name() == "first"
            await first.runner.cleanup()
            second = await start_upstream("second", "127.0.0.2", first.port)
            names.address = second.host

            async def is_second() -> bool:
                return await name() == "second"

            await eventually(is_second)
            await second.runner.cleanup()
    finally:
        transport.close()
