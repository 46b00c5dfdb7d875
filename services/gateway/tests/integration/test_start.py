"""What the gateway needs in order to start, and what it says when it does not get it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from gateway.settings import GatewaySettings
from safevideo_common.database.engine import Database
from safevideo_common.errors import DatabaseUnavailable, SchemaBehind, StartupError
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.http import Api

Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


async def test_start_on_an_old_schema_names_the_command(
    start: Start, settings: GatewaySettings, database: Database
) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(SchemaBehind, match="safevideo migrate"):
        async with start(settings):
            pass


async def test_start_on_an_empty_database_names_the_command(
    start: Start, settings: GatewaySettings, tmp_path: object
) -> None:
    empty = settings.model_copy(update={"database_url": SecretStr(f"sqlite+aiosqlite:///{tmp_path}/empty.db")})
    with pytest.raises(SchemaBehind, match="safevideo migrate"):
        async with start(empty):
            pass


async def test_start_fails_without_the_database(start: Start, settings: GatewaySettings) -> None:
    gone = settings.model_copy(
        update={"database_url": SecretStr(f"mysql+aiomysql://u:p@127.0.0.1:{free_port()}/safevideo")}
    )
    with pytest.raises(DatabaseUnavailable):
        async with start(gone):
            pass


@pytest.mark.parametrize("url", ["localhost:6379", "redis://127.0.0.1:6379/1", "redis://u:hidden@127.0.0.1:x"])
async def test_start_fails_with_an_invalid_redis_url_without_showing_it(
    start: Start, settings: GatewaySettings, url: str
) -> None:
    with pytest.raises(StartupError, match="REDIS_URL") as refusal:
        async with start(settings.model_copy(update={"redis_url": SecretStr(url)})):
            pass
    assert "hidden" not in str(refusal.value)


async def test_old_schema_fails_the_readiness_check(gateway: Api, database: Database) -> None:
    assert (await gateway.get("/readyz")).status == 200
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await gateway.get("/readyz")
    assert answer.status == 503
    assert set(answer.json["failed"]) == {"database"}
    assert (await gateway.get("/healthz")).status == 200


async def test_missing_table_is_service_unavailable(gateway: Api, database: Database, admin: dict[str, str]) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE event_inbox"))
    answer = await gateway.get("/api/v1/admin/events", admin)
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")


async def test_missing_key_table_is_service_unavailable_and_not_unauthorized(
    gateway: Api, database: Database, admin: dict[str, str]
) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE api_keys"))
    answer = await gateway.get("/api/v1/admin/events", admin)
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
    health = await gateway.get("/api/integration/health")
    assert health.json["checks"]["authSystem"]["status"] == "unhealthy"
    assert health.json["status"] == "degraded"
