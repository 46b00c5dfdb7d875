"""`safevideo sessions clear`: sign people out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer
from pydantic import Field, SecretStr

from safevideo_cli.environment import caller, open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines
from safevideo_common.audit import store as audit_store
from safevideo_common.auth.sessions import SSO_DB, SessionStore
from safevideo_common.cache.redis import open_redis
from safevideo_common.clock import utc_now
from safevideo_common.settings import ProcessSettings, load_settings
from safevideo_common.users.accounts import UserAccounts

REDIS_SECONDS: Final = 5.0
CLEARED: Final = "sessions.cleared"

app = typer.Typer(no_args_is_help=True)

User = Annotated[int | None, typer.Option("--user", min=1, max=2**63 - 1, help="Only the sessions of this user.")]


class SessionRedisSettings(ProcessSettings):
    """Settings of a command that signs people out."""

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379"), description="As for the gateway.")
    redis_sso_db: int = Field(SSO_DB, description="As for the gateway.")


@app.callback()
def sessions() -> None:
    """Sign people out."""


@app.command()
def clear(
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """End all sessions: everyone has to sign in again. It is safe at any time.

    It does what `redis-cli -n 2 --scan --pattern "sso:*" | xargs redis-cli -n 2 del` does, and writes the audit log.
    """
    ended = asyncio.run(_clear(user))
    if as_json:
        print_json({"userId": user, "sessionsEnded": ended})
    else:
        print_lines(f"{ended} sessions ended.")


@asynccontextmanager
async def open_sessions() -> AsyncIterator[SessionStore]:
    """Open the sessions in Redis. Raise `StartupError` for a malformed `REDIS_URL`."""
    settings = load_settings(SessionRedisSettings)
    url = settings.redis_url.get_secret_value()
    async with open_redis(url, settings.redis_sso_db, seconds=REDIS_SECONDS) as redis:
        yield SessionStore(redis, seconds=REDIS_SECONDS)


async def _clear(user_id: int | None) -> int:
    async with open_database() as database:
        # The entry comes first: an act that is not in the audit log does not happen.
        if user_id is not None:
            entry = caller().entry(CLEARED, utc_now, {"userId": user_id}, f"user:{user_id}")
            await UserAccounts(database, utc_now).end_sessions(user_id, entry)
        else:
            async with database.transaction() as tx:
                await audit_store.record(tx, caller().entry(CLEARED, utc_now, {"userId": None}))
        async with open_sessions() as store:
            return await (store.clear() if user_id is None else store.end_user(user_id))
