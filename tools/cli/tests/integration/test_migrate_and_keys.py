"""`safevideo migrate` and `safevideo keys`, on a terminal and in scripts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from safevideo_common.database.schema import head
from safevideo_testkit.command import Run, command_runner

COMMAND = Path(sys.executable).parent / "safevideo"
SECONDS = 180.0


@pytest.fixture
def safevideo(fresh_sqlite_url: str) -> Run:
    return command_runner(DATABASE_URL=fresh_sqlite_url, COLUMNS="100")


@pytest.fixture
def migrated(safevideo: Run) -> Run:
    assert safevideo("migrate").returncode == 0
    return safevideo


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("fresh_sqlite_url" if request.param == "sqlite" else "fresh_mysql_database")
    return url


def test_migrate_wait_ends_when_the_schema_is_there_and_says_why_it_is_not(safevideo: Run) -> None:
    early = safevideo("migrate", "wait", "--seconds", "0")
    assert (early.returncode, early.stdout) == (1, "")
    assert early.stderr.startswith("The database is empty")
    assert safevideo("migrate").returncode == 0
    assert safevideo("migrate", "wait").returncode == 0


def test_migrate_creates_the_schema_and_then_has_nothing_to_do(database_url: str) -> None:
    safevideo = command_runner(DATABASE_URL=database_url, COLUMNS="100")
    first, second = safevideo("migrate"), safevideo("migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert "0001  The inbox: one row for each event and consumer group." in first.stdout.splitlines()
    assert first.stdout.splitlines()[-1] == f"The schema is at {head()} now."
    assert (second.returncode, second.stdout) == (0, f"The schema is at {head()}; there was nothing to do.\n")


def test_migrate_prints_applied_migrations_and_schema_as_json(safevideo: Run) -> None:
    state, first, second = (
        orjson.loads(safevideo(*arguments, "--json").stdout)
        for arguments in (("migrate", "status"), ("migrate",), ("migrate",))
    )
    assert state == {"current": None, "head": head(), "behind": True}
    assert first == {"before": None, "after": head(), "applied": [f"{n:04}" for n in range(1, int(head()) + 1)]}
    assert second == {"before": head(), "after": head(), "applied": []}


def test_migrate_status_says_what_to_run_and_changes_nothing(safevideo: Run) -> None:
    before, again = safevideo("migrate", "status"), safevideo("migrate", "status")
    assert (before.returncode, before.stdout) == (again.returncode, again.stdout)
    assert before.returncode == 0
    assert before.stdout == f"The database is empty; this build needs {head()}. Run: safevideo migrate\n"


def test_migrate_succeeds_twice_at_the_same_time(database_url: str) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    both = [
        subprocess.Popen([COMMAND, "migrate"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs


def test_keys_show_a_key_once_list_it_without_secret_and_revoke_it(migrated: Run) -> None:
    generated = migrated("keys", "generate", "ops-console", "--role", "admin")
    assert generated.returncode == 0
    printed = re.fullmatch(r"X-API-Client: ops-console\nX-API-Key: (safevideo_[0-9A-Za-z]{49})\n", generated.stdout)
    assert printed

    listed = migrated("keys", "list").stdout
    assert re.search(r"1\s+ops-console\s+admin\s+yes", listed)
    assert printed[1] not in listed

    revoked = migrated("keys", "revoke", "1")
    assert (revoked.returncode, revoked.stdout) == (0, "Key 1 is revoked.\n")
    assert "no: revoked" in migrated("keys", "list").stdout


def test_keys_rotate_keeps_client_and_role_and_ends_the_old_key_once(migrated: Run) -> None:
    first = orjson.loads(migrated("keys", "generate", "ops", "--role", "auditor", "--json").stdout)
    rotated = orjson.loads(migrated("keys", "rotate", "1", "--overlap-hours", "2", "--json").stdout)
    assert (rotated["id"], rotated["client"], rotated["role"]) == (2, "ops", "auditor")
    assert rotated["key"] != first["key"]
    old, _ = orjson.loads(migrated("keys", "list", "--json").stdout)
    assert (old["valid"], old["expiresAt"]) == (True, rotated["oldExpiresAt"])
    again = migrated("keys", "rotate", "1", "--overlap-hours", "2")
    assert (again.returncode, again.stdout) == (1, "")
    assert "no key 1 that outlives the overlap" in again.stderr


def test_keys_are_audited_in_the_table_and_in_the_log(migrated: Run, tmp_path: Path) -> None:
    environment = {"LOG_DIR": str(tmp_path)}
    key = orjson.loads(migrated("keys", "generate", "ops", "--json", **environment).stdout)["key"]
    new_key = orjson.loads(migrated("keys", "rotate", "1", "--json", **environment).stdout)["key"]
    migrated("keys", "revoke", "1", **environment)
    shown = orjson.loads(migrated("audit", "--target", "key:1", "--json").stdout)
    assert [each["action"] for each in shown["entries"]] == ["keys.revoked", "keys.rotated", "keys.generated"]
    assert shown["entries"][0]["details"] | {"was": "valid", "now": "revoked"} == shown["entries"][0]["details"]
    table = migrated("audit", "--action", "keys.rotated").stdout
    assert "keys.rotated" in table
    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert [line.split("key_id=")[0].split(" - ")[1].split(" actor")[0] for line in lines] == [
        "API key generated", "API key rotated", "API key revoked",
    ]  # fmt: skip
    for secret in (key, new_key):
        assert secret not in "".join((str(shown), table, *lines))


def test_keys_print_json(migrated: Run) -> None:
    generated = orjson.loads(migrated("keys", "generate", "reports", "--days", "30", "--json").stdout)
    assert set(generated) == {"client", "key", "role", "expiresAt"}
    assert (generated["client"], generated["role"]) == ("reports", "user")
    (listed,) = orjson.loads(migrated("keys", "list", "--json").stdout)
    assert (listed["id"], listed["client"], listed["role"], listed["valid"]) == (1, "reports", "user", True)
    assert listed["expiresAt"] == generated["expiresAt"]
    assert (listed["lastUsedAt"], listed["revokedAt"]) == (None, None)
    assert orjson.loads(migrated("keys", "revoke", "1", "--json").stdout) == {"id": 1, "revoked": True}


def test_keys_revoke_fails_for_a_missing_key(migrated: Run) -> None:
    refused = migrated("keys", "revoke", "7")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("NOT_FOUND: There is no key 7")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["migrate", "nonsense"],
        ["keys", "generate"],
        ["keys", "generate", "a client"],
        ["keys", "revoke", "one"],
    ],
)
def test_bad_usage_exits_with_2_and_prints_the_reason_to_stderr(safevideo: Run, arguments: list[str]) -> None:
    refused = safevideo(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Error" in refused.stderr


def test_keys_before_the_first_migration_fail_and_name_the_command(safevideo: Run) -> None:
    refused = safevideo("keys", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "The database is empty. Run: safevideo migrate\n"


def test_unavailable_database_fails_in_one_line_without_the_password(safevideo: Run) -> None:
    refused = safevideo("migrate", DATABASE_URL="mysql+aiomysql://nobody:kR9-fQ2-vB7m-xT4@127.0.0.1:1/x")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("SERVICE_UNAVAILABLE: ")
    assert refused.stderr.count("\n") == 1
    assert "vB7m" not in refused.stderr


def test_missing_or_invalid_url_fails_and_names_the_variable(safevideo: Run) -> None:
    for refused in (safevideo("migrate", DATABASE_URL=""), safevideo("migrate", DATABASE_URL="postgresql://x/y")):
        assert refused.returncode == 1
        assert "DATABASE_URL" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_help_lists_the_commands(safevideo: Run) -> None:
    result = safevideo("--help")
    assert result.returncode == 0
    assert re.search(r"\bmigrate\b", result.stdout)
    assert re.search(r"\bkeys\b", result.stdout)
    assert re.search(r"\bwebhook\b", result.stdout)
