"""Packages of Debian and its relatives, installed without starting a service."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safevideo_devstack.backends import process
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


# Programs of the machine that a local stack is made of.


SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # where servers live, and what most users' PATH leaves out


def find(program: str) -> str | None:
    """Its full path, or None."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}")


def java_version() -> int:
    """Feature release of the Java that `java` starts, such as 17; 0 when there is none."""
    if not (java := find("java")):
        return 0
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match[1]) if match else 0


# Kafka's program files: fetched once through Maven into the user's cache, then used by every run.


VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
FETCH_SECONDS = 300.0

_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
)


def jars() -> Path:
    """The folder of the jars; it exists only when it is complete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "safevideo" / f"kafka-{VERSION}" / "libs"


def fetch_jars(say: Say) -> None:
    """Do nothing when they are there (44 MB, seconds, once). Raises `BackendFailed` when Maven cannot fetch them."""
    if jars().exists():
        return
    with exclusive(jars().parent / "lock"):
        if not jars().exists():
            say(f"Fetching Apache Kafka {VERSION} through Maven …")
            _fetch()


def _fetch() -> None:
    with tempfile.TemporaryDirectory(dir=jars().parent, prefix="fetch-") as name:
        work = Path(name)
        (work / "pom.xml").write_text(_pom())
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work / 'libs'}"]
        maven = [find("mvn") or "mvn", "-q", "-B", "-f", str(work / "pom.xml")]
        process.run([*maven, *goal], jars().parent / "maven.log", seconds=FETCH_SECONDS)  # stays, for people to read
        (work / "libs").replace(jars())


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in _DEPENDENCIES
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>safevideo</groupId><artifactId>kafka</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>\n"
    )
