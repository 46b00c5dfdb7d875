"""A certified OpenID provider as a process: npm's oidc-provider, with the script of `tests/identity_provider`."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import ClientSession, CookieJar
from yarl import URL

from safevideo_devstack.backends import process
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.eventually import DEADLINE_SECONDS
from safevideo_testkit.http import DEADLINE

FOLDER: Final = Path(__file__).parents[4] / "tests" / "identity_provider"
MIN_NODE: Final = 20
VERSION_SECONDS: Final = 30.0
INSTALL_SECONDS: Final = 300.0
STOP_SECONDS: Final = 10.0
_PINS: Final = ("package.json", "package-lock.json")


def node_version(node: str) -> int:
    """Return the major version of Node.js, such as 22; 0 if it does not say."""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)
    major = said.stdout.removeprefix("v").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def install_modules(npm: str) -> Path:
    """Return a folder with the provider's modules, from the user's cache. Raises `BackendFailed` if npm cannot."""
    digest = sha256(b"".join((FOLDER / name).read_bytes() for name in _PINS)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safevideo"
    folder = cache / f"identity-provider-{digest}"
    with process.exclusive(cache / "identity-provider.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as name:
                work = Path(name) / "modules"
                work.mkdir()
                for pin in _PINS:
                    shutil.copy(FOLDER / pin, work)
                command = [npm, "ci", "--prefix", str(work), "--ignore-scripts", "--no-audit", "--no-fund"]
                process.run(command, cache / "npm.log", seconds=INSTALL_SECONDS)
                work.replace(folder)
    return folder


@dataclass(frozen=True, slots=True)
class CertifiedProvider:
    """The running provider. `session` has the cookies that a browser has of it."""

    issuer: str
    session: ClientSession

    async def approve(self, address: URL, name: str) -> URL:
        """Sign in as `name` at the address that our site sent the browser to. Return where it is sent back to."""
        url = address.update_query(login_hint=name)
        while str(url).startswith(self.issuer):
            async with self.session.get(url, allow_redirects=False) as answer:
                assert answer.status in {302, 303}, await answer.text()
                url = url.join(URL(answer.headers["Location"], encoded=True))
        return url

    async def rotate_key(self) -> str:
        """Sign with a new key from now on; return its id. The old one stays published."""
        async with self.session.post(f"{self.issuer}/_test/rotate") as answer:
            return await answer.text()


@asynccontextmanager
async def running_provider(node: str, modules: Path, site: str) -> AsyncIterator[CertifiedProvider]:
    """Run the provider of the gateway at `site`, until the block ends."""
    port = free_port()
    command = [node, str(FOLDER / "provider.mjs"), str(modules), str(port), site]
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert running.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await running.stdout.readline()).strip() == b"ready", "the provider did not start"
        async with ClientSession(timeout=DEADLINE, cookie_jar=CookieJar(unsafe=True)) as session:
            yield CertifiedProvider(f"http://127.0.0.1:{port}", session)
    finally:
        running.kill()
        async with asyncio.timeout(STOP_SECONDS):
            await running.communicate()
