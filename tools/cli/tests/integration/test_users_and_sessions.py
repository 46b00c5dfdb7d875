"""`safevideo users` and `safevideo sessions`: duplicates found, merged, unmerged; everyone signed out."""

import asyncio
from pathlib import Path

import orjson
import pytest

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditFilter
from safevideo_common.auth.sessions import NewSession, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import legal_hold_subjects, legal_holds
from safevideo_common.users.accounts import UserAccounts
from safevideo_common.users.store import Identity
from safevideo_testkit.accounts import set_columns
from safevideo_testkit.command import Run, command_runner


@pytest.fixture
def command(migrated_sqlite_url: str, redis_url: str) -> Run:
    """Return the command on the users 1 and 2 with one e-mail, each with a session."""

    async def fill() -> None:
        async with Database.open(migrated_sqlite_url) as database, open_redis(redis_url, 2, seconds=5) as redis:
            sessions = SessionStore(redis, seconds=5)
            for subject in ("a", "b"):
                who = Identity("sharegram", "https://sharegram.example", subject)
                user = await UserAccounts(database, utc_now).sign_in(who, may_link=False)
                await set_columns(database, user.id, email="jane@example.com")
                now = await sessions.now()
                await sessions.create(
                    NewSession(user.id, user.generation, "sharegram", who.issuer, subject, None, now, now)
                )

    asyncio.run(fill())

    return command_runner(
        DATABASE_URL=migrated_sqlite_url, REDIS_URL=redis_url, COLUMNS="140", SAFEVIDEO_ENV="development"
    )


def test_duplicates_are_found_merged_and_unmerged(command: Run, migrated_sqlite_url: str) -> None:
    listed = command("users", "duplicates", "--json")
    assert [[user["id"] for user in group] for group in orjson.loads(listed.stdout)["groups"]] == [[1, 2]]
    preview = command("users", "merge", "1", "2", "--dry-run", "--json")
    assert orjson.loads(preview.stdout)["moved"] == {"user_identities.user_id": 1}
    merged = command("users", "merge", "1", "2")
    assert (merged.returncode, "dryRun: false" in merged.stdout) == (0, True)
    assert command("users", "merge", "1", "2").stdout == merged.stdout  # its answer may have been lost
    again = command("users", "merge", "2", "1")
    assert (again.returncode, again.stderr.startswith("INVALID_STATUS_TRANSITION: ")) == (1, True)
    assert orjson.loads(command("users", "unmerge", "2", "--json").stdout)["dryRun"] is True
    assert command("users", "unmerge", "2", "--apply").returncode == 0
    assert "jane@example.com" in command("users", "duplicates").stdout

    async def actions() -> list[str]:
        async with Database.open(migrated_sqlite_url) as database, database.read_connection() as reading:
            records, _ = await audit_store.find(reading, AuditFilter(), page=1, limit=10, order="asc")
            return [record.entry.action for record in records]

    assert asyncio.run(actions()) == ["users.merged"] * 2 + ["users.unmerged"] * 2


def test_sessions_of_one_user_and_of_everyone_are_ended(command: Run, redis_url: str) -> None:
    assert orjson.loads(command("sessions", "clear", "--user", "1", "--json").stdout) == {
        "userId": 1,
        "sessionsEnded": 1,
    }
    assert command("sessions", "clear").stdout == "1 sessions ended.\n"
    assert command("sessions", "clear", "--user", "0").returncode == 2

    async def keys() -> list[bytes]:
        async with open_redis(redis_url, 2, seconds=5) as redis:
            return [key async for key in redis.scan_iter("sso:*")]

    assert asyncio.run(keys()) == []


def test_legal_hold_is_placed_shown_and_released(command: Run) -> None:
    assert command("users", "hold", "1", "--reason", "case 7").returncode == 0
    (found,) = orjson.loads(command("users", "holds", "--json").stdout)["holds"]
    assert (found["userId"], found["performerId"], found["reason"]) == (1, "a", "case 7")
    assert command("users", "release", "a", "--reason", "closed").returncode == 0
    assert command("users", "release", "1", "--reason", "closed").returncode == 0  # its answer may have been lost
    again = command("users", "release", "1", "--reason", "closed again")
    assert (again.returncode, again.stderr.startswith("INVALID_STATUS_TRANSITION: ")) == (1, True)


def test_legal_holds_are_kept_with_backups(command: Run, migrated_sqlite_url: str, tmp_path: Path) -> None:
    assert command("users", "hold", "1", "--reason", "case 7").returncode == 0
    export = tmp_path / "holds.json"
    export.write_text(command("users", "holds", "export").stdout)
    (exported,) = orjson.loads(export.read_bytes())["holds"]
    assert (exported["performerIds"], len(exported["identities"]), exported["reason"]) == (["a"], 1, "case 7")
    assert command("users", "holds", "import", str(export)).stdout.startswith("0 of 1 holds were missing,")

    async def restore() -> None:
        async with Database.open(migrated_sqlite_url) as database, database.transaction() as tx:
            await tx.execute(legal_hold_subjects.delete())
            await tx.execute(legal_holds.delete())

    asyncio.run(restore())
    assert command("users", "holds", "import", str(export)).stdout.startswith("1 of 1 holds were missing,")
    (found,) = orjson.loads(command("users", "holds", "--json").stdout)["holds"]
    assert (found["userId"], found["performerId"], found["reason"]) == (1, "a", "case 7")
    export.write_bytes(orjson.dumps({"holds": [{**exported, "performerIds": [], "identities": ["gone"]}]}))
    unknown = command("users", "holds", "import", str(export))
    assert (unknown.returncode, "Place them by hand" in unknown.stderr) == (1, True)
    export.write_text("[]")
    assert command("users", "holds", "import", str(export)).returncode == 2


def test_erasure_is_previewed_ordered_and_kept_with_backups(command: Run, tmp_path: Path) -> None:
    preview = orjson.loads(command("users", "erase", "1", "--json").stdout)
    assert (preview["dryRun"], preview["performerIds"], preview["orderId"]) == (True, ["a"], None)
    assert command("users", "erase", "1", "--yes").returncode == 2
    ordered = command("users", "erase", "1", "--yes", "--reason", "request 7", "--json")
    assert orjson.loads(ordered.stdout)["orderId"] == 1
    again = command("users", "erase", "a", "--yes", "--reason", "request 7", "--json")
    assert orjson.loads(again.stdout)["orderId"] == 1
    export = tmp_path / "orders.json"
    export.write_text(command("users", "erasures", "export").stdout)
    (order,) = orjson.loads(export.read_bytes())["orders"]
    assert (order["performerIds"], len(order["identities"])) == (["a"], 1)
    assert command("users", "erasures", "import", str(export)).stdout.startswith("0 of 1 orders were missing.")
    export.write_bytes(orjson.dumps({"orders": [{**order, "performerIds": ["gone"], "identities": []}]}))
    assert command("users", "erasures", "import", str(export)).stdout.startswith("1 of 1 orders were missing.")
    export.write_text("[]")
    assert command("users", "erasures", "import", str(export)).returncode == 2
