"""Whole test runs, as people and CI start them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from safevideo_devstack.backends import state
from safevideo_devstack.backends.external import VARIABLES
from safevideo_devstack.backends.process import Process, is_running
from safevideo_testkit.eventually import DEADLINE_SECONDS

Until = Callable[[Callable[[], object]], None]
Start = Callable[..., "subprocess.Popen[str]"]

WANTS_NOTHING = "def test_arithmetic(): assert 1 + 1 == 2\n"
WANTS_REDIS = "def test_redis(redis_url): assert redis_url\ndef test_again(backends): assert backends.redis.alive()\n"
WANTS_KAFKA = """
import pytest

def test_kafka(kafka_bootstrap_servers): pass

@pytest.mark.kafka
def test_that_finds_out_later(request): request.getfixturevalue("kafka_bootstrap_servers")
"""
IN_TWO_WORKERS = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(4))
def test_redis(backends, worker_id, number):
    (Path("seen") / worker_id).write_text(backends.redis_url)
    assert backends.redis.alive()

@pytest.mark.kafka
def test_kafka(): pass
"""
SKIPS = """
import pytest

def test_skipped(): pytest.skip("for no good reason")
def test_run(): pass
"""
HANGS = """
import time
from pathlib import Path

def test_hangs(backends):
    Path("hangs.new").write_text(str(backends.folder))
    Path("hangs.new").rename("hangs")
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A run that a shell has put into the background ignores it, and so would the runs that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts pytest on a file of that content, with temporary files of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(content: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        (tmp_path / "test_it.py").write_text(content)
        (tmp_path / "pytest.ini").touch()
        (tmp_path / "temporary").mkdir(exist_ok=True)
        plugins = ["safevideo_testkit.plugin", "safevideo_testkit.parallel", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *(f"-p{each}" for each in plugins)]
        inherited = {name: value for name, value in os.environ.items() if name not in {*VARIABLES, "CI"}}
        ours = {"TMPDIR": str(tmp_path / "temporary"), "STACK": "embedded", "REQUIRE_REAL_BACKENDS": "0"}
        run = subprocess.Popen(
            [*command, *arguments],
            cwd=tmp_path,
            env={**inherited, **ours, **variables},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(run)
        return run

    yield start
    for run in started:
        run.kill()
        run.communicate()


def output(run: "subprocess.Popen[str]") -> str:
    return run.communicate(timeout=DEADLINE_SECONDS)[0]


def left_behind(tmp_path: Path) -> list[str]:
    return [folder.name for folder in (tmp_path / "temporary").glob("safevideo-backends-*")]


def test_a_run_that_wants_no_backends_starts_none(start: Start) -> None:
    run = start(WANTS_NOTHING)
    assert "Backends" not in output(run)
    assert run.returncode == 0


def test_one_table_tells_what_came_up_and_nothing_stays(start: Start, tmp_path: Path) -> None:
    run = start(WANTS_REDIS)
    told = output(run)
    assert (run.returncode, told.count("Backends: embedded"), left_behind(tmp_path)) == (0, 1, [])
    assert "Valkey" in told
    assert told.index("Backends") < told.index("test_it.py")


def test_what_is_skipped_is_told_by_suite(start: Start) -> None:
    run = start(WANTS_KAFKA, "-rs")
    told = output(run)
    assert "skipped for want of kafka: test_it.py (2 tests)" in told
    assert "no Kafka on the embedded stack" in told
    assert run.returncode == 0


def test_where_real_ones_are_required_a_missing_part_is_a_failure(start: Start) -> None:
    run = start(WANTS_KAFKA, REQUIRE_REAL_BACKENDS="1")
    assert "no Kafka on the embedded stack, and REQUIRE_REAL_BACKENDS=1" in output(run)
    assert run.returncode == 1


def test_where_real_ones_are_required_a_run_with_a_skipped_test_fails_and_lists_it(start: Start) -> None:
    run = start(SKIPS, REQUIRE_REAL_BACKENDS="1")
    told = output(run)
    assert run.returncode == 1
    assert "1 skipped, and REQUIRE_REAL_BACKENDS=1" in told
    assert "test_it.py::test_skipped: Skipped: for no good reason" in told


def test_each_worker_has_a_set_of_its_own_and_one_table_tells_of_all(start: Start, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    run = start(IN_TWO_WORKERS, "-n2")
    told = output(run)
    assert (run.returncode, told.count("Backends: embedded"), left_behind(tmp_path)) == (0, 1, [])
    assert "2 sets in all" in told
    assert "skipped for want of kafka: test_it.py (1 tests)" in told
    urls = [seen.read_text() for seen in (tmp_path / "seen").iterdir()]
    assert len(set(urls)) == 2


def test_several_workers_cannot_share_given_backends(start: Start) -> None:
    run = start(WANTS_REDIS, "-n2", STACK="given")
    assert "Several workers cannot share the given backends" in output(run)
    assert run.returncode == 1


def test_a_stack_that_cannot_be_had_ends_the_run_with_the_reason(start: Start) -> None:
    run = start(WANTS_REDIS, STACK="given")
    assert "KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, REDIS_URL not set" in output(run)
    assert run.returncode == 1


def test_collecting_starts_nothing(start: Start) -> None:
    assert "Backends" not in output(start(WANTS_REDIS, "--collect-only"))


def test_a_run_that_is_interrupted_stops_what_it_started(start: Start, tmp_path: Path, until: Until) -> None:
    run = start(HANGS)
    processes = _while_it_hangs(tmp_path, until)
    run.send_signal(signal.SIGINT)
    output(run)
    assert not any(map(is_running, processes))
    assert left_behind(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_run_that_is_killed_leaves_no_process_and_the_next_one_removes_its_data(
    start: Start, tmp_path: Path, until: Until
) -> None:
    run = start(HANGS)
    processes = _while_it_hangs(tmp_path, until)
    run.kill()
    run.wait()
    until(lambda: not any(map(is_running, processes)))
    assert len(left_behind(tmp_path)) == 1
    output(start(WANTS_REDIS))
    assert left_behind(tmp_path) == []


def _while_it_hangs(tmp_path: Path, until: Until) -> tuple[Process, ...]:
    until((tmp_path / "hangs").exists)
    processes = state.recorded(Path((tmp_path / "hangs").read_text())).processes
    assert all(map(is_running, processes))
    return processes
