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


async def test_a_schema_that_is_behind_stops_the_start_and_names_the_command(
    start: Start, settings: GatewaySettings, database: Database
) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(SchemaBehind, match="safevideo migrate"):
        async with start(settings):
            pass


async def test_an_empty_database_stops_the_start_and_names_the_command(
    start: Start, settings: GatewaySettings, tmp_path: object
) -> None:
    empty = settings.model_copy(update={"database_url": SecretStr(f"sqlite+aiosqlite:///{tmp_path}/empty.db")})
    with pytest.raises(SchemaBehind, match="safevideo migrate"):
        async with start(empty):
            pass


async def test_a_database_that_is_not_there_stops_the_start(start: Start, settings: GatewaySettings) -> None:
    gone = settings.model_copy(
        update={"database_url": SecretStr(f"mysql+aiomysql://u:p@127.0.0.1:{free_port()}/safevideo")}
    )
    with pytest.raises(DatabaseUnavailable):
        async with start(gone):
            pass


@pytest.mark.parametrize("url", ["localhost:6379", "redis://127.0.0.1:6379/1", "redis://u:hidden@127.0.0.1:x"])
async def test_a_redis_address_that_cannot_be_meant_stops_the_start_and_is_not_shown(
    start: Start, settings: GatewaySettings, url: str
) -> None:
    with pytest.raises(StartupError, match="REDIS_URL") as refusal:
        async with start(settings.model_copy(update={"redis_url": SecretStr(url)})):
            pass
    assert "hidden" not in str(refusal.value)


async def test_a_schema_that_falls_behind_later_takes_it_out_of_traffic(gateway: Api, database: Database) -> None:
    assert (await gateway.get("/readyz")).status == 200
    async with database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    answer = await gateway.get("/readyz")
    assert answer.status == 503
    assert set(answer.json["failed"]) == {"database"}
    assert (await gateway.get("/healthz")).status == 200


async def test_a_table_that_is_gone_is_the_databases_fault_and_not_the_callers(
    gateway: Api, database: Database, admin: dict[str, str]
) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE event_inbox"))
    answer = await gateway.get("/api/v1/admin/events", admin)
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")


async def test_a_key_store_that_is_gone_is_no_reason_to_refuse_anybody(
    gateway: Api, database: Database, admin: dict[str, str]
) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("DROP TABLE api_keys"))
    answer = await gateway.get("/api/v1/admin/events", admin)
    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
    health = await gateway.get("/api/integration/health")
    assert health.json["checks"]["authSystem"]["status"] == "unhealthy"
    assert health.json["status"] == "degraded"
