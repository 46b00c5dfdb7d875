"""TLS endpoints with each bad certificate: refused, with an error that names the cause and not the host."""

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from pydantic import SecretStr

from safevideo_common.errors import StartupError
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import FailureReason, SharegramUnavailable
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.tls import TlsFiles, client_context
from sharegram_simulator.certificates import CertificateKind
from sharegram_simulator.serving import serving
from sharegram_simulator.settings import SimulatorSettings

Open = Callable[..., AbstractAsyncContextManager[SharegramClient]]


def endpoint(kind: CertificateKind, ca_file: Path) -> AbstractAsyncContextManager[str]:
    return serving(SimulatorSettings(port=0, webhook_secret=SecretStr("secret"), tls=kind, tls_ca_file=ca_file))


async def test_good_certificate_of_the_given_ca_is_accepted(open_client: Open, tmp_path: Path) -> None:
    async with (
        endpoint("good", tmp_path / "ca.pem") as address,
        open_client(address, sharegram_ca_file=tmp_path / "ca.pem") as client,
    ):
        assert (await client.health(SharegramCaller.api())).status == "ok"


async def test_certificate_of_a_ca_that_the_system_does_not_know_is_refused(open_client: Open, tmp_path: Path) -> None:
    async with endpoint("good", tmp_path / "ca.pem") as address, open_client(address) as client:
        with pytest.raises(SharegramUnavailable, match="TLS: the certificate is from an unknown CA"):
            await client.health(SharegramCaller.api())


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("expired", "the certificate has expired"),
        ("wrong_host", "the certificate is for another host"),
        ("self_signed", "the certificate is self-signed"),
        ("unknown_ca", "the certificate is from an unknown CA"),
    ],
)
async def test_bad_certificate_is_refused_and_its_fault_named(
    open_client: Open, tmp_path: Path, kind: CertificateKind, cause: str
) -> None:
    async with (
        endpoint(kind, tmp_path / "ca.pem") as address,
        open_client(address, sharegram_ca_file=tmp_path / "ca.pem") as client,
    ):
        with pytest.raises(SharegramUnavailable) as raised:
            await client.health(SharegramCaller.api())
    assert (raised.value.reason, raised.value.message) == (FailureReason.TLS, f"TLS: {cause}")


async def test_plain_http_behind_https_is_a_failed_handshake(open_client: Open) -> None:
    settings = SimulatorSettings(port=0, webhook_secret=SecretStr("secret"))
    async with serving(settings) as address, open_client(address.replace("http:", "https:")) as client:
        with pytest.raises(SharegramUnavailable, match="TLS: the handshake failed"):
            await client.health(SharegramCaller.api())


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_unusable_ca_file_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartupError, match=r"^SHAREGRAM_CA_FILE cannot be used"):
        client_context("SHAREGRAM_CA_FILE", TlsFiles(file))


def test_old_tls_versions_are_not_offered() -> None:
    assert client_context("SHAREGRAM_CA_FILE", TlsFiles()).minimum_version is ssl.TLSVersion.TLSv1_2
