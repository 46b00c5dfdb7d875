from pathlib import Path

import pytest

from safevideo_devstack.backends import BackendFailed, BackendUnavailable, Options
from safevideo_devstack.backends.external import VARIABLES
from safevideo_devstack.backends.lifecycle import down, up
from safevideo_devstack.backends.local import MARIADB, MAVEN, what_to_type
from safevideo_devstack.backends.selection import candidates, named, start_first


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")


def said(_line: str) -> None:
    pass


def test_the_order_is_given_docker_local_embedded() -> None:
    assert candidates("auto", require_real=False) == ["given", "docker", "local", "embedded"]


def test_the_embedded_stack_is_no_choice_where_real_ones_are_required() -> None:
    assert candidates("auto", require_real=True) == ["given", "docker", "local"]


def test_a_stack_that_is_asked_for_is_the_only_choice() -> None:
    assert candidates(named("embedded"), require_real=True) == ["embedded"]


def test_an_unknown_stack_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BackendUnavailable, match=r"'dockr'.*docker"):
        named("dockr")


def test_an_unknown_database_of_the_local_stack_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_DATABASE", "oracle")
    with pytest.raises(BackendUnavailable, match=r"oracle.*mariadb, mysql"):
        Options()


@pytest.mark.usefixtures("bare")
def test_a_stack_that_cannot_be_had_is_passed_over_with_its_reason(tmp_path: Path) -> None:
    try:
        backends = start_first(["docker", "embedded"], tmp_path, Options(), said)
    finally:
        down(tmp_path, grace_seconds=0.0)
    assert backends.stack == "embedded"
    assert len(backends.skipped) == 1
    assert backends.skipped[0].startswith("docker: the engine does not answer at")


@pytest.mark.usefixtures("bare")
def test_when_no_stack_can_be_had_every_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        start_first(["given", "docker"], tmp_path, Options(), said)
    assert "given: KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, REDIS_URL not set" in str(caught.value)
    assert "docker: the engine does not answer" in str(caught.value)


def test_given_backends_that_do_not_answer_are_not_replaced_by_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("DATABASE_URL", "mysql+aiomysql://someone:hidden@127.0.0.1:1/safevideo")
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@127.0.0.1:1")
    with pytest.raises(BackendFailed) as caught:
        up(folder=tmp_path)
    assert "127.0.0.1:1 has not answered" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_machine_that_lacks_parts_is_told_which_and_what_to_type() -> None:
    told = what_to_type([MARIADB, MAVEN])
    assert told.startswith("MariaDB, Maven missing")
    assert "install" in told
