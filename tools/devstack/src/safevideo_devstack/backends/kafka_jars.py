"""Kafka's program files: fetched once through Maven into the user's cache, then used by every run."""

import os
import tempfile
from pathlib import Path

from safevideo_devstack.backends import process
from safevideo_devstack.backends.lock import exclusive
from safevideo_devstack.backends.programs import find
from safevideo_devstack.backends.stack import Say

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
