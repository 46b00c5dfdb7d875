"""Packages of Debian and its relatives, installed without starting a service."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safevideo_devstack.backends.lock import exclusive
from safevideo_devstack.backends.stack import BackendUnavailable, Say

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Written by safevideo-backends while it installs packages: start no service.\nexit 101\n"
LOCK = Path("/run/lock/safevideo-apt.lock")
SECONDS = 600.0


def is_debian() -> bool:
    """Whether `apt-get` is how programs are installed here."""
    return Path("/etc/debian_version").exists()


def may_install() -> bool:
    """Whether this process can install packages itself."""
    return is_debian() and os.geteuid() == 0


def install(packages: Sequence[str], say: Say) -> None:
    """Install packages and what they need, nothing more. Raises `BackendUnavailable` with apt's last words."""
    say(f"Installing {', '.join(packages)} with apt-get …")
    with exclusive(LOCK), no_services(POLICY):
        _apt_get("update")
        _apt_get("install", "--no-install-recommends", *packages)


@contextmanager
def no_services(policy: Path) -> Iterator[None]:
    """Forbid packages to start their services. A policy of the machine's own stays; a left-over one of ours goes."""
    ours = not policy.exists() or policy.read_text() == POLICY_TEXT
    if ours:
        policy.write_text(POLICY_TEXT)
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = "; ".join(str(error.stderr or error.stdout).strip().splitlines()[-3:])
        raise BackendUnavailable(f"{' '.join(command)} failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailable(f"{' '.join(command)} took longer than {SECONDS:.0f} seconds.") from error
