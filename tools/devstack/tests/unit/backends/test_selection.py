from pathlib import Path

import pytest

from safevideo_devstack.backends import BackendFailed, BackendUnavailable, Options
from safevideo_devstack.backends.external import VARIABLES
from safevideo_devstack.backends.install import MARIADB, MAVEN, what_to_type
from safevideo_devstack.backends.lifecycle import candidates, down, parse_stack, quiet, start_first, up


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")


def test_selection_tries_external_docker_local_embedded() -> None:
    assert candidates("auto", require_real=False) == ["external", "docker", "local", "embedded"]


def test_selection_leaves_out_the_embedded_stack_when_real_ones_are_required() -> None:
    assert candidates("auto", require_real=True) == ["external", "docker", "local"]


def test_selection_tries_only_a_named_stack() -> None:
    assert candidates(parse_stack("embedded"), require_real=True) == ["embedded"]


def test_selection_refuses_an_unknown_stack_and_lists_the_stacks() -> None:
    with pytest.raises(BackendUnavailable, match=r"'dockr'.*docker"):
        parse_stack("dockr")


def test_options_refuse_an_unknown_local_database_and_list_the_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_DATABASE", "oracle")
    with pytest.raises(BackendUnavailable, match=r"oracle.*mariadb, mysql"):
        Options()


@pytest.mark.usefixtures("bare")
def test_selection_skips_an_unavailable_stack_with_its_reason(tmp_path: Path) -> None:
    try:
        backends = start_first(["docker", "embedded"], tmp_path, Options(), quiet)
    finally:
        down(tmp_path, grace_seconds=0.0)
    assert backends.stack == "embedded"
    assert len(backends.skipped) == 1
    assert backends.skipped[0].startswith("docker: the engine does not answer at")


@pytest.mark.usefixtures("bare")
def test_selection_reports_every_reason_when_no_stack_is_available(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        start_first(["external", "docker"], tmp_path, Options(), quiet)
    assert "external: KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL, REDIS_URL not set" in str(caught.value)
    assert "docker: the engine does not answer" in str(caught.value)


def test_selection_does_not_replace_external_backends_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("DATABASE_URL", "mysql+aiomysql://someone:hidden@127.0.0.1:1/safevideo")
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@127.0.0.1:1")
    with pytest.raises(BackendFailed) as caught:
        up(folder=tmp_path)
    assert "127.0.0.1:1 has not answered" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_installation_names_missing_parts_and_what_to_type() -> None:
    message = what_to_type([MARIADB, MAVEN])
    assert message.startswith("MariaDB, Maven missing")
    assert "install" in message
