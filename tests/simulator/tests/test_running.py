import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr, ValidationError

from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import EnvironmentSettings, SimulatorSettings

DEADLINE_SECONDS = 60


@asynccontextmanager
async def started(**environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m sharegram_simulator`, ended in any case."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "sharegram_simulator"),
        env={"PYTHONPATH": os.pathsep.join(sys.path), "SIMULATOR_PORT": "0"} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def address_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if found := re.search(rb"http://[0-9.]+:[0-9]+", line):
            return found[0].decode()
    raise AssertionError("it did not start")


async def test_it_runs_alone_by_its_environment_until_a_signal() -> None:
    async with (
        started(SHAREGRAM_WEBHOOK_SECRET="one,two", SHAREGRAM_AUDIENCE="here") as process,
        ClientSession() as session,
    ):
        simulator = SimulatorClient(await address_of(process), session)
        assert (await simulator.get("/v1/health"))["status"] == "ok"
        assert (await simulator.get("/.well-known/openid-configuration"))["issuer"] == simulator.base_url
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_without_a_webhook_secret_it_says_what_is_missing() -> None:
    async with started() as process:
        output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"SHAREGRAM_WEBHOOK_SECRET" in output
    assert b"Traceback" not in output


async def test_on_a_taken_port_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with started(SHAREGRAM_WEBHOOK_SECRET="one", SIMULATOR_PORT=port) as process:
            output, _ = await process.communicate()
    assert process.returncode == 1
    assert b"Address already in use" in output
    assert b"Traceback" not in output


def test_given_settings_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGRAM_AUDIENCE", "from the environment")
    assert SimulatorSettings(webhook_secret=SecretStr("x")).audience == "safevideo"


def test_of_several_secrets_the_first_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGRAM_WEBHOOK_SECRET", " new , old")
    assert EnvironmentSettings.model_validate({}).first_webhook_secret == "new"


def test_a_bad_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        SimulatorSettings(webhook_secret=SecretStr("whsec_not base64"))
    assert "not base64" not in str(refused.value)
