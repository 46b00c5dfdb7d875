"""What a run writes for shells, drills and later runs."""

import stat
from pathlib import Path

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.state_files import SecretStore, write_env
from safevideo_devstack.run.testing import sourced


def test_a_shell_that_sources_the_file_has_each_value_to_the_letter(tmp_path: Path) -> None:
    variables = {
        "PLAIN": "http://127.0.0.1:3000",
        "EMPTY": "",
        "AWKWARD": 'it\'s $HOME `id` "quoted" \\ * # two\nlines',
    }
    write_env(tmp_path / "env", variables)
    assert sourced(tmp_path / "env").items() >= variables.items()


def test_what_holds_secrets_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    write_env(tmp_path / "env", {"A": "1"})
    SecretStore(tmp_path / "secrets").made("A")
    assert [_mode(tmp_path / name) for name in ("env", "secrets")] == [0o600, 0o600]


def test_a_file_that_others_could_read_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    (tmp_path / "env").touch(mode=0o644)
    write_env(tmp_path / "env", {"A": "1"})
    assert _mode(tmp_path / "env") == 0o600


def test_secrets_are_made_once_and_kept_for_later_runs(tmp_path: Path) -> None:
    first = SecretStore(tmp_path / "secrets")
    secret = first.made("WEBHOOK")
    assert first.made("WEBHOOK") == secret
    assert SecretStore(tmp_path / "secrets").made("WEBHOOK") == secret


def test_each_secret_of_each_system_is_another_one(tmp_path: Path) -> None:
    stores = SecretStore(tmp_path / "here"), SecretStore(tmp_path / "there")
    secrets = {store.made(name) for store in stores for name in ("A", "B")}
    assert len(secrets) == 4
    assert all(len(secret) >= 32 for secret in secrets)


def test_damaged_secrets_stop_the_start_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_text("{")
    with pytest.raises(StartupError, match="make clean"):
        SecretStore(tmp_path / "secrets")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
