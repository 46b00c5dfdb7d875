"""The images as they are deployed: `make images-test`, which starts this inside of a sandbox with podman.

Root file systems are read-only, memory is limited, the user has no rights. A webhook goes through all of it.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Final

import aiohttp
import pytest
from cryptography.fernet import Fernet

from safevideo_common.database.engine import Database
from safevideo_testkit.backends_for_containers import BackendsForContainers, backends_for_containers
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import count_events
from safevideo_testkit.oracle.stream import write_webhook
from safevideo_testkit.webhook_sender import post
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

PORTS: Final = {"gateway": 3000, "webhook-ingest": 3001, "kyc-worker": 3002, "sync-worker": 3003}
SECRET: Final = token_urlsafe(24)
KEYS: Final = {"api_key": token_urlsafe(), "secret_key": token_urlsafe()}
VERSION: Final = os.environ.get("VERSION", "test")
USER: Final = 10001
READY_SECONDS: Final = 300.0
RESTRICTED: Final = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:size=64m,mode=1777", "--cap-drop=all",
    "--security-opt=no-new-privileges", "--memory=768m", "--pids-limit=256", "--network=host",
)  # fmt: skip


def podman(*arguments: str) -> str:
    """Run it in this sandbox, which has no systemd, and return what it prints."""
    command = ["podman", "--cgroup-manager=cgroupfs", "--events-backend=file", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert not done.returncode, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def showing_logs(names: list[str]) -> Iterator[None]:
    """Print the logs of the containers when the block fails."""
    try:
        yield
    except BaseException:
        for name in names:
            print(f"-- {name}\n{podman('logs', '--tail=30', name)}")
        raise
    finally:
        for name in names:
            podman("rm", "--force", "--time=0", name)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[BackendsForContainers]:
    with backends_for_containers(tmp_path / "backends", "127.0.0.1") as running:
        yield running


async def test_webhook_goes_through_read_only_images_under_a_memory_limit(
    servers: BackendsForContainers, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("spool", "documents")}
    for folder in folders.values():
        folder.mkdir()
        os.chown(folder, USER, USER)
    simulated = SimulatorSettings.model_validate({"port": 0, "webhook_secret": SECRET, **KEYS})
    started: list[str] = []
    async with running_simulator(simulated) as simulator:
        settings = servers.settings | {
            "SAFEVIDEO_ENV": "development",
            "MEMORY_LIMIT_MB": "512",
            "ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "JWT_SECRET": token_urlsafe(48),
            "SHAREGRAM_API_URL": f"{simulator.base_url}/v1",
            "SHAREGRAM_API_KEY": KEYS["api_key"],
            "SHAREGRAM_SECRET_KEY": KEYS["secret_key"],
            "SHAREGRAM_WEBHOOK_SECRET": SECRET,
        }
        environment = tmp_path / "environment"
        environment.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        run = ("run", *RESTRICTED, f"--env-file={environment}")
        for command in (["topics", "create"], ["migrate"]):
            await asyncio.to_thread(podman, *run, "--rm", f"localhost/safevideo/cli:{VERSION}", *command)
        volumes = [f"--volume={folder}:/var/lib/safevideo/{name}" for name, folder in folders.items()]
        with showing_logs(started):
            for name in PORTS:
                image = f"localhost/safevideo/{name}:{VERSION}"
                await asyncio.to_thread(podman, *run, *volumes, "--detach", f"--name={name}", image)
                started.append(name)
            await serve_a_webhook(servers.settings["DATABASE_URL"])
            for name in PORTS:
                await asyncio.to_thread(podman, "stop", "--time=60", name)
                assert podman("inspect", "--format={{.State.ExitCode}}", name).strip() == "0", name


async def serve_a_webhook(database_url: str) -> None:
    """Send a webhook once all services are ready, and return when it is applied."""
    webhook = write_webhook("performer.profile.updated", token_hex(8), "sg_1", {"changes": {"username": "jane"}})
    async with aiohttp.ClientSession() as session, Database.open(database_url, timeout=60.0) as database:

        async def is_ready(port: int) -> bool:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        for port in PORTS.values():
            await eventually(lambda port=port: is_ready(port), READY_SECONDS, 0.2)  # type: ignore[misc]
        url = f"http://127.0.0.1:{PORTS['webhook-ingest']}/webhooks/sharegram"
        assert await post(session, url, SECRET, webhook) == 200

        async def is_applied() -> bool:
            return await count_events(database, status="applied") == 1

        await eventually(is_applied, READY_SECONDS, 0.2)
        for name in PORTS:
            root = await asyncio.to_thread(podman, "exec", name, "sh", "-c", "touch /x 2>&1; id -u; cat /proc/1/status")
            assert "Read-only file system" in root
            assert f"\n{USER}\n" in root
            assert "CapEff:\t0000000000000000" in root


@pytest.mark.parametrize("name", PORTS)
def test_image_lists_its_packages_and_has_no_pip(name: str) -> None:
    has_list, has_compiler, has_pip = "test -s /opt/safevideo/sbom.cdx.json", "command -v gcc", "python -c 'import pip'"
    look = f"{has_list} && ! {has_compiler} && ! {has_pip} 2> /dev/null && echo fine"
    image = f"localhost/safevideo/{name}:{VERSION}"
    assert podman("run", "--rm", *RESTRICTED, "--entrypoint=sh", image, "-c", look).strip().endswith("fine")
