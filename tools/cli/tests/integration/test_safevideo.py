"""The command as an operator or a script runs it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from safevideo_common.database.schema import head

COMMAND = Path(sys.executable).parent / "safevideo"
SECONDS = 180.0

Run = Callable[..., subprocess.CompletedProcess[str]]


def starter(database_url: str) -> Run:
    """Runs the command on that database, and on nothing else of this environment."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, "COLUMNS": "100"}

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            env=environment | changes,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def safevideo(fresh_sqlite_url: str) -> Run:
    return starter(fresh_sqlite_url)


@pytest.fixture
def migrated(safevideo: Run) -> Run:
    assert safevideo("migrate").returncode == 0
    return safevideo


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("fresh_sqlite_url" if request.param == "sqlite" else "fresh_mysql_database")
    return url


def test_migrate_brings_an_empty_database_up_and_then_has_nothing_to_do(database_url: str) -> None:
    safevideo = starter(database_url)
    first, second = safevideo("migrate"), safevideo("migrate")
    assert (first.returncode, first.stderr) == (0, "")
    assert "0001  The inbox: one row for each event and consumer group." in first.stdout.splitlines()
    assert first.stdout.splitlines()[-1] == f"The schema is at {head()} now."
    assert (second.returncode, second.stdout) == (0, f"The schema is at {head()}; there was nothing to do.\n")


def test_a_script_is_told_what_was_run_and_where_the_schema_stands(safevideo: Run) -> None:
    state, first, second = (
        orjson.loads(safevideo(*arguments, "--json").stdout)
        for arguments in (("migrate", "status"), ("migrate",), ("migrate",))
    )
    assert state == {"current": None, "head": head(), "behind": True}
    assert first == {"before": None, "after": head(), "applied": [f"{n:04}" for n in range(1, int(head()) + 1)]}
    assert second == {"before": head(), "after": head(), "applied": []}


def test_status_says_what_to_run_and_changes_nothing(safevideo: Run) -> None:
    before, again = safevideo("migrate", "status"), safevideo("migrate", "status")
    assert (before.returncode, before.stdout) == (again.returncode, again.stdout)
    assert before.returncode == 0
    assert before.stdout == f"The database is empty; this build needs {head()}. Run: safevideo migrate\n"


def test_two_that_migrate_at_once_both_succeed(database_url: str) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url}
    both = [
        subprocess.Popen([COMMAND, "migrate"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=SECONDS) for process in both]
    assert [process.returncode for process in both] == [0, 0], said


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(migrated: Run) -> None:
    made = migrated("keys", "generate", "ops-console", "--role", "admin")
    assert made.returncode == 0
    shown = re.fullmatch(r"X-API-Client: ops-console\nX-API-Key: (sv_[\w-]{43})\n", made.stdout)
    assert shown

    listed = migrated("keys", "list").stdout
    assert re.search(r"1\s+ops-console\s+admin\s+yes", listed)
    assert shown[1] not in listed

    revoked = migrated("keys", "revoke", "1")
    assert (revoked.returncode, revoked.stdout) == (0, "Key 1 is revoked.\n")
    assert "no: revoked" in migrated("keys", "list").stdout


def test_a_script_gets_keys_as_json(migrated: Run) -> None:
    made = orjson.loads(migrated("keys", "generate", "reports", "--days", "30", "--json").stdout)
    assert set(made) == {"client", "key", "role", "expiresAt"}
    assert (made["client"], made["role"]) == ("reports", "user")
    (listed,) = orjson.loads(migrated("keys", "list", "--json").stdout)
    assert (listed["id"], listed["client"], listed["role"], listed["valid"]) == (1, "reports", "user", True)
    assert listed["expiresAt"] == made["expiresAt"]
    assert (listed["lastUsedAt"], listed["revokedAt"]) == (None, None)
    assert orjson.loads(migrated("keys", "revoke", "1", "--json").stdout) == {"id": 1, "revoked": True}


def test_a_key_that_is_not_there_or_was_revoked_before_is_a_failure(migrated: Run) -> None:
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
def test_bad_usage_ends_with_2_and_says_why_on_stderr(safevideo: Run, arguments: list[str]) -> None:
    refused = safevideo(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Error" in refused.stderr


def test_keys_before_the_first_migration_are_a_failure_that_names_the_command(safevideo: Run) -> None:
    refused = safevideo("keys", "list")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "The database is empty. Run: safevideo migrate\n"


def test_a_database_that_is_away_is_a_failure_in_one_line_without_the_password(safevideo: Run) -> None:
    refused = safevideo("migrate", DATABASE_URL="mysql+aiomysql://nobody:sekret-password@127.0.0.1:1/x")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("SERVICE_UNAVAILABLE: ")
    assert refused.stderr.count("\n") == 1
    assert "sekret" not in refused.stderr


def test_a_url_that_is_missing_or_cannot_be_meant_is_a_failure_that_names_the_variable(safevideo: Run) -> None:
    for refused in (safevideo("migrate", DATABASE_URL=""), safevideo("migrate", DATABASE_URL="postgresql://x/y")):
        assert refused.returncode == 1
        assert "DATABASE_URL" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_help_names_every_noun(safevideo: Run) -> None:
    told = safevideo("--help")
    assert told.returncode == 0
    assert re.search(r"\bmigrate\b", told.stdout)
    assert re.search(r"\bkeys\b", told.stdout)
    assert re.search(r"\bwebhook\b", told.stdout)
