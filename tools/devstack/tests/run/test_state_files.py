"""The files of a run for shells and later runs."""

import stat
import sys
from pathlib import Path
from shutil import which

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.state_files import MAX_LOG_BYTES, Paths, SecretStore, write_env
from safevideo_devstack.run.testing import sourced


def test_env_gives_a_shell_each_value_to_the_letter(tmp_path: Path) -> None:
    variables = {
        "PLAIN": "http://127.0.0.1:3000",
        "EMPTY": "",
        "AWKWARD": 'it\'s $HOME `id` "quoted" \\ * # two\nlines',
    }
    write_env(tmp_path / "env", variables)
    assert sourced(tmp_path / "env").items() >= variables.items()


def test_env_puts_our_commands_first_on_the_path(tmp_path: Path) -> None:
    write_env(tmp_path / "env", {})
    safevideo = which("safevideo", path=sourced(tmp_path / "env")["PATH"])
    assert safevideo == str(Path(sys.executable).with_name("safevideo"))


def test_env_and_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    write_env(tmp_path / "env", {"A": "1"})
    SecretStore(tmp_path / "secrets").get_or_create("A")
    assert [_mode(tmp_path / name) for name in ("env", "secrets")] == [0o600, 0o600]


def test_env_replaces_a_file_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "env").touch(mode=0o644)
    write_env(tmp_path / "env", {"A": "1"})
    assert _mode(tmp_path / "env") == 0o600


def test_secret_store_keeps_a_secret_for_later_runs(tmp_path: Path) -> None:
    first = SecretStore(tmp_path / "secrets")
    secret = first.get_or_create("WEBHOOK")
    assert first.get_or_create("WEBHOOK") == secret
    assert SecretStore(tmp_path / "secrets").get_or_create("WEBHOOK") == secret


def test_secret_store_makes_each_secret_different(tmp_path: Path) -> None:
    stores = SecretStore(tmp_path / "here"), SecretStore(tmp_path / "there")
    secrets = {store.get_or_create(name) for store in stores for name in ("A", "B")}
    assert len(secrets) == 4
    assert all(len(secret) >= 32 for secret in secrets)


def test_secret_store_refuses_a_damaged_file_and_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("{")
    with pytest.raises(StartupError, match="make clean"):
        SecretStore(tmp_path / "secrets")


def test_large_log_replaces_its_predecessor(tmp_path: Path) -> None:
    paths = Paths(tmp_path / ".run", "embedded")
    paths.make()
    large, small = paths.logs / "app.log", paths.logs / "error.log"
    small.write_text("kept")
    for content in (b"older", b"newer"):
        large.write_bytes(content)
        with large.open("r+b") as file:
            file.truncate(MAX_LOG_BYTES + 1)
        paths.rotate_large_logs()
    assert not large.exists()
    with (paths.logs / "app.log.1").open("rb") as kept:
        assert kept.read(5) == b"newer"
    assert small.read_text() == "kept"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_given_secret_wins_and_is_not_stored(tmp_path: Path) -> None:
    stored = SecretStore(tmp_path / "secrets").get_or_create("WEBHOOK")
    store = SecretStore(tmp_path / "secrets", {"WEBHOOK": "old,new", "API": "given", "EMPTY": ""})
    assert [store.get_or_create(name) for name in ("WEBHOOK", "API")] == ["old,new", "given"]
    assert store.differing() == ["WEBHOOK"]
    assert SecretStore(tmp_path / "secrets").get_or_create("WEBHOOK") == stored
