"""`safevideo webhook secrets`: whether it is safe to retire the old one."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.fernet import Fernet

from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.signatures import environment_secrets
from safevideo_testkit.command import Run, command_runner

SETTING = "kR9-fQ2-vB7m-given,xT4-mW8-cN3p-unused"
USED, UNUSED = (secret.name for secret in environment_secrets(SETTING))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FAR = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def safevideo(migrated_sqlite_url: str) -> Run:
    return command_runner("webhook", "secrets", DATABASE_URL=migrated_sqlite_url, COLUMNS="120")


@pytest.fixture
def filled(safevideo: Run, migrated_sqlite_url: str) -> Run:
    async def fill() -> None:
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            of = await integrations.ensure(tx, SHAREGRAM, NOW)
            await webhook_secrets.add(tx, of, "old", b"sealed", NOW - timedelta(days=1), NOW)
            await webhook_secrets.add(tx, of, "new", b"sealed", NOW, FAR)
            await webhook_secrets.record_use(tx, of, "new", NOW)
            await webhook_secrets.record_environment_use(tx, of, USED, NOW)
            await webhook_secrets.record_environment_use(tx, of, "env-000000", NOW)

    asyncio.run(fill())
    return safevideo


def test_secrets_list_shows_end_and_last_use_and_never_the_secret(filled: Run) -> None:
    result = filled(SHAREGRAM_WEBHOOK_SECRET=SETTING)
    assert (result.returncode, result.stderr) == (0, "")
    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.strip().splitlines()[2:]]
    assert rows == [
        ["new", "database", "valid", "2999-01-01 00:00:00", "2026-11-24 12:00:00"],
        ["old", "database", "expired", "2026-11-24 12:00:00", "never"],
        [USED, "environment", "valid", "never", "2026-11-24 12:00:00"],
        [UNUSED, "environment", "valid", "never", "never"],
        ["env-000000", "environment", "not given here", "never", "2026-11-24 12:00:00"],
    ]
    assert not any(part in result.stdout for part in ("sealed", *SETTING.split(",")))


def test_secrets_list_prints_json(filled: Run) -> None:
    result = orjson.loads(filled("--json", SHAREGRAM_WEBHOOK_SECRET=SETTING).stdout)
    assert [secret["name"] for secret in result] == ["new", "old", USED, UNUSED, "env-000000"]
    assert result[0] == {
        "name": "new",
        "source": "database",
        "state": "valid",
        "expiresAt": "2999-01-01T00:00:00.000Z",
        "lastUsedAt": "2026-11-24T12:00:00.000Z",
    }


def test_secrets_list_without_the_setting_shows_those_of_the_environment(filled: Run) -> None:
    result = orjson.loads(filled("--json").stdout)
    assert {secret["name"]: secret["state"] for secret in result} == {
        "new": "valid",
        "old": "expired",
        USED: "not given here",
        "env-000000": "not given here",
    }


def test_secrets_list_with_an_invalid_setting_fails_and_quotes_nothing(filled: Run) -> None:
    result = filled(SHAREGRAM_WEBHOOK_SECRET="whsec_this-is-no-base64")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("SHAREGRAM_WEBHOOK_SECRET: ")
    assert "this-is" not in result.stderr


def test_secrets_list_before_the_first_migration_fails_and_names_the_command(fresh_sqlite_url: str) -> None:
    result = command_runner("webhook", "secrets", DATABASE_URL=fresh_sqlite_url)()
    assert (result.returncode, result.stderr) == (1, "The database is empty. Run: safevideo migrate\n")


def test_secret_is_added_from_stdin_and_retired_by_its_name(
    filled: Run, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    key = Fernet.generate_key().decode()
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-the-provider\n")
    added = filled("add", "2026-11", "--from", str(secret), ENCRYPTION_KEY=key)
    assert (added.returncode, added.stderr) == (0, "")
    assert "a-secret-of-the-provider" not in added.stdout

    async def stored() -> dict[str, bytes]:
        async with Database.open(migrated_sqlite_url) as database, database.read_connection() as reading:
            valid = await webhook_secrets.find_valid(reading, SHAREGRAM, datetime.now(UTC))
            return {each.name: each.ciphertext for each in valid}

    ciphertext = asyncio.run(stored())["2026-11"]
    row = webhook_secrets.encryption_row(SHAREGRAM, "2026-11")
    assert (
        EncryptionKeys.parse(key).cipher(Purpose.WEBHOOK_SECRET).decrypt(ciphertext, row) == b"a-secret-of-the-provider"
    )
    again = filled("add", "2026-11", "--from", str(secret), ENCRYPTION_KEY=key)
    assert again.stderr.startswith("INVALID_STATUS_TRANSITION: There is a secret 2026-11")
    assert filled("retire", "2026-11").returncode == 0
    assert "2026-11" not in asyncio.run(stored())
    assert filled("retire", "2026-11").stderr.startswith("NOT_FOUND: ")
    assert filled("retire", USED).returncode == 1, "a secret of the environment"


def test_secret_cannot_be_added_without_the_key_or_with_a_bad_value(filled: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("whsec_short")
    key = Fernet.generate_key().decode()
    assert filled("add", "new-one", "--from", str(secret), ENCRYPTION_KEY=key).returncode == 2
    secret.write_text("a-secret")
    assert filled("add", "env-one", "--from", str(secret), ENCRYPTION_KEY=key).returncode == 2
    assert "ENCRYPTION_KEY is not set" in filled("add", "new-one", "--from", str(secret)).stderr
