"""Installation of the programs that the local stack consists of: Debian packages, and Kafka through Maven.

Kafka's program files are fetched once into the user's cache and used by every run. No package starts a service.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safevideo_devstack.backends import process
from safevideo_devstack.backends.stack import BackendFailed, BackendUnavailable, LocalDatabase, Say

MIN_JAVA = 17
APT_LOCK = Path("/run/lock/safevideo-apt.lock")
APT_SECONDS = 600.0
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Written by safevideo-backends while it installs packages: start no service.\nexit 101\n"
SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # the folders of servers, which most users' PATH leaves out
VERSION_SECONDS = 30.0

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
MAVEN_SECONDS = 300.0
_JARS = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """A part of the stack: its programs, and the Debian packages that bring them."""

    name: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]


# Debian's core packages are the programs without the service and its account.
MARIADB = Requirement(
    "MariaDB",
    ("mariadbd", "mariadb-install-db", "my_print_defaults"),
    ("mariadb-server-core", "mariadb-client-core"),
)
REDIS = Requirement("Redis", ("redis-server",), ("redis-server",))
JAVA = Requirement(f"Java {MIN_JAVA} or newer", ("java",), ("default-jre-headless",))
MAVEN = Requirement("Maven", ("mvn",), ("maven",))
TEST_PROGRAMS = {
    "promtool": Requirement("promtool", ("promtool",), ("prometheus",)),
    "nginx": Requirement("nginx", ("nginx",), ("nginx-light",)),
    "chromium": Requirement("Chromium", ("chromium",), ("chromium",)),
    "node": Requirement("Node.js", ("node", "npm"), ("nodejs", "npm")),
}
"""No parts of the stack: tests of what deploys run them."""


def install_programs(say: Say, database: LocalDatabase) -> None:
    """Install what the stack needs and this machine lacks: on Debian as root, MySQL excepted.

    Raises `BackendUnavailable` with the name of each missing part and what to type.
    """
    _require(_parts(database), say, may_install=True)
    if database == "mysql" and not _is_mysql():
        raise BackendUnavailable("LOCAL_DATABASE=mysql takes the `mysqld` of MySQL; put one first on PATH.")
    if (version := _java_version()) < MIN_JAVA:
        raise BackendUnavailable(f"`java` is version {version}, {JAVA.name} is needed; put one first on PATH.")
    try:
        _fetch_jars(say)
    except BackendFailed as error:
        raise BackendUnavailable(f"Kafka could not be fetched: {error}") from error


def provide_test_program(name: str, say: Say, *, may_install: bool) -> None:
    """Install one of `TEST_PROGRAMS` where it is missing: on Debian as root. Raises `BackendUnavailable`."""
    _require([TEST_PROGRAMS[name]], say, may_install=may_install)


def find(program: str) -> str | None:
    """Return the full path of a program, or None."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}")


def jars() -> Path:
    """Return the folder of Kafka's jars; it exists only when it is complete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "safevideo" / f"kafka-{KAFKA_VERSION}" / "libs"


def what_to_type(missing: Sequence[Requirement]) -> str:
    """Name the missing parts and, on Debian, the command that installs them."""
    names = ", ".join(requirement.name for requirement in missing)
    if _is_debian():
        return f"{names} missing; type: sudo apt-get install --no-install-recommends {' '.join(_packages(missing))}"
    return f"{names} missing; install with your system's package manager"


@contextmanager
def no_services(policy: Path) -> Iterator[None]:
    """Forbid packages to start their services. Keeps a policy of the machine, removes an old one of ours."""
    ours = not policy.exists() or policy.read_text() == POLICY_TEXT
    if ours:
        policy.write_text(POLICY_TEXT)
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def _parts(database: LocalDatabase) -> list[Requirement]:
    parts = [MARIADB] if database == "mariadb" else []
    return [*parts, REDIS, JAVA] if jars().exists() else [*parts, REDIS, JAVA, MAVEN]


def _require(parts: Sequence[Requirement], say: Say, *, may_install: bool) -> None:
    missing = _missing(parts)
    if missing and may_install and _is_debian() and os.geteuid() == 0:
        _install_packages(_packages(missing), say)
        missing = _missing(parts)
    if missing:
        raise BackendUnavailable(what_to_type(missing))


def _missing(parts: Sequence[Requirement]) -> list[Requirement]:
    return [part for part in parts if not all(map(find, part.programs))]


def _packages(missing: Sequence[Requirement]) -> list[str]:
    return [package for requirement in missing for package in requirement.packages]


def _is_debian() -> bool:
    return Path("/etc/debian_version").exists()


def _install_packages(packages: Sequence[str], say: Say) -> None:
    say(f"Installing {', '.join(packages)} with apt-get …")
    with process.exclusive(APT_LOCK), no_services(POLICY):
        _apt_get("update")
        _apt_get("install", "--no-install-recommends", *packages)


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
            timeout=APT_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = "; ".join(str(error.stderr or error.stdout).strip().splitlines()[-3:])
        raise BackendUnavailable(f"{' '.join(command)} failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendUnavailable(f"{' '.join(command)} took longer than {APT_SECONDS:.0f} seconds.") from error


def _java_version() -> int:
    """Return the feature release of `java`, such as 17; 0 when there is none."""
    if not (java := find("java")):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', _run_for_version(java, "-version").stderr)
    return int(match[1]) if match else 0


def _is_mysql() -> bool:
    """Return whether `mysqld` is there and is MySQL's: MariaDB's packages have a link of that name."""
    mysqld = find("mysqld")
    return mysqld is not None and "MariaDB" not in _run_for_version(mysqld, "--version").stdout


def _run_for_version(program: str, option: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, option], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)


def _fetch_jars(say: Say) -> None:
    """Fetch 44 MB once, in seconds. Raises `BackendFailed` when Maven cannot fetch them."""
    if jars().exists():
        return
    with process.exclusive(jars().parent / "lock"):
        if not jars().exists():
            say(f"Fetching Apache Kafka {KAFKA_VERSION} through Maven …")
            _run_maven()


def _run_maven() -> None:
    with tempfile.TemporaryDirectory(dir=jars().parent, prefix="fetch-") as name:
        work = Path(name)
        (work / "pom.xml").write_text(_pom())
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work / 'libs'}"]
        maven = [find("mvn") or "mvn", "-q", "-B", "-f", str(work / "pom.xml")]
        process.run([*maven, *goal], jars().parent / "maven.log", seconds=MAVEN_SECONDS)  # stays, for people to read
        (work / "libs").replace(jars())


def _pom() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in _JARS
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>safevideo</groupId><artifactId>kafka</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>\n"
    )
