"""`safevideo ssl check`: a good certificate, each bad one, one that expires soon, and nothing to check."""

import asyncio
import subprocess
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.command import run_command
from sharegram_simulator.certificates import LIFE, CertificateKind
from sharegram_simulator.serving import serving
from sharegram_simulator.settings import SimulatorSettings


def check(address: str, ca_file: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"SHAREGRAM_API_URL": f"{address}/v1", "COLUMNS": "160", "SAFEVIDEO_ENV": "development"}
    ca = {"SHAREGRAM_CA_FILE": str(ca_file)} if ca_file else {}
    return run_command(["ssl", "check", *arguments], environment | ca)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("good", None),
        ("expired", "the certificate has expired"),
        ("wrong_host", "the certificate is for another host"),
        ("self_signed", "the certificate is self-signed"),
        ("unknown_ca", "the certificate is from an unknown CA"),
    ],
)
async def test_certificate_is_verified_as_the_services_do(
    tmp_path: Path, kind: CertificateKind, error: str | None
) -> None:
    ca_file = tmp_path / "ca.pem"
    settings = SimulatorSettings(port=0, webhook_secret=SecretStr("secret"), tls=kind, tls_ca_file=ca_file)
    async with serving(settings) as address:
        checked = await asyncio.to_thread(check, address, ca_file, "--json")
        table = await asyncio.to_thread(check, address, ca_file, "--days", str(LIFE.days + 1))
    [found] = orjson.loads(checked.stdout)
    assert (found["address"], found["isValid"], found["error"]) == ("SHAREGRAM_API_URL", error is None, error)
    assert checked.returncode == (0 if error is None else 1), checked.stderr
    assert table.returncode == 1
    assert (error or f"expires in {found['daysLeft']} days") in table.stdout


def test_address_that_does_not_answer_or_is_not_encrypted_is_an_error() -> None:
    silent = check(f"https://127.0.0.1:{free_port()}", None)
    assert (silent.returncode, "no connection" in silent.stdout) == (1, True)
    plain = check("http://127.0.0.1:1", None)
    assert (plain.returncode, plain.stderr.startswith("There is no https:// address")) == (1, True)
