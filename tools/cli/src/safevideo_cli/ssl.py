"""`safevideo ssl check`: the certificates of Sharegram and of our own address, verified as the services do."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from pydantic import Field

from safevideo_cli.options import AsJson
from safevideo_cli.output import format_second, print_json, print_table
from safevideo_common.clock import format_timestamp, utc_now
from safevideo_common.errors import StartupError
from safevideo_common.settings import ProcessSettings, load_settings
from safevideo_common.sharegram.transport import certificate_problem
from safevideo_common.tls import TlsFiles, client_context

CONNECT_SECONDS: Final = 10.0
DEFAULT_DAYS: Final = 14
_HTTPS_PORT: Final = 443

app = typer.Typer(no_args_is_help=True)


@app.callback()
def ssl_command() -> None:
    """Check certificates."""


@app.command()
def check(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="URL", help="https:// addresses instead of the configured ones.")
    ] = None,
    days: Annotated[int, typer.Option(min=0, max=825, help="Fail if one expires within so many days.")] = DEFAULT_DAYS,
    as_json: AsJson = False,
) -> None:
    """Check the certificates of SHAREGRAM_API_URL, SHAREGRAM_ISSUER and PUBLIC_URL, or of the URLs given.

    Fails if a certificate is not valid for us, or expires soon. Addresses by plain http are left out.
    """
    results = asyncio.run(_check_all(urls))
    now = utc_now()
    if as_json:
        print_json([_document(each, now) for each in results])
    else:
        rows = [
            (each.name, each.host, format_second(each.expires_at) if each.expires_at else "-", _state(each, now, days))
            for each in results
        ]
        print_table(("address", "host", "expires (UTC)"), rows, sentence="state")
    if any(_state(each, now, days) != "valid" for each in results):
        raise typer.Exit(1)


class _Settings(ProcessSettings):
    sharegram_api_url: str = ""
    sharegram_issuer: str = ""
    public_url: str = ""
    sharegram_ca_file: Path | None = Field(None, description="As for the services.")


@dataclass(frozen=True, slots=True)
class _Certificate:
    name: str
    host: str
    expires_at: datetime | None = None
    error: str | None = None


async def _check_all(urls: list[str] | None) -> list[_Certificate]:
    settings = load_settings(_Settings)
    context = client_context("SHAREGRAM_CA_FILE", TlsFiles(settings.sharegram_ca_file))
    configured = {
        "SHAREGRAM_API_URL": settings.sharegram_api_url,
        "SHAREGRAM_ISSUER": settings.sharegram_issuer,
        "PUBLIC_URL": settings.public_url,
    }
    named: Mapping[str, str] = {url: url for url in urls} if urls else configured
    checked = {name: url for name, url in named.items() if urlsplit(url).scheme == "https" and urlsplit(url).hostname}
    if not checked:
        raise StartupError("There is no https:// address to check: name one, or set SHAREGRAM_API_URL.")
    return list(await asyncio.gather(*(_check_one(name, url, context) for name, url in checked.items())))


async def _check_one(name: str, url: str, context: ssl.SSLContext) -> _Certificate:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, parts.port or _HTTPS_PORT, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return _Certificate(name, host, error=certificate_problem(error))
    except ssl.SSLError:
        return _Certificate(name, host, error="the handshake failed")
    except OSError as error:  # TimeoutError is one
        return _Certificate(name, host, error=f"no connection ({type(error).__name__})")
    certificate = writer.get_extra_info("peercert")
    writer.transport.abort()
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    return _Certificate(name, host, expires)


def _state(certificate: _Certificate, now: datetime, days: int) -> str:
    if certificate.expires_at is None:
        return certificate.error or "no certificate"
    left = (certificate.expires_at - now).days
    return "valid" if left >= days else f"expires in {left} days"


def _document(certificate: _Certificate, now: datetime) -> dict[str, object]:
    left = None if certificate.expires_at is None else (certificate.expires_at - now).days
    return {
        "address": certificate.name,
        "host": certificate.host,
        "isValid": certificate.error is None,
        "error": certificate.error,
        "expiresAt": format_timestamp(certificate.expires_at),
        "daysLeft": left,
    }
