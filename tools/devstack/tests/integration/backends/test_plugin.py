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
def _handle_ctrl_c() -> Iterator[None]:
    """A run that a shell has put into the background ignores it, and so would the runs that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts pytest on a file of that content, with temporary files of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(content: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        (tmp_path / "test_it.py").write_text(content)
        (tmp_path / "pytest.ini").touch()
        (tmp_path / "temporary").mkdir(exist_ok=True)
        plugins = ["xdist", "safevideo_testkit.plugin", "safevideo_testkit.parallel", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *(f"-p{each}" for each in plugins)]
        inherited = {name: value for name, value in os.environ.items() if name not in {*VARIABLES, "CI"}}
        ours = {
            "TMPDIR": str(tmp_path / "temporary"),
            "STACK": "embedded",
            "REQUIRE_REAL_BACKENDS": "0",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the other plugins take most of the time of a start
        }
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


def leftover_sets(tmp_path: Path) -> list[str]:
    return [folder.name for folder in (tmp_path / "temporary").glob("safevideo-backends-*")]


def test_plugin_starts_no_backends_for_tests_without_backends(start: Start) -> None:
    run = start(WANTS_NOTHING)
    assert "Backends" not in output(run)
    assert run.returncode == 0


def test_plugin_prints_one_table_with_skipped_tests_by_suite_and_removes_everything(
    start: Start, tmp_path: Path
) -> None:
    run = start(WANTS_REDIS + WANTS_KAFKA, "-rs")
    printed = output(run)
    assert (run.returncode, printed.count("Backends: embedded"), leftover_sets(tmp_path)) == (0, 1, [])
    assert "Valkey" in printed
    assert printed.index("Backends") < printed.index("test_it.py")
    assert "skipped for want of kafka: test_it.py (2 tests)" in printed
    assert "no Kafka on the embedded stack" in printed


def test_plugin_fails_on_a_missing_part_when_real_ones_are_required(start: Start) -> None:
    run = start(WANTS_KAFKA, REQUIRE_REAL_BACKENDS="1")
    assert "no Kafka on the embedded stack, and REQUIRE_REAL_BACKENDS=1" in output(run)
    assert run.returncode == 1


def test_plugin_fails_on_a_skipped_test_when_real_ones_are_required(start: Start) -> None:
    run = start(SKIPS, REQUIRE_REAL_BACKENDS="1")
    printed = output(run)
    assert run.returncode == 1
    assert "1 skipped, and REQUIRE_REAL_BACKENDS=1" in printed
    assert "test_it.py::test_skipped: Skipped: for no good reason" in printed


def test_plugin_gives_each_worker_its_own_set_and_prints_one_table(start: Start, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    run = start(IN_TWO_WORKERS, "-n2")
    printed = output(run)
    assert (run.returncode, printed.count("Backends: embedded"), leftover_sets(tmp_path)) == (0, 1, [])
    assert "2 sets in all" in printed
    assert "skipped for want of kafka: test_it.py (1 tests)" in printed
    urls = [seen.read_text() for seen in (tmp_path / "seen").iterdir()]
    assert len(set(urls)) == 2


def test_plugin_refuses_several_workers_on_external_backends(start: Start) -> None:
    run = start(WANTS_REDIS, "-n2", STACK="external")
    assert "Several workers cannot share the external backends" in output(run)
    assert run.returncode == 1


def test_plugin_ends_the_run_with_the_reason_when_a_stack_is_unavailable(start: Start) -> None:
    run = start(WANTS_REDIS, STACK="external")
    assert "KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, REDIS_URL not set" in output(run)
    assert run.returncode == 1


def test_plugin_starts_nothing_to_collect_tests(start: Start) -> None:
    assert "Backends" not in output(start(WANTS_REDIS, "--collect-only"))


def test_plugin_stops_its_backends_when_interrupted(start: Start, tmp_path: Path, until: Until) -> None:
    run = start(HANGS)
    processes = _while_it_hangs(tmp_path, until)
    run.send_signal(signal.SIGINT)
    output(run)
    assert not any(map(is_running, processes))
    assert leftover_sets(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_killed_run_leaves_no_process_and_the_next_run_removes_its_data(
    start: Start, tmp_path: Path, until: Until
) -> None:
    run = start(HANGS)
    processes = _while_it_hangs(tmp_path, until)
    run.kill()
    run.wait()
    until(lambda: not any(map(is_running, processes)))
    assert len(leftover_sets(tmp_path)) == 1
    output(start(WANTS_REDIS))
    assert leftover_sets(tmp_path) == []


def _while_it_hangs(tmp_path: Path, until: Until) -> tuple[Process, ...]:
    until((tmp_path / "hangs").exists)
    processes = state.get(Path((tmp_path / "hangs").read_text())).processes
    assert all(map(is_running, processes))
    return processes
