"""The guarantees of the plugin's fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from safevideo_common.errors import StartupError
from safevideo_devstack.backends import lifecycle
from safevideo_devstack.backends.lifecycle import RunningBackends
from safevideo_devstack.backends.probes import mysql_connection
from safevideo_devstack.backends.stack import local_database
from safevideo_testkit.databases import created, dropped, emptied


def test_fresh_database_is_empty_and_utf8(fresh_mysql_database: str) -> None:
    with mysql_connection(fresh_mysql_database) as connection:
        assert connection.execute(text("SHOW TABLES")).all() == []
        assert connection.scalar(text("SELECT @@character_set_database")) == "utf8mb4"


def test_dropped_database_is_gone(mysql_server_url: str) -> None:
    url = created(mysql_server_url)
    dropped(url)
    with mysql_connection(mysql_server_url) as connection:
        assert url.rpartition("/")[2].partition("?")[0] not in connection.scalars(text("SHOW DATABASES")).all()


@pytest.mark.parametrize("_time", ["first", "second"])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_redis_is_empty_for_every_test(redis_url: str, number: int, _time: str) -> None:
    with redis.Redis.from_url(redis_url, db=number) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


@pytest.fixture
def foreign_redis(tmp_path: Path) -> Iterator[str]:
    with lifecycle.running("embedded", folder=tmp_path / "foreign") as backends:
        yield backends.redis_url


def test_foreign_redis_with_keys_is_not_emptied(foreign_redis: str) -> None:
    with redis.Redis.from_url(foreign_redis, db=2) as client:
        client.set("sso:session:1", "of a person")
        with pytest.raises(StartupError, match="keys that no test wrote"):
            emptied(foreign_redis, ours=False)
        assert client.dbsize() == 1


def test_foreign_redis_that_was_empty_is_emptied_from_then_on(foreign_redis: str) -> None:
    emptied(foreign_redis, ours=False)
    with redis.Redis.from_url(foreign_redis, db=2) as client:
        client.set("sso:session:1", "of a test")
        emptied(f"{foreign_redis}/0", ours=False)
        assert client.dbsize() == 0


def test_servers_are_only_those_of_this_machine(backends: RunningBackends) -> None:
    names = {"local": {"kafka-1", local_database(), "redis"}, "embedded": {"valkey"}}
    assert {server.name for server in backends.servers()} == names.get(backends.stack, set())
    with pytest.raises(LookupError, match="no server postgres of its own"):
        backends.server("postgres")
