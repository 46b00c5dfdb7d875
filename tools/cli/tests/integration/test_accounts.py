"""`safevideo users list|show|grant|revoke|suspend|reinstate|end-sessions` as an operator types them."""

import asyncio

import orjson
import pytest

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.store import Identity
from safevideo_testkit.command import Run, command_runner


async def sign_in(url: str, name: str) -> str:
    async with Database.open(url) as database:
        who = Identity("sharegram", "https://sharegram.example", f"sg_{name}", f"{name}@example.com", True, name)
        return (await UserAccounts(database, utc_now).sign_in(who, may_link=True)).role


@pytest.fixture
def command(migrated_sqlite_url: str, redis_url: str) -> Run:
    """Return the command on user 1, Jane."""
    asyncio.run(sign_in(migrated_sqlite_url, "jane"))
    return command_runner(
        DATABASE_URL=migrated_sqlite_url, REDIS_URL=redis_url, COLUMNS="160", SAFEVIDEO_ENV="development"
    )


def test_first_admin_is_made_before_the_first_sign_in(command: Run, migrated_sqlite_url: str) -> None:
    assert command("users", "grant", "boss@example.com", "--role", "admin").returncode == 0
    assert command("users", "grant", "ann@example.com", "--role", "auditor", "--until", "3d").returncode == 0
    listed = command("users", "list")
    assert ("Waiting for a first sign-in" in listed.stdout, "boss@example.com" in listed.stdout) == (True, True)
    assert command("users", "revoke", "ann@example.com").returncode == 0
    gone = command("users", "revoke", "ann@example.com")
    assert (gone.returncode, gone.stderr) == (1, "NOT_FOUND: No role waits for this e-mail.\n")
    assert [asyncio.run(sign_in(migrated_sqlite_url, each)) for each in ("boss", "ann")] == ["admin", "performer"]
    found = orjson.loads(command("users", "list", "--role", "admin", "--json").stdout)
    assert ([each["email"] for each in found["accounts"]], found["grants"]) == (["boss@example.com"], [])


def test_rights_are_given_and_taken_by_any_name_of_the_account(command: Run, migrated_sqlite_url: str) -> None:
    assert (
        orjson.loads(command("users", "grant", "jane@example.com", "--role", "admin", "--json").stdout)["role"]
        == "admin"
    )
    assert command("users", "revoke", "1").stderr.startswith("LAST_ADMIN: ")
    asyncio.run(sign_in(migrated_sqlite_url, "ann"))
    for who, role in (("2", "moderator"), ("sg_ann", "auditor"), ("ann", "admin")):
        granted = command("users", "grant", who, "--role", role, "--reason", "ticket 1", "--json")
        assert orjson.loads(granted.stdout)["role"] == role
    assert "role: performer" in command("users", "revoke", "jane@example.com").stdout
    assert command("users", "suspend", "1").returncode == 2
    shown = command("users", "show", "sg_ann")
    assert ("role: admin" in shown.stdout, "reason: ticket 1" in shown.stdout) == (True, True)
    assert command("users", "show", "nobody").stderr == "NOT_FOUND: There is no such user.\n"
    assert command("users", "grant", "3", "--role", "admin").stderr == "NOT_FOUND: There is no user 3.\n"


def test_account_is_suspended_reinstated_and_signed_out(command: Run) -> None:
    suspended = command("users", "suspend", "jane@example.com", "--reason", "ticket 1", "--json")
    assert orjson.loads(suspended.stdout)["state"] == "suspended"
    stale = command("users", "reinstate", "1", "--reason", "ticket 1", "--version", "0")
    assert (stale.returncode, stale.stderr.startswith("VERSION_CONFLICT: ")) == (1, True)
    assert "state: active" in command("users", "reinstate", "1", "--reason", "solved", "--version", "1").stdout
    assert command("users", "end-sessions", "sg_jane").returncode == 0
    changes = orjson.loads(command("users", "show", "1", "--json").stdout)["changes"]
    assert [each["action"] for each in changes] == ["users.sessions_ended", "users.reinstated", "users.suspended"]
    assert command("users", "list", "--state", "suspended", "--json").stdout.count('"id"') == 0
